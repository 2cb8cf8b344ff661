"""What an equation may have but hardly means is warned of, a line each; nothing else is."""

import warnings

import pytest
import torch
from faulty_equations import Free, Heat, broken, job, pinn

from hpctrain.errors import InputError
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
)
from hpctrain.problems.equations.checks.jumps import describe_jumps
from hpctrain.problems.equations.library import EQUATIONS
from hpctrain.run.assemble import make_problem

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


def test_a_front_that_a_condition_determines_is_no_field_without_an_equation():
    """Stefan's problem on 0 < y < 1 where the front is y = 1: s depends on t alone."""

    class Stefan(Equations):
        geometry = Box(t=(0.5, 1.0), y=(0.0, 1.0))
        fields = ("u", "s")
        depends = {"s": ("t",)}
        conditions = (
            Initial({"u": lambda at: torch.exp(0.5 * (1 - at.y)) - 1, "s": 0.5}),
            Dirichlet({"u": lambda at: torch.exp(at.t) - 1}, on="y.low"),
            Dirichlet({"u": 0.0}, on="y.high"),
            Condition(lambda at, u, s: s * s.t + u.y, on="y.high"),
        )

        def residuals(self, at, u, s):
            return s**2 * u.t - at.y * s * s.t * u.y - u.yy

    assert pinn(Stefan()).cautions == ()


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
