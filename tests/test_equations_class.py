"""The class of equations: its data are checked when an object is made, in one line."""

import math

import numpy as np
import pytest

from hpctrain.networks.dense import DenseNetwork
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations import (
    At,
    Box,
    Condition,
    Dirichlet,
    Disk,
    Equations,
    Initial,
    Integral,
    Neumann,
    Observations,
    Periodic,
    ProblemError,
    Robin,
    Unknown,
)
from hpctrain.problems.equations.problem import Formulation, PinnProblem


@pytest.fixture(autouse=True, scope="module")
def measure_coarsely():
    """Not here: grids are as they are by default."""


class HeatFlow(Equations):
    """u_t = κ u_xx, with a constructor that knows nothing of the base."""

    geometry = Box(t=(0, 1), x=(0, 1))
    conditions = (Initial({"u": 0.0}), Dirichlet({"u": 0.0}))

    def __init__(self, conductivity=1.0):
        self.conductivity = conductivity

    def residuals(self, at, u):
        return u.t - self.conductivity * u.xx


def test_a_users_equations_keep_their_own_constructor_and_have_no_reference():
    heat = HeatFlow(conductivity=2.0)
    assert heat.conductivity == 2.0 and heat.name == "heat-flow" and heat.grid == (200, 400)
    assert heat.reference(None) is None and heat.ansatz(None) == {}


def test_conditions_have_names_of_their_own():
    made = mine(conditions=[Dirichlet({"u": 0}), Dirichlet({"u": 1}), Initial({"u": 0}, name="a")])
    assert list(made().named_conditions) == ["Dirichlet", "Dirichlet 2", "a"]


def mine(**data):
    return type("Mine", (HeatFlow,), data)


