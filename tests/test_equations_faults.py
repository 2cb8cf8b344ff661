"""Faults in an equation of the user's own: one line that names the place, before any work."""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from hpctrain import cli
from hpctrain.errors import InputError, UserCodeError
from hpctrain.job.settings import load_job
from hpctrain.networks.dense import DenseNetwork
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations import (
    Box,
    Condition,
    Dirichlet,
    Disk,
    Equations,
    Initial,
    Neumann,
    Observations,
    Periodic,
    ProblemError,
    Unknown,
)
from hpctrain.problems.equations.checks.jumps import describe_jumps
from hpctrain.problems.equations.checks.probe import probe
from hpctrain.problems.equations.library import EQUATIONS
from hpctrain.problems.equations.problem import Formulation, PinnProblem
from hpctrain.run.assemble import make_objective, make_problem

NU = torch.nn.Parameter(torch.tensor(0.1, dtype=torch.float64))
FILE = Path(__file__).read_text().splitlines()
LEARNED = torch.tensor(2.0, requires_grad=True) ** 2


class Mute(torch.autograd.Function):
    """The identity, whose derivative fails."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, adjoint):
        raise ArithmeticError("no way back")


class Heat(Equations):
    """u_t = u_xx / 10, right as it stands."""

    geometry = Box(t=(0.0, 1.0), x=(0.0, 1.0))
    conditions = (
        Initial({"u": lambda at: torch.sin(torch.pi * at.x)}),
        Dirichlet({"u": 0.0}),
    )
    test_grid = (11, 11)

    def ansatz(self, at):
        return {"u": (torch.sin(torch.pi * at.x), at.t * at.x * (1 - at.x))}

    def residuals(self, at, u):
        return u.t - 0.1 * u.xx


class Free(Heat):
    """Without conditions, so that any G and D may stand in the ansatz."""

    conditions = ()
    G = D = None

    def ansatz(self, at):
        t, x = at
        given = {"G": torch.sin(torch.pi * x), "D": t * x * (1 - x)}
        pair = (getattr(type(self), name) or given[name] for name in "GD")
        return {"u": tuple(each(at) if callable(each) else each for each in pair)}


def pinn(equations, dtype=torch.float64):
    network = DenseNetwork(2, 4, 2)
    return PinnProblem(equations, network, Formulation(64, condition_points=20), dtype)


def broken(base=Heat, **data):
    """The equations with other functions, each given as a lambda."""
    return type("Mine", (base,), data)()


def probed(base=Heat, dtype=torch.float64, **data):
    problem = pinn(broken(base, **data), dtype)
    probe(problem, dtype)
    return problem


def fail(reason):
    raise ValueError(reason)


def of_numpy(*tensors):
    return torch.from_numpy(np.sin(sum(each.detach().numpy() for each in tensors)))


# What is written in the place of the residual, and what is said of it.
RESIDUALS = {
    "two rows": (lambda s, at, u: torch.stack([u.t, u.x]), "returned a tensor of shape (2, 64)"),
    "a sum": (lambda s, at, u: (u.t - u.xx).sum(), "returned a tensor of shape ()"),
    "a number": (lambda s, at, u: 0.0, "returned a value of type float for residual"),
    "nothing": (lambda s, at, u: None, "returned None"),
    "one wrong of two": (lambda s, at, u: {"a": u.t, "b": 1}, "a value of type int for b"),
    "integers": (lambda s, at, u: u.value.round().long(), "returned values of type torch.int64"),
    "a test": (lambda s, at, u: u > 0, "returned values of type torch.bool"),
    "complex": (lambda s, at, u: u.t * 1j, "returned values of type torch.complex128"),
    "a fifth derivative": (lambda s, at, u: u.xxxxx, "derivatives are available up to order 4"),
    "another name": (lambda s, at, u: u.y, "u.y does not exist: derivatives along t, x"),
    "another coordinate": (lambda s, at, u: u.t - at.z, "at.z does not exist: at has t, x"),
    "a field that is not there": (lambda s, at, u, v: u.t, "asks for v: there is at, then u"),
    "a normal inside": (lambda s, at, u: u.normal, "u.normal is not known here"),
    "an exception": (lambda s, at, u: fail("one\ntwo"), "ValueError: one two"),
    "an exit": (lambda s, at, u: exit(3), "SystemExit: 3"),
    "math of u": (lambda s, at, u: math.sin(u.t), "ValueError: this takes one number"),
    "a branch": (lambda s, at, u: u.t if u > 0 else u.x, "use torch.where(condition, a, b)"),
    "numpy of u": (
        lambda s, at, u: u.t.numpy(),
        "RuntimeError: numpy's functions lose derivatives",
    ),
    "detached": (lambda s, at, u: (u.t - u.xx).detach(), "its derivative with respect to u.t:"),
    "half detached": (lambda s, at, u: u.t - u.xx.detach(), "respect to u.xx: torch finds 0"),
    "through numpy": (lambda s, at, u: of_numpy(u.x, u.t), "with respect to u.x: torch finds 0"),
    "coordinates only": (lambda s, at, u: at.t * at.x, "does not depend on u"),
    "no derivative": (
        lambda s, at, u: torch.heaviside(u.value, torch.ones(1).double()),
        "has no derivative in torch: ",
    ),
    "a failing derivative": (
        lambda s, at, u: Mute.apply(u.t),
        "test_equations_faults.py:LINE: ArithmeticError: no way back",
    ),
    "never finite": (lambda s, at, u: u.t / 0 - u.t / 0, "is not finite at any of 64 points"),
    "a mean": (lambda s, at, u: u.t - u.value.mean(), "it must act on each point for itself"),
    "a neighbour": (lambda s, at, u: u.t - u.x.flip(0), "it must act on each point for itself"),
    "a running sum": (lambda s, at, u: u.t.cumsum(0), "it must act on each point for itself"),
    "noise": (lambda s, at, u: u.t + torch.rand(u.t.shape), "and not draw random numbers"),
    "a parameter": (lambda s, at, u: u.t - NU * u.xx, "depends on NU, which requires gradients"),
    "a made one": (lambda s, at, u: u.t - LEARNED * u.xx, "depends on LEARNED, which requires"),
}
# In the place of G and D of the ansatz.
FUNCTIONS = {
    "a column": (lambda at: at.t[:, None], "a tensor of shape (64, 1)"),
    "a word": (lambda at: "0", "is a value of type str"),
    "a test": (lambda at: at.x > 0.5, "is values of type torch.bool"),
    "integers": (lambda at: at.x.round().int(), "is values of type torch.int32"),
    "an exception": (lambda at: fail("no"), "ValueError: no"),
    "a coordinate too many": (lambda at: at[2], "IndexError: index 2 is out of bounds"),
    "no derivative": (
        lambda at: torch.heaviside(at.x - 0.5, torch.ones(1).double()),
        "has no derivative in torch: ",
    ),
    "a failing derivative": (
        lambda at: Mute.apply(at.x),
        "test_equations_faults.py:LINE: ArithmeticError: no way back",
    ),
    "numpy": (lambda at: 2 + of_numpy(at.x), "with respect to x: torch finds 0"),
    "a mean": (lambda at: at.t + at.x.mean(), "it must act on each point for itself"),
    "noise": (lambda at: at.t + torch.rand(at.t.shape), "and not draw random numbers"),
    "a parameter": (lambda at: NU * at.t, "depends on NU, which requires gradients"),
    "not finite": (lambda at: at.t / 0, "is not finite at the point [0."),
}
DISTANCES = {
    "zero": (lambda at: 0 * at.t, "is 0 at t = "),
    "negative": (lambda at: at.t * (at.t - 1), "it must be positive inside the geometry"),
    "zero in a part": (lambda at: (at.x - 0.5).relu(), "is 0 at t = "),
    "nan": (lambda at: at.t * torch.nan, "is not finite at the point"),
}
ANSATZES = {
    "no mapping": (lambda s, at: (0.0, at.t), "it must be a mapping of fields (u) to pairs (G, D)"),
    "another field": (lambda s, at: {"v": (0.0, at.t)}, "it must be a mapping of fields (u)"),
    "no pair": (lambda s, at: {"u": at.t}, "it must be a pair (G, D)"),
    "misses the start": (
        lambda s, at: {"u": (0 * at.x, at.t * at.x * (1 - at.x))},
        "Mine.ansatz does not meet Initial: u misses it by -",
    ),
    "misses a side": (
        lambda s, at: {"u": (torch.sin(torch.pi * at.x), at.t * at.x)},
        "does not meet Dirichlet: u misses it by ",
    ),
}
CASES = {
    **{f"residuals: {name}": ("residuals", *each) for name, each in RESIDUALS.items()},
    **{f"G: {name}": ("G", *each) for name, each in FUNCTIONS.items()},
    **{f"D: {name}": ("D", *each) for name, each in (FUNCTIONS | DISTANCES).items()},
    **{f"ansatz: {name}": ("ansatz", *each) for name, each in ANSATZES.items()},
}
LINE = 1 + FILE.index('        raise ArithmeticError("no way back")')


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
@pytest.mark.parametrize("name, function, said", CASES.values(), ids=CASES)
def test_a_faulty_function_is_refused_in_one_line_that_names_its_place(name, function, said):
    is_part = name in "GD"
    written = staticmethod(function) if is_part else function
    with pytest.raises(InputError) as caught:
        probed(Free if is_part else Heat, **{name: written})
    message = str(caught.value)
    title = "Mine.residuals" if name == "residuals" else "Mine.ansatz"
    assert said.replace("LINE", str(LINE)) in message and "\n" not in message
    assert title in message
    if "misses" not in said:
        assert "test_equations_faults.py:" in message or "must be a" in message


CONDITIONS = {
    "a failing value": (Dirichlet({"u": lambda at: fail("no")}), "Mine: Dirichlet fails: "),
    "a value of one point": (
        Dirichlet({"u": lambda at: at.x[0]}),
        "the value of u is a tensor of shape ()",
    ),
    "an expression of nothing": (Condition(lambda at: at.x), "does not depend on u"),
    "an expression of two": (
        Condition(lambda at, u: torch.stack([u, u])),
        "returned a tensor of shape (2, 20) for condition",
    ),
    "another field": (Condition(lambda at, w: w), "asks for w: there is at, then u"),
    "a truth for all": (Dirichlet({"u": 0.0}, on=lambda at: True), "one truth value for each"),
    "nowhere": (
        Dirichlet({"u": 0.0}, on=lambda at: at.x == 7),
        "is true at no point of the boundary",
    ),
}


@pytest.mark.parametrize("condition, said", CONDITIONS.values(), ids=CONDITIONS)
def test_a_faulty_condition_is_refused_in_one_line(condition, said):
    with pytest.raises(InputError) as caught:
        probed(Free, conditions=(condition,), ansatz=lambda s, at: {})
    message = str(caught.value)
    assert said in message and "Mine" in message and "\n" not in message


def test_fields_and_unknowns_that_nothing_depends_on_are_named():
    with pytest.raises(ProblemError, match=r"^Mine: no residual or condition uses the field v$"):
        probed(fields=("u", "v"))
    with pytest.raises(ProblemError, match=r"^Mine: nothing depends on the unknown k: it could"):
        probed(unknowns={"k": Unknown(1.0)})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "residual",
    [
        Heat.residuals,
        lambda s, at, u: torch.relu(u - 100) + 1,
        lambda s, at, u: 0 * u.t,
        lambda s, at, u: u.t + torch.where(u > 0, u.x, 2 * u.x),
        lambda s, at, u: u.t**2 + torch.exp(torch.sin(u) * 3) * u.xx,
        lambda s, at, u: torch.log(u - 100) + u.t if s.unlucky else u.t + abs(u),
        lambda s, at, u: u.t - torch.tensor(0.1) * u.xx + at.t.round(),
        lambda s, at, u: (u.t, u.xx),
        lambda s, at, u: [u.t * u.xxxx, u.tx],
    ],
)
def test_a_residual_with_a_true_gradient_passes_even_if_it_is_zero(residual, dtype):
    probed(dtype=dtype, unlucky=False, residuals=residual)


def test_a_parameter_is_found_wherever_the_equation_has_it():
    inner = torch.nn.Parameter(torch.ones(1).double())
    places = {
        "self.nu": {"nu": NU},
        "self.net.weight": {"net": torch.nn.Linear(1, 1, bias=False).double()},
        "self.held['a']": {"held": {"a": NU}},
        "inner": {"f": staticmethod(lambda: inner)},
    }
    uses = {
        "self.nu": lambda s, at, u: u.t - s.nu * u.xx,
        "self.net.weight": lambda s, at, u: u.t - s.net(u.xx[:, None])[:, 0],
        "self.held['a']": lambda s, at, u: u.t - s.held["a"] * u.xx,
        "inner": lambda s, at, u: u.t - inner * u.xx,
    }
    for name, attributes in places.items():
        with pytest.raises(ProblemError) as caught:
            probed(**attributes, residuals=uses[name])
        assert f"depends on {name}, which requires gradients" in str(caught.value)


def test_an_attribute_of_one_object_is_named_too():
    equations = broken(residuals=lambda s, at, u: u.t - s.own * u.xx)
    equations.own = torch.nn.Parameter(torch.tensor(1.0).double())
    with pytest.raises(ProblemError, match=r"depends on self\.own, which requires gradients"):
        probe(pinn(equations))


def job(*overrides):
    return load_job("jobs/burgers.toml", ["problem.points=64", "network.depth=2", *overrides])


def mine(tmp_path, text):
    """An override that names an equation made of Heat's lines in a file."""
    (tmp_path / "mine.py").write_text(text)
    return f"problem.name={tmp_path / 'mine.py'}:Mine"


