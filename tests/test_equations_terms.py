"""The loss of equations with conditions of every kind, against its definition by autograd."""

import math
from itertools import pairwise

import pytest
import torch
from residuals import full

from hpctrain.errors import InputError
from hpctrain.kernels import is_native_available
from hpctrain.networks.dense import DenseNetwork
from hpctrain.objective import Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations import (
    Box,
    Condition,
    Dirichlet,
    Equations,
    Initial,
    Integral,
    Neumann,
    Observations,
    Periodic,
    Robin,
    Unknown,
)
from hpctrain.problems.equations.checks.probe import probe
from hpctrain.problems.equations.errors import evaluate_references, find_test_points
from hpctrain.problems.equations.library import EQUATIONS
from hpctrain.problems.equations.options import soften
from hpctrain.problems.equations.problem import Formulation, PinnProblem
from hpctrain.problems.equations.requests import lengthen
from hpctrain.problems.equations.terms import EQUATION

DATA = {
    "t": [0.1, 0.7, 1.9],
    "x": [0.2, 0.5, 0.9],
    "y": [0.0, 0.6, -0.3],
    "k": [1.5, 2.5, 3.0],
    "v": [1.0, 2.0, 3.0],
    "u.x": [0.5, 0.0, -1.0],
}


class Everything(Equations):
    """Two fields, two unknowns, an input, mixed and fourth derivatives, and every condition."""

    geometry = Box(t=(0, 2), x=(0, 1), y=(-1, 1))
    fields = ("u", "v")
    unknowns = {"nu": Unknown(0.3, positive=True), "c": Unknown(-2.0)}
    inputs = {"k": (1.0, 3.0)}
    conditions = (
        Initial({"u": lambda at: torch.sin(at.x), "v.t": 1.0}, weight=2.0),
        Dirichlet({"u": lambda at: at.k * at.t, "v": 0.0}, on="x.low", points=37),
        Neumann({"u": 0.5}, on="y"),
        Robin("v", a=2.0, b=lambda at: at.k, equals=1.0, on=lambda at: at.x == 1),
        Periodic("y", exact=False, derivatives=3, points=11),
        Integral(lambda at, u, v: u * v, equals=0.25, points=50),
        Condition(lambda at, u, c: u.xy - c * at.x, on="inside", points=23, weight=0.1),
        Observations(DATA, ["v", "u.x"], noise=0.5),
    )

    def residuals(self, at, u, v, c, nu):
        return {
            "first": u.t + u * v.x - nu * (u.xx + u.yy) + at.k * u.xxyy,
            "second": v.tt + c * v.xyy - torch.exp(u) * at.t,
        }


NETWORK = DenseNetwork(4, 6, 3)
FORMULATION = Formulation(points=60, condition_points=20, scale_inputs=True, penalty=3.0)


def everything():
    return PinnProblem(Everything(), NETWORK, FORMULATION)


def derivative(values, points, path):
    for i in path:
        (gradient,) = torch.autograd.grad(values.sum(), points, create_graph=True)
        values = gradient[i]
    return values


