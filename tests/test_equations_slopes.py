"""Neumann conditions that hold for every network, to round-off, and which of them cannot."""

import math

import pytest
import torch

from hpctrain.networks.dense import DenseNetwork
from hpctrain.problems.equations import (
    Box,
    Dirichlet,
    Disk,
    Equations,
    Initial,
    Interval,
    Neumann,
    Periodic,
)
from hpctrain.problems.equations.checks.probe import probe
from hpctrain.problems.equations.problem import Formulation, PinnProblem
from hpctrain.problems.equations.requests import take_points
from hpctrain.problems.equations.slopes import FlatEnds
from hpctrain.problems.equations.terms import ProblemError


class Insulated(Equations):
    """Heat in a rod whose ends let nothing pass."""

    geometry = Box(t=(0, 2), x=(-1, 2))
    conditions = (
        Initial({"u": lambda at: torch.cos(math.pi * (at.x + 1) / 3)}, exact=True),
        Neumann({"u": 0.0}, on="x", exact=True),
    )

    def residuals(self, at, u):
        return u.t - u.xx


class Heated(Equations):
    """A flux into one side, in the beginning that of the initial value; another side is held."""

    geometry = Box(t=(0, 1), x=(0, 2), y=(0, 1))
    conditions = (
        Initial({"u": lambda at: (2 - at.x) * at.y}, exact=True),
        Dirichlet({"u": 0.0}, on="x.high", exact=True),
        Neumann({"u": lambda at: at.y * (1 + at.t) + 0 * at.normal.x}, on="x.low", exact=True),
    )

    def residuals(self, at, u):
        return u.t - u.laplacian


class Steady(Equations):
    """Fluxes alone at the sides of a box that are opposite, of one field of two."""

    geometry = Box(x=(0, 2), y=(-1, 1))
    fields = ("u", "v")
    conditions = (
        Neumann({"u": lambda at: torch.exp(at.y)}, on="x.high", exact=True),
        Neumann({"u": -0.5}, on="x.low", exact=True),
        Dirichlet({"v": 1.0}, on="y"),
    )

    def residuals(self, at, u, v):
        return u.laplacian + v, v.laplacian - u


def made(equations, **options):
    formulation = Formulation(30, condition_points=10, scale_inputs=True, **options)
    return PinnProblem(equations(), DenseNetwork(2, 7, 3), formulation)


def missed(problem, theta, name):
    """By how much the field misses a condition (N,), and its size there."""
    term = problem.equations.named_conditions[name].make_term(problem.frame, name, 40)
    at, normals = take_points(term, problem.frame, slice(0, term.samples), torch.float64)
    shape, bounds = problem.shapes[0], [0, term.samples]
    jets = problem.make_field_jets(shape, term.points, bounds, 1).forward(theta, keep=False)
    fields = problem.make_composition(shape, term.points).fields(jets, normals)
    (row,) = term.zero(at, fields, {}).values()
    return row, float(fields["u"].value.abs().max())


@pytest.mark.parametrize("equations", [Insulated, Heated, Steady])
@pytest.mark.parametrize("features", [0, 3])
def test_the_slope_at_a_side_is_the_given_one_for_every_network(equations, features):
    d = len(equations.geometry.axes)
    fourier = torch.ones(features, d, dtype=torch.float64) if features else None
    problem = made(equations, fourier=fourier)
    probe(problem)
    theta = problem.make_initial_parameters(1)
    theta = 2 * theta + torch.randn(len(theta), generator=torch.manual_seed(2)).double()
    exact = [n for n, each in problem.equations.named_conditions.items() if each.is_exact]
    assert any(name.startswith("Neumann") for name in exact)
    assert not {term.name for term in problem.terms} & set(exact)
    for name in exact:
        row, size = missed(problem, theta, name)
        assert float(row.abs().max()) < 1e-11 * max(size, 1.0)
    soft = made(equations, is_soft=True)
    theta = soft.make_initial_parameters(1)
    for name in exact:
        row, size = missed(soft, theta, name)
        assert float(row.abs().max()) > 1e-3


def test_only_the_field_of_a_slope_has_a_network_without_one():
    problem = made(Steady)
    assert [(part.fields, part.flat) for part in problem.solution.parts] == [
        (("u",), (FlatEnds("x", ("low", "high")),)),
        (("v",), ()),
    ]
    assert [each.count for each in problem.solution.inputs] == [3, 2]
    with pytest.raises(ProblemError, match="have exact slopes at the same ends"):
        made(Steady, separate=[["u", "v"]])
    theta = problem.make_initial_parameters(0)
    side = torch.stack([torch.zeros(5), torch.linspace(-1, 1, 5)]).double()
    assert float(problem.evaluate(theta, side, ["v.x"], 1)["v.x"].abs().min()) > 1e-4