HEAD = """\
import torch
from hpctrain.problems.equations import Box, Equations
class Mine(Equations):
    geometry = Box(t=(0.0, 1.0), x=(0.0, 1.0))
    test_grid = (11, 11)
    def ansatz(self, at):
        return {"u": (torch.sin(torch.pi * at.x), at.t * at.x * (1 - at.x))}
"""
LATE = f"""{HEAD}
    def residuals(self, at, u):
        if bool((at.t > 0.997).any()):
            raise ValueError("not beyond 0.997")
        return u.t - u.xx
"""
RIGHT = f"""{HEAD}
    def residuals(self, at, u):
        return u.t - u.xx
"""
REFERENCES = {
    "three numbers": ("torch.ones(3)", r"mine\.py:11: Mine\.reference: u is a tensor of shape"),
    "a word": ("'1.0'", r"mine\.py:11: Mine\.reference: u is a value of type str"),
    "an error": ("[].pop()", r"Mine\.reference fails: .*mine\.py:12: IndexError: pop from empty"),
    "noise": ("torch.rand(at.count)", "it must act on each point for itself"),
    "a mean": ("at.t - at.x.mean()", "it must act on each point for itself"),
    "another field": ("{'v': at.t}", r"Mine\.reference names 'v': fields and quantities are u"),
    "a parameter": (
        "torch.ones(1).double().requires_grad_() * at.t",
        r"mine\.py:11: Mine\.reference: u depends on a tensor of shape \(1,\), which requires",
    ),
    "not finite": ("1 / at.t", r"Mine\.reference: u is inf at t = 0, x = 0: it must be finite"),
}