def loss_by_definition(problem, theta):
    """Σ_t w_t mean_j Σ_i r², from the network as a function of scaled coordinates."""
    network, tau = theta[:-2], theta[-2:]
    nu, c = torch.exp(tau[0]), 2.0 * tau[1]
    bounds = torch.tensor(problem.frame.region.bounds, dtype=torch.float64)
    low, high = bounds.T

    def fields(points):
        x = points.clone().requires_grad_()
        out = problem.network(network, [2 * (x - low[:, None]) / (high - low)[:, None] - 1])
        return x, out[0], out[1]

    terms = {term.name: term for term in problem.terms}
    t, x, y = 0, 1, 2

    p, u, v = fields(terms["equation"].points)
    d = derivative
    first = (
        d(u, p, [t]) + u * d(v, p, [x]) - nu * (d(u, p, [x, x]) + d(u, p, [y, y]))
        + p[3] * d(u, p, [x, x, y, y])
    )  # fmt: skip
    second = d(v, p, [t, t]) + c * d(v, p, [x, y, y]) - torch.exp(u) * p[t]
    total = (first**2 + second**2).mean()

    p, u, v = fields(terms["Initial"].points)
    total = total + 3 * 2 * ((u - torch.sin(p[x])) ** 2 + (d(v, p, [t]) - 1) ** 2).mean()
    p, u, v = fields(terms["Dirichlet"].points)
    total = total + 3 * ((u - p[3] * p[t]) ** 2 + v**2).mean()
    p, u, v = fields(terms["Neumann"].points)
    total = total + 3 * ((torch.sign(p[y]) * d(u, p, [y]) - 0.5) ** 2).mean()
    p, u, v = fields(terms["Robin"].points)
    total = total + 3 * ((2 * v + p[3] * d(v, p, [x]) - 1) ** 2).mean()
    p, u, v = fields(terms["Periodic"].points)
    jumps = 0
    for f in (u, v):
        for order in range(3):
            values = d(f, p, [y] * order)
            jumps = jumps + (values[1::2] - values[0::2]) ** 2
    total = total + 3 * jumps.mean()
    p, u, v = fields(terms["Integral"].points)
    total = total + 3 * ((u * v).mean() - 0.25) ** 2
    p, u, v = fields(terms["Condition"].points)
    total = total + 3 * 0.1 * ((d(u, p, [x, y]) - c * p[x]) ** 2).mean()
    p, u, v = fields(terms["Observations"].points)
    measured = torch.tensor([DATA["v"], DATA["u.x"]], dtype=torch.float64)
    misfit = (v - measured[0]) ** 2 + (d(u, p, [x]) - measured[1]) ** 2
    return total + 3 / 0.5**2 * misfit.mean()


@pytest.fixture(params=["native", "torch"])
def kernels(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setenv("HPCTRAIN_KERNELS", "torch")
    elif not is_native_available():
        pytest.skip("native kernels are not built")


def test_loss_and_gradient_are_those_of_the_definition(kernels):
    problem = everything()
    theta = (1.5 * problem.make_initial_parameters(0)).requires_grad_()
    loss = loss_by_definition(problem, theta)
    (gradient,) = torch.autograd.grad(loss, theta)
    objective = Objective.of(problem, Communicator(), 8, 1)
    found = objective.evaluate_with_gradient(theta.detach())
    assert found.loss == pytest.approx(float(loss.detach()), rel=1e-12)
    assert objective.evaluate(theta.detach()).loss == pytest.approx(found.loss, rel=1e-14)
    error = (found.evaluate_gradient() - gradient).norm() / gradient.norm()
    assert float(error) < 1e-12


def jacobian(share, theta):
    """J of all rows by central differences."""
    columns = []
    for i in range(len(theta)):
        step = torch.zeros_like(theta)
        step[i] = 1e-6
        ahead, behind = (share.evaluate_residuals(theta + s * step) for s in (1, -1))
        columns.append((ahead - behind) / 2e-6)
    return torch.stack(columns, dim=1)


def test_products_sketches_and_the_gram_matrix_are_those_of_the_jacobian_of_all_rows(kernels):
    problem = everything()
    theta = problem.make_initial_parameters(0)
    share = problem.share(8, 0, 1, 1)
    J, r = jacobian(share, theta), share.evaluate_residuals(theta)
    assert len(r) == share.rows == 60 * 2 + 20 * 2 + 37 * 2 + 20 + 20 + 11 * 6 + 1 + 23 + 3 * 2
    v = torch.sin(torch.arange(len(theta))).double()
    w = torch.cos(torch.arange(len(r))).double()
    scale = float(J.abs().max())

    def close(a, b, size):
        return float((a - b).abs().max()) < 1e-7 * size

    assert close(share.multiply_gauss_newton_chunks(theta, v).sum(0), J.T @ (J @ v), scale**2 * 100)
    assert close(share.pull_back(theta, w).sum(0), J.T @ w, scale * 100)
    objective = Objective.of(problem, Communicator(), 8, 1)
    G = full(objective.residuals.assemble_gauss_newton(theta))
    assert close(G, 2 / problem.samples * J.T @ J, scale**2)
    signs = torch.where(torch.arange(share.rows) % 3 == 0, -1, 1).to(torch.int8)
    rows = share.sketch_rows(theta, signs, groups=2)
    assert rows.shape == (16, 1 + len(theta))
    assert close(rows.sum(0), signs.double() @ torch.cat([r[:, None], J], dim=1), scale * 100)
    assert close(rows[:, 0], share.sum_groups(r, signs, 2), scale)


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_ranks_have_the_chunks_of_one_rank(kernels, ranks):
    problem = everything()
    theta = problem.make_initial_parameters(0)
    whole = problem.share(8, 0, 1, 1).sum_losses_and_gradients(theta)
    parts = [
        problem.share(8, rank, ranks, 1).sum_losses_and_gradients(theta) for rank in range(ranks)
    ]
    if is_native_available():
        assert torch.equal(torch.cat(parts), whole)
    else:  # torch sums in another order where chunks are of other lengths
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-12, atol=1e-9)