DATA = {
    "no geometry": ({"geometry": None}, "Mine.geometry is None: it must be a geometry"),
    "an empty name": ({"name": " "}, "Mine.name is ' ': it must be a non-empty string"),
    "a word for fields": ({"fields": "uv"}, "Mine.fields is 'uv': it must be a tuple of names"),
    "no fields": ({"fields": ()}, "it must be a tuple of names"),
    "a field twice": ({"fields": ("u", "u")}, "Mine.fields has the name 'u', as Mine.fields has"),
    "a field like a coordinate": ({"fields": ("x",)}, "as Mine.geometry has"),
    "a reserved name": ({"fields": ("value",)}, "'value': it must be a Python name other than at"),
    "a keyword": ({"fields": ("in",)}, "it must be a Python name"),
    "an ambiguous coordinate": (
        {"geometry": Box(x=(0, 1), xx=(0, 1)), "conditions": ()},
        "the derivative xx could mean xx, or x and x",
    ),
    "a number for an unknown": ({"unknowns": {"k": 1.0}}, "k is 1.0: it must be Unknown(start)"),
    "no start": ({"unknowns": {"k": Unknown(None)}}, "start = None: it must be a finite number"),
    "a negative start": (
        {"unknowns": {"k": Unknown(-1.0, positive=True)}},
        "start = -1.0: it must be above 0, as positive says",
    ),
    "a grid too short": ({"test_grid": (9,)}, "it must be a tuple of 2 integers, 2 or more"),
    "one condition": ({"conditions": Dirichlet({"u": 0})}, "it must be a tuple"),
    "no condition": ({"conditions": ["u = 0"]}, "has 'u = 0': it must have conditions"),
    "a reversed input": ({"inputs": {"k": (1, 0)}}, "Mine.inputs: k is (1, 0): it must be a pair"),
    "a number for an input": ({"inputs": {"k": 3}}, "Mine.inputs: k is 3: it must be a pair"),
    "a list of inputs": ({"inputs": ["k"]}, "Mine.inputs is ['k']: it must be a mapping of names"),
    "a list of unknowns": (
        {"unknowns": ("k",)},
        "Mine.unknowns is ('k',): it must be a mapping of names, such as {\"k\": Unknown(1.0)}",
    ),
    "a number for fields": ({"fields": 3}, "Mine.fields is 3: it must be a tuple of names"),
    "a start that is a truth value": ({"unknowns": {"k": Unknown(True)}}, "start = True: it must"),
    "a word for the true value": (
        {"unknowns": {"k": Unknown(1.0, true="a")}},
        "k: true = 'a': it must be a finite number, or None",
    ),
    "a constant of no field": (
        {"up_to_constant": ("p",)},
        "Mine.up_to_constant is ('p',): it must be a tuple of one or more of u",
    ),
    "a word for constants": ({"up_to_constant": "u"}, "Mine.up_to_constant is 'u': it must be a"),
}
CONDITIONS = {
    "an unknown field": (Dirichlet({"v": 0.0}), "Dirichlet names 'v': the fields are u"),
    "a derivative": (Dirichlet({"u.x": 0.0}), "names 'u.x': it takes fields alone, such as 'u'"),
    "no derivative": (
        Initial({"u.z": 0.0}),
        "it takes fields and their derivatives along t, x, such as 'u'",
    ),
    "no mapping": (Dirichlet(0.0), 'is given 0.0: it must be a mapping such as {"u": 0.0}'),
    "no number": (Neumann({"u": "a"}), "u = 'a' must be a number or a function of at"),
    "no part": (
        Dirichlet({"u": 0.0}, on="walls"),
        "on = 'walls' is no part of the boundary: it has t.low, t.high, x.low, x.high",
    ),
    "no weight": (
        Dirichlet({"u": 0.0}, weight=0),
        "weight = 0: it must be a finite number above 0",
    ),
    "no points": (Dirichlet({"u": 0.0}, points=0), "points = 0: it must be an integer, 1 or more"),
    "no coordinate": (Periodic("y"), "along = 'y' is not allowed: one of t, x"),
    "no harmonics": (Periodic("x", harmonics=0), "harmonics = 0 is not allowed: from 1 to 64"),
    "no field": (Robin("v"), "Robin names 'v'"),
    "no function": (Condition(0.0), "Condition is given 0.0: it must be a function"),
    "no integrand": (Integral(None), "Integral is given None: it must be a function"),
    "a name alone": (Observations({}, "u"), "fields = 'u' must be a list of names"),
    "a name twice": (Observations({}, ["u", "u.t", "u"]), "'u'] names a field twice"),
    "no noise": (Observations({}, ["u"], noise=0.0), "noise = 0.0 is not allowed: a number from"),
    "infinite noise": (
        Observations({}, ["u"], noise=math.inf),
        "noise = inf is not allowed: a number from 1e-100 to 1e+100",
    ),
    "noise of each": (Observations({}, ["u"], noise=[0.1, 0.2]), "noise = [0.1, 0.2] is not"),
    "noise by name": (Observations({}, ["u"], noise={"u": 0.1}), "noise = {'u': 0.1} is not"),
    "a word for noise": (Observations({}, ["u"], noise="a"), "noise = 'a' is not allowed"),
    "a number for names": (Observations({}, 3), "fields = 3 must be a list of names"),
    "an infinite weight": (Dirichlet({"u": 0.0}, weight=math.inf), "weight = inf: it must be a"),
    "a part of a point": (Dirichlet({"u": 0.0}, points=1.5), "points = 1.5: it must be an integer"),
    "a word for points": (Dirichlet({"u": 0.0}, points="a"), "points = 'a': it must be an integer"),
    "a number for a part": (
        Dirichlet({"u": 0.0}, on=3),
        "on = 3 is not allowed: names of pieces of the boundary, a function of at, or fixed"
        ' coordinates such as {"t": 0.0}',
    ),
    "a number for a name": (Dirichlet({"u": 0.0}, name=3), "name = 3: it must be a string"),
    "a word for a mean": (Integral(lambda at, u: u, equals="a"), "equals = 'a': it must be a"),
    "a word for harmonics": (Periodic("x", harmonics="a"), "harmonics = 'a' is not allowed: from"),
    "a truth value": (Dirichlet({"u": True}), "u = True must be a number or a function of at"),
}


@pytest.mark.parametrize("data, said", DATA.values(), ids=DATA)
def test_impossible_class_data_are_named_with_what_is_allowed(data, said):
    with pytest.raises(Exception) as caught:
        mine(**data)()
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert "Mine" in str(caught.value) or "Box(" in str(caught.value)


@pytest.mark.parametrize("condition, said", CONDITIONS.values(), ids=CONDITIONS)
def test_an_impossible_condition_is_named_with_what_is_allowed(condition, said):
    with pytest.raises(ProblemError) as caught:
        mine(conditions=[condition])()
    assert f"Mine: {condition.kind}" in str(caught.value) and said in str(caught.value)