@pytest.mark.parametrize("fault", REFERENCES)
def test_a_faulty_reference_is_refused_before_the_run(tmp_path, fault):
    written, said = REFERENCES[fault]
    text = f"{RIGHT}    def reference(self, at):\n        return {written}\n"
    problem = make_problem(job(mine(tmp_path, text)))
    with pytest.raises(InputError, match=said) as caught:
        problem.monitor(Communicator(), 64, 1)
    assert "\n" not in str(caught.value)


def test_a_residual_that_fails_at_some_points_is_refused_before_the_run(tmp_path):
    asked = job(mine(tmp_path, LATE), "problem.points=300")
    problem = make_problem(asked)
    with pytest.raises(InputError, match=r"mine\.py:11: ValueError: not beyond 0\.997$"):
        make_objective(problem, Communicator(), asked.parallel.chunks, 1)


SPOILT = f"""{HEAD}
    spoil = False
    def residuals(self, at, u):
        e = torch.exp(u)
        r = u.t + torch.erf(e)
        if self.spoil:
            e.zero_()
        return r
"""


def test_a_derivative_that_torch_cannot_take_later_on_is_told_with_the_residuals_place(tmp_path):
    asked = job(mine(tmp_path, SPOILT))
    problem = make_problem(asked)
    objective = make_objective(problem, Communicator(), asked.parallel.chunks, 1)
    theta = problem.make_initial_parameters(0)
    objective.evaluate_with_gradient(theta)
    problem.equations.spoil = True
    with pytest.raises(UserCodeError, match=r"residual fails: .*mine\.py:10: RuntimeError: one of"):
        objective.evaluate_with_gradient(theta + 1)