def test_a_block_of_layers_has_its_part_of_the_gradient_and_the_last_one_the_unknowns(kernels):
    from hpctrain.decomposition.blocks import cut_layers

    problem = everything()
    theta = problem.make_initial_parameters(0)
    share = problem.share(8, 0, 1, 1)
    whole = share.sum_losses_and_gradients(theta)
    for block in cut_layers(problem.layers, 3).blocks:
        part = share.restrict(block, theta)
        found = part.sum_losses_and_gradients(block.restrict(theta).clone())
        expected = torch.cat([whole[:, :1], whole[:, 1 + block.start : 1 + block.stop]], dim=1)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert block.stop == len(theta)


def test_the_problem_passes_its_probe_and_starts_from_the_given_unknowns():
    problem = everything()
    probe(problem)
    theta = problem.make_initial_parameters(0)
    assert problem.evaluate_unknowns(theta) == pytest.approx({"nu": 0.3, "c": -2.0})


class Wave(Equations):
    """u_tt = 4 u_xx on a ring."""

    geometry = Box(t=(0, 1), x=(0, 2))
    conditions = (Initial({"u": lambda at: torch.sin(math.pi * at.x), "u.t": 0.0}, exact=True),
                  Periodic("x", harmonics=2))  # fmt: skip

    def residuals(self, at, u):
        return u.tt - 4 * u.xx


def test_exact_conditions_are_no_terms_and_periodic_inputs_make_the_solution_periodic():
    problem = PinnProblem(Wave(), DenseNetwork(2, 8, 3), Formulation(30, scale_inputs=True))
    probe(problem)
    assert [term.name for term in problem.terms] == ["equation"]
    assert problem.solution.inputs[0].count == 5
    theta = problem.make_initial_parameters(3)
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    ends = [torch.stack([t, torch.full_like(t, x)]) for x in (0.0, 2.0)]
    shape = problem.shapes[0]
    jets = [problem.make_field_jets(shape, x, [0, 5], 1).forward(theta, keep=False) for x in ends]
    torch.testing.assert_close(*jets, rtol=0, atol=1e-12)


def test_named_constraints_alone_are_terms():
    equations = soften(EQUATIONS["kdv"](), ["Initial"])
    assert [each.is_exact for each in equations.named_conditions.values()] == [False, True]
    formulation = Formulation(points=20, condition_points=7)
    problem = PinnProblem(equations, DenseNetwork(2, 5, 3), formulation)
    assert [(term.name, term.samples) for term in problem.terms] == [(EQUATION, 20), ("Initial", 7)]
    assert not problem.forms
    with pytest.raises(InputError, match="names 'Dirichlet': KortewegDeVries has the exact cond"):
        soften(EQUATIONS["kdv"](), ["Dirichlet"])


def test_soft_constraints_make_every_condition_a_term():
    soft = Formulation(30, condition_points=10, is_soft=True, scale_inputs=True)
    problem = PinnProblem(Wave(), DenseNetwork(2, 8, 3), soft)
    assert [term.name for term in problem.terms] == ["equation", "Initial", "Periodic"]
    assert problem.solution.inputs[0].count == 2