def test_numbers_of_numpy_are_numbers():
    one, two = np.float32(1), np.int64(2)
    made = mine(
        unknowns={"k": Unknown(one, true=two)},
        inputs={"c": (np.float32(0), two)},
        conditions=[
            Dirichlet({"u": one}, weight=np.float32(0.1), points=two, on={"x": one}),
            Neumann({"u": two}, points=two),
        ],
        test_grid=(two, two, np.int64(3)),
    )()
    assert (
        made.unknowns == {"k": Unknown(1.0, true=2.0)} and type(made.unknowns["k"].start) is float
    )
    assert made.grid == (2, 2, 3) and all(type(each) is int for each in made.grid)
    problem = PinnProblem(made, DenseNetwork(3, 4, 2), Formulation(10))
    assert [term.samples for term in problem.terms] == [10, 2, 2]
    assert problem.terms[1].weight == float(np.float32(0.1))
    at = made.frame.axes, problem.terms[1].points
    assert made.conditions[0].zero(At(*at), {"u": Zero}, {})["u"].tolist() == [-1.0, -1.0]


class Zero:
    """A field that is zero."""

    value = 0.0


def test_constants_are_those_of_quantities_too():
    def quantities(self, at, u):
        return {"p": u.x}

    for names, is_right in ((("u", "p"), True), (("q",), False)):
        made = mine(quantities=quantities, up_to_constant=names)()
        problem = PinnProblem(made, DenseNetwork(2, 4, 2), Formulation(10))
        if is_right:
            problem.make_monitor(Communicator(), 4, 1)
        else:
            with pytest.raises(
                ProblemError, match=r"'q',\): it must be a tuple of one or more of u, p"
            ):
                problem.make_monitor(Communicator(), 4, 1)


def test_initial_values_need_a_time():
    with pytest.raises(ProblemError, match=r'Initial needs a coordinate named "t": there are x, y'):
        mine(geometry=Disk(center=(0, 0), radius=1))()


TABLES = {
    "a missing column": ("t,u\n0.5,1\n", "has no column x: it has t, u, and must have t, x, u"),
    "a hole": ("t,x,u\n0.5,0.5,1\n0.5,,2\n", "row 2, x: '' is no number"),
    "not a number": ("t,x,u\n0.5,0.5,nan\n", "is not finite in row 1"),
    "outside": ("t,x,u\n0.5,0.5,1\n0.5,2,1\n", "in row 2: t = 0.5, x = 2"),
    "rows of other lengths": ("t,x,u\n1,2\n1,2,3\n", "cannot be read: row 1 has 2 values for 3"),
    "nothing": ("", "must have columns of one length, at least 1: it has none"),
}


@pytest.mark.parametrize("text, said", TABLES.values(), ids=TABLES)
def test_a_faulty_table_of_measurements_is_refused_in_one_line(text, said, tmp_path):
    path = tmp_path / "probes.csv"
    path.write_text(text)
    with pytest.raises(ProblemError) as caught:
        problem(mine(conditions=[Observations(path, ["u"])]))
    message = str(caught.value)
    assert said in message and message.startswith("Mine: Observations: ") and "\n" not in message
    assert str(path) in message


def problem(equations, **formulation):
    return PinnProblem(equations(), DenseNetwork(2, 4, 2), Formulation(20, **formulation))


def test_a_missing_file_is_named():
    with pytest.raises(ProblemError, match=r"none\.csv cannot be read"):
        problem(mine(conditions=[Observations("none.csv", ["u"])]))


def test_measurements_are_read_from_all_formats(tmp_path):
    import h5py
    import numpy as np

    columns = {"t": [0.1, 0.2], "x": [0.3, 0.4], "u": [5.0, 6.0]}
    table = np.array(list(zip(*columns.values(), strict=True)), [(name, "f8") for name in columns])
    np.save(tmp_path / "a.npy", table)
    np.savez(tmp_path / "a.npz", **columns)
    (tmp_path / "a.csv").write_text("t,x,u\n0.1,0.3,5\n0.2,0.4,6\n")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in columns.items():
            file[name] = values
    for data in (columns, *(tmp_path / f"a.{end}" for end in ("npy", "npz", "csv", "h5"))):
        term = problem(mine(conditions=[Observations(data, ["u"])])).terms[1]
        assert term.points.tolist() == [[0.1, 0.2], [0.3, 0.4]]
        assert term.given.tolist() == [[5.0, 6.0]]