JUMPS = {
    "a step": ("G", lambda at: torch.where(at.x > 0.3, 1.0, 0.0).double(), "x = 0.3"),
    "a test made a number": ("G", lambda at: (at.t < 0.7).double(), "t = 0.7"),
    "a step beside a layer": (
        "G",
        lambda at: torch.tanh(100 * at.x) + 1e-3 * (at.t > 0.25),
        "along t at t = 0.25",
    ),
    "a start": ("G", lambda at: torch.where(at.t == 0, at.x * 0, 1.0), "along t at t = "),
    "a kink": ("G", lambda at: (at.x - 0.4).abs(), "x = 0.4"),
    "of the distance": ("D", lambda at: at.t * torch.where(at.x > 0.5, 2.0, 1.0), "x = 0.5"),
}


def jumps_of(**functions):
    problem = pinn(broken(Free, **functions))
    return list(describe_jumps("u", problem.forms["u"], problem.frame, problem.shapes[0]))


@pytest.mark.parametrize("name, function, place", JUMPS.values(), ids=JUMPS)
def test_a_jump_is_told_with_function_coordinate_and_place(name, function, place):
    (line,) = jumps_of(**{name: staticmethod(function)})
    assert f"Mine.ansatz: {name} of u jumps by " in line and place in line and "\n" not in line