@pytest.mark.parametrize("ends", [("low",), ("high",), ("low", "high")])
def test_inputs_without_a_slope_leave_all_other_derivatives_free(ends):
    """At an end their first derivatives vanish, and those of orders 2 and 3 are independent."""
    for end, x in (("low", -1.0), ("high", 2.0)):
        if end not in ends:
            continue
        leaf = torch.tensor([x], dtype=torch.float64, requires_grad=True)
        rows = []
        for value in FlatEnds("x", ends).inputs(leaf, -1.0, 2.0):
            row = []
            for _ in range(3):
                (value,) = torch.autograd.grad(value.sum(), leaf, create_graph=True)
                row.append(value)
            rows.append(torch.cat(row))
        first, *others = torch.stack(rows).T.detach()
        assert float(first.abs().max()) < 1e-15
        assert abs(float(torch.linalg.det(torch.stack(others)))) > 0.1
    x = torch.linspace(-1, 2, 50, dtype=torch.float64)
    one = FlatEnds("x", ends).inputs(x, -1.0, 2.0)[0].diff()
    assert bool((one > 0).all() or (one < 0).all())


def test_fields_with_slopes_are_the_same_in_torch():
    problem = made(Heated)
    theta = problem.make_initial_parameters(0)
    points = torch.rand(3, 9, dtype=torch.float64, generator=torch.manual_seed(0))
    found = problem.evaluate(theta, points, ["u"], 1)["u"]
    again = problem.evaluate_in_torch(theta, "u", points)
    torch.testing.assert_close(again, found, rtol=1e-12, atol=1e-13)


def test_waves_with_fourier_features_repeat_themselves():
    class Wound(Insulated):
        conditions = (Periodic("x"),)

    frequencies = torch.tensor([[0.3, 4.0], [-2.0, -9.0], [1.0, 17.0]], dtype=torch.float64)
    problem = made(Wound, fourier=frequencies)
    theta = problem.make_initial_parameters(0)
    t = torch.linspace(0, 2, 5, dtype=torch.float64)
    ends = [
        problem.evaluate(theta, torch.stack([t, torch.full_like(t, x)]), ["u", "u.x"], 1)
        for x in (-1.0, 2.0)
    ]
    for name in ("u", "u.x"):
        torch.testing.assert_close(ends[0][name], ends[1][name], rtol=0, atol=1e-12)


def test_a_field_with_a_form_of_its_own_has_its_slopes_by_that():
    class Written(Insulated):
        def ansatz(self, at):
            return {"u": (0.0, at.t)}

    with pytest.raises(ProblemError, match=r"is not allowed for u, whose form ansatz\(\) gives"):
        made(Written)


FLUX = {"u": 1.0}


@pytest.mark.parametrize(
    ("geometry", "conditions", "said"),
    [
        (Disk((0, 0), 1), [Neumann(FLUX, exact=True)], "(there are none): take exact = False"),
        (
            Box(x=(0, 1), y=(0, 1)),
            [Neumann(FLUX, on=lambda at: at.x == 0, exact=True)],
            "needs whole sides of a box by their names (x.low, x.high, y.low, y.high)",
        ),
        (
            Box(x=(0, 1), y=(0, 1)),
            [Periodic("x"), Neumann(FLUX, on="x.low", exact=True)],
            "exact = True on x.low: x is periodic",
        ),
        (
            Box(x=(0, 2), y=(0, 2)) - Disk((1, 1), 0.5),
            [Dirichlet(FLUX, on="circle", exact=True), Neumann(FLUX, on="x", exact=True)],
            "D, which is 0 where values are given, has a slope at x.low",
        ),
        (
            Interval(x=(0, 1)),
            [Dirichlet({"u": 0.0}, on="x.low", exact=True), Neumann(FLUX, on="x.low", exact=True)],
            "D, which is 0 where values are given, has a slope at x.low",
        ),
        (
            Box(t=(0, 1), x=(0, 1)),
            [Initial({"u": lambda at: at.x**2}, exact=True), Neumann(FLUX, on="x", exact=True)],
            "no form has the values that are given and the slopes of Neumann",
        ),
    ],
)
def test_slopes_that_no_form_has_are_refused_in_a_line(geometry, conditions, said):
    class Flux(Equations):
        def residuals(self, at, u):
            return u.xx

    Flux.geometry, Flux.conditions = geometry, tuple(conditions)
    with pytest.raises(ProblemError) as caught:
        made(Flux)
    assert said in str(caught.value) and "\n" not in str(caught.value)