def test_fixed_coordinates_are_a_point_or_a_slice():
    class Pinned(Wave):
        conditions = (
            Dirichlet({"u": 1.0}, on={"t": 0.5, "x": 2.0}),
            Dirichlet({"u": 0.0}, on={"t": 0.25}, points=9),
        )

    _, point, part = PinnProblem(Pinned(), DenseNetwork(2, 4, 2), Formulation(10)).terms
    assert point.points.tolist() == [[0.5], [2.0]]
    assert part.points.shape == (2, 9) and set(part.points[0].tolist()) == {0.25}
    with pytest.raises(Exception, match=r"on = \{'t': 2\} is not allowed: t from 0 to 1, x from 0"):
        type("Off", (Wave,), {"conditions": (Dirichlet({"u": 0.0}, on={"t": 2}),)})()


class Uneven(Wave):
    """With functions of the points whose bits in torch depend on where in an array a point is."""

    conditions = (Initial({"u": lambda at: torch.cosh(at.x) ** 1.5}),)

    def ansatz(self, at):
        return {}

    def residuals(self, at, u):
        return u.tt - torch.cosh(at.x) ** 1.5 * u.xx + torch.sigmoid(at.t * at.x)

    def reference(self, at):
        return torch.cosh(at.x) ** 1.5 * torch.atan2(at.t, at.x + 1)


@pytest.mark.parametrize("ranks", [2, 3, 4, 5])
def test_functions_of_the_points_have_the_same_bits_on_any_ranks(ranks):
    problem = PinnProblem(Uneven(), DenseNetwork(2, 5, 3), Formulation(301, condition_points=77))
    theta = problem.make_initial_parameters(0)

    def shares_of(ranks):
        return [problem.share(8, rank, ranks, 1) for rank in range(ranks)]

    whole = shares_of(1)[0].sum_losses(theta)
    parts = torch.cat([share.sum_losses(theta) for share in shares_of(ranks)])
    assert not is_native_available() or torch.equal(parts, whole)
    points = find_test_points(problem.equations)
    found = evaluate_references(problem.equations, ("u",), points)["u"]
    bounds = [k * len(found) // ranks for k in range(ranks + 1)]
    again = [
        evaluate_references(problem.equations, ("u",), points[:, a:b])["u"]
        for a, b in pairwise(bounds)
    ]
    assert torch.equal(torch.cat(again), found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_points_value_does_not_depend_on_where_an_array_ends_that_is_lengthened(dtype):
    x = torch.linspace(-3, 3, 500, dtype=dtype)
    for function in (torch.cosh, torch.sinh, torch.sigmoid, lambda x: torch.atan2(x, x + 4)):
        whole = function(lengthen(x))
        for count in range(1, 200):
            assert torch.equal(function(lengthen(x[:count]))[:count], whole[:count]), count


class Sides(Equations):
    """Slopes on all sides of a box, whose points a rank may have of some sides only."""

    geometry = Box(x=(0, 1), y=(0, 2))
    conditions = (Neumann({"u": 0.0}, points=300), Dirichlet({"u": 0.0}, on=("x.low", "y")))

    def residuals(self, at, u):
        return u.laplacian - u + 0.5 * u * u.x - (1 - u) * u


def test_slopes_on_all_sides_are_known_on_any_ranks_and_residuals_with_fields_are_traced():
    problem = PinnProblem(Sides(), DenseNetwork(2, 4, 2), Formulation(40))
    probe(problem)
    for ranks in (1, 4):
        shares = [problem.share(8, rank, ranks, 1) for rank in range(ranks)]
        assert all(share.untraced is None for share in shares)
    points = problem.terms[2].points
    assert bool(((points[0] == 0) | (points[1] == 0) | (points[1] == 2)).all())
    assert len(set(points[1].tolist()) & {0.0, 2.0}) == 2 and bool((points[0] == 0).any())