@pytest.mark.parametrize(
    "lifting",
    [
        lambda at: torch.tanh(100 * (at.x - 0.3)),
        lambda at: torch.tanh(1e6 * (at.x - 0.3)),
        lambda at: torch.exp(-300 * at.t) * torch.sin(50 * at.x),
        lambda at: torch.full_like(at.t, 3.0),
        lambda at: (at.t - 0.4).abs(),  # its slope along t is not used, and may jump
        lambda at: torch.sqrt(at.t) + (at.x - 0.5).abs() ** 1.5,
    ],
)
def test_no_jump_is_told_of_a_steep_or_rough_function_without_one(lifting):
    assert jumps_of(G=staticmethod(lifting)) == []


@pytest.mark.parametrize("name", EQUATIONS)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_shipped_equations_pass_without_a_warning(name, precision):
    asked = job(f"problem.name={name}", f"precision={precision}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        problem = make_problem(asked)
    assert problem.cautions == ()


def test_a_lifting_that_solves_the_equation_is_warned_of():
    def wave(s, at):
        return {"u": (torch.exp(-0.1 * torch.pi**2 * at.t) * torch.sin(torch.pi * at.x), at.t)}

    (line,) = pinn(broken(Heat, ansatz=wave, conditions=())).cautions[:1]
    assert line == "Mine: G alone solves the equations: the network has nothing to learn"
    assert not any("nothing to learn" in each for each in pinn(broken()).cautions)


def test_a_lifting_that_solves_the_equation_alone_leaves_a_condition_to_learn():
    pulled = Neumann({"u": 1.0}, on="x.high")
    fixed = Dirichlet({"u": 0.0}, on="x.low", exact=True)
    for conditions, is_left in (((fixed,), False), ((fixed, pulled), True)):
        at_rest = broken(Heat, ansatz=Equations.ansatz, conditions=conditions)
        said = any("nothing to learn" in line for line in pinn(at_rest).cautions)
        assert said is not is_left


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (
            Initial({"u": lambda at: at.x}),
            ["Mine: Initial gives u = 0 at t = 0, x = 0 and 1 at x = 1, which Periodic joins"],
        ),
        (
            Dirichlet({"u": 0.0}, on="x.high"),
            ["Mine: Dirichlet is on x.high, an end that Periodic joins"],
        ),
        (Initial({"u": lambda at: torch.sin(2 * torch.pi * at.x)}), []),
        (Dirichlet({"u": 0.0}, on={"t": 0.5, "x": 1.0}), []),
    ],
)
@pytest.mark.parametrize("is_exact", [False, True])
def test_conditions_that_a_periodic_coordinate_cannot_meet_are_warned_of(condition, said, is_exact):
    conditions = (condition, Periodic("x", exact=is_exact))
    assert list(pinn(broken(Heat, ansatz=Equations.ansatz, conditions=conditions)).cautions) == said


class Flow(Equations):
    """Two fields that one equation does not determine."""

    geometry = Box(x=(0.0, 1.0), y=(0.0, 1.0)) - Disk((0.5, 0.5), 0.2)
    fields = ("u", "v")
    conditions = (Dirichlet({"u": 1.0, "v": 0.0}),)

    def residuals(self, at, u, v):
        return u.x + v.y


def test_a_geometry_of_which_nothing_is_left_is_refused_by_the_name_of_its_class():
    hollow = Disk((0.0, 0.0), 1.0) - Disk((0.0, 0.0), 2.0)
    with pytest.raises(InputError, match=r"^Mine: the geometry is empty: no point of its bounding"):
        pinn(broken(Flow, geometry=hollow))


def test_fewer_equations_than_fields_are_warned_of_unless_something_is_measured():
    (line,) = pinn(Flow()).cautions
    assert line == (
        "Flow: one residual for 2 fields (u, v), and no measurements: there may be many solutions"
    )
    no_vortex = Condition(lambda at, u, v: u.y - v.x, on="inside")
    assert pinn(broken(Flow, conditions=(*Flow.conditions, no_vortex))).cautions == ()
    measured = Observations({"x": [0.1], "y": [0.5], "u": [1.0]}, ["u"])
    assert pinn(broken(Flow, conditions=(*Flow.conditions, measured))).cautions == ()


def test_measurements_in_a_hole_are_warned_of_and_on_its_edge_are_not():
    table = {"x": [0.1, 0.5, 0.3, 0.35857864], "y": [0.5, 0.4, 0.5, 0.35857864], "u": [1.0] * 4}
    (line,) = pinn(broken(Flow, conditions=(Observations(table, ["u"]),))).cautions
    assert line == (
        "Mine: Observations: 1 of 4 points lies outside of the geometry, such as x = 0.5, y = 0.4"
    )


STEEP = f"""{HEAD}
    def residuals(self, at, u):
        limit(u.value)
        return torch.clamp(u.t, -9e9) - u.xx

def limit(value):
    if float(value.min()) < -0.01:
        raise ValueError("below zero")
"""
MUTE = f"""{HEAD}
    def residuals(self, at, u):
        return Mute.apply(u.t) - u.xx

class Mute(torch.autograd.Function):
    calls = 0
    @staticmethod
    def forward(ctx, x):
        return x.clone()
    @staticmethod
    def backward(ctx, adjoint):
        Mute.calls += 1
        if Mute.calls > 9:
            raise ArithmeticError("no way back")
        return adjoint
"""
JOB = """
[problem]
name = "{file}:Mine"
points = 300
[network]
depth = 2
width = 8
[solver]
name = "lbfgs"
[parallel]
threads = 1
[stop]
max_iterations = 50
"""


FAULTS = {
    "at one rank's points": (LATE, "Mine.residuals fails: {file}:11: ValueError: not beyond 0.997"),
    "at a later iterate": (STEEP, "Mine.residuals fails: {file}:15: ValueError: below zero"),
    "in its derivative": (
        MUTE, "the derivative of the residual fails: {file}:21: ArithmeticError: no way back",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ["at one rank's points", "at a later iterate"])
def test_a_failing_residual_ends_all_ranks_with_one_line_and_status_2(
    mpirun, write_job, tmp_path, case
):
    text, said = FAULTS[case]
    file = tmp_path / "mine.py"
    file.write_text(text)
    ended = mpirun(2, "-m", "hpctrain", "run", write_job(JOB.format(file=file)))
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count(f"hpctrain: {said.format(file=file)}\n") == 1
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("case", ["at a later iterate", "in its derivative"])
def test_on_one_rank_it_does_too_and_the_traceback_is_shown_when_asked_for(
    capsys, monkeypatch, write_job, tmp_path, case
):
    text, said = FAULTS[case]
    file = tmp_path / "mine.py"
    file.write_text(text)
    job = write_job(JOB.format(file=file))
    assert cli.main(["run", str(job)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"hpctrain: {said.format(file=file)}"
    monkeypatch.setenv("HPCTRAIN_DEBUG", "1")
    assert cli.main(["run", str(job)]) == 2
    shown = capsys.readouterr().err
    assert shown.endswith(f"hpctrain: {said.format(file=file)}\n")
    assert "Traceback" in shown and f'File "{file}", line ' in shown
