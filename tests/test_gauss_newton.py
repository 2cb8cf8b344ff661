"""Levenberg-Marquardt: Jacobian rows, normal equations, and steps with known answers."""

import itertools
import math

import numpy as np
import pytest
import torch
from residuals import linear_problem, objective_of_residuals

from hpctrain.errors import InputError
from hpctrain.kernels import JetShape, TorchJets, dense, is_native_available, make_jet_evaluator
from hpctrain.kernels.residual import TorchResidual, make_residual_loss
from hpctrain.linalg.block_layout import Layout
from hpctrain.methods.least_squares.damped_systems import DualSystem, PrimalSystem
from hpctrain.methods.least_squares.singular_values import SingularSystem
from hpctrain.methods.outcomes import Outcome
from hpctrain.networks.dense import DenseNetwork
from hpctrain.objective import Objective, evaluate_point
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.tree import Node, add_to_nodes, push_node, reduce_leaves
from hpctrain.problems.equations import Box, Dirichlet, Equations, Observations, Periodic, Unknown
from hpctrain.problems.equations.library.burgers import Burgers
from hpctrain.problems.equations.problem import Formulation, PinnProblem
from hpctrain.solvers import Setting, make_solver
from hpctrain.solvers.gauss_newton import (
    GaussNewton,
    GaussNewtonOptions,
    GaussNewtonState,
    find_damped_step,
)

needs_native = pytest.mark.skipif(not is_native_available(), reason="native kernels are not built")
BOUNDS = [0, 1, 40, 73, 150]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def small_burgers():
    network = DenseNetwork(2, 6, 4, residual=True, adaptive=True)
    problem = PinnProblem(Burgers(), network, Formulation(200))
    return problem, Objective.of(problem, Communicator(), 16, 2)


def unsketched_dual(objective, theta):
    return DualSystem.of_all_rows(objective, theta)


def primal(objective, theta):
    return PrimalSystem(objective, evaluate_point(objective, theta))


def full(block_rows):
    """A (n, n) of its block rows, all of them on one rank."""
    A = torch.zeros(block_rows.layout.n, block_rows.layout.n, dtype=torch.float64)
    for i, row in block_rows.own.items():
        A[block_rows.layout.find_slices(i)] = row
    return torch.tril(A) + torch.tril(A, -1).T


def lower(layout, numbers):
    """A (n, n) of its block rows, those of all ranks, without what is above its diagonal."""
    A = torch.zeros(layout.n, layout.n, dtype=numbers.dtype)
    for rank, part in enumerate(numbers.split(layout.sizes)):
        for i, row in layout.unpack(part, rank).items():
            A[layout.find_slices(i)] = row
    return torch.tril(A)


@pytest.mark.parametrize("kernels", [pytest.param("native", marks=needs_native), "torch"])
@pytest.mark.parametrize("count, n", [(1, 1), (5, 7), (300, 25), (257, 130), (500, 301)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_gram_matrix_accumulates_and_has_the_same_bits_on_any_threads(
    kernels, count, n, dtype, tolerance, monkeypatch
):
    if kernels == "torch":
        monkeypatch.setattr(dense, "find_native_kernels", lambda tensor: None)
    rows = torch.randn(count, 1 + n, dtype=dtype)
    J, layout = rows[:, 1:], Layout(n, 3)
    found = []
    parts = [[part] for part in torch.tensor_split(rows, 4)]
    for threads in (1, 2, 3):
        C = torch.ones(sum(layout.sizes), dtype=dtype)
        dense.add_gram_sums(parts, 1, C, layout, threads)
        found.append(lower(layout, C))
    expected = torch.tril(1 + J.T @ J)
    torch.testing.assert_close(found[0], expected, rtol=tolerance, atol=tolerance * count)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("kernels", [pytest.param("native", marks=needs_native), "torch"])
@pytest.mark.parametrize("sizes", [[5] * 8, [0, 3, 1, 900], [1]])
def test_gram_matrix_is_summed_along_the_tree_over_parts(kernels, sizes, monkeypatch):
    """Each part has rows of two terms, perhaps none."""
    if kernels == "torch":
        monkeypatch.setattr(dense, "find_native_kernels", lambda tensor: None)
    parts = [[torch.randn(size, 131).double(), torch.randn(2, 131).double()] for size in sizes]
    layout, sums = Layout(130, 1), list[tuple[Node, torch.Tensor]]()

    def sum_products(chosen):
        C = torch.zeros(sum(layout.sizes), dtype=torch.float64)
        dense.add_gram_sums(chosen, 1, C, layout, 1)
        return C

    for index, part in enumerate(parts):
        push_node(sums, Node(0, index), sum_products([part]))
    ((_, expected),) = sums
    assert torch.equal(lower(layout, sum_products(parts)), lower(layout, expected))


@needs_native
@pytest.mark.parametrize("k, n", [(1, 1), (100, 7), (25, 300)])
def test_gram_matrix_of_rows(k, n):
    A = torch.randn(k, n, dtype=torch.float64)
    found = torch.tril(dense.compute_row_gram(A, 2))
    torch.testing.assert_close(found, torch.tril(A @ A.T), rtol=1e-12, atol=1e-12 * n)


@pytest.mark.parametrize("kernels", [pytest.param("native", marks=needs_native), "torch"])
@pytest.mark.parametrize("adaptive, residual", [(False, False), (True, True), (True, False)])
def test_jacobian_rows_are_the_gradients_of_single_residuals(kernels, adaptive, residual):
    network = DenseNetwork(2, 5, 4, residual=residual, adaptive=adaptive, time_step=0.6)
    points = torch.rand(2, BOUNDS[-1], dtype=torch.float64)
    theta = network.make_initial_parameters(0)
    make = make_jet_evaluator if kernels == "native" else TorchJets
    shape = JetShape.make_closed(2, [(0,), (1, 1)])
    evaluator = make(network, shape, points, BOUNDS)
    burgers = lambda u, _: (u[1][0] + u[0][0] * u[2][0] - 0.01 * u[3][0],)  # noqa: E731
    rows = make_residual_loss(evaluator, burgers, torch.float64).evaluate_jacobian(theta, 1, 3)
    assert rows.shape == (BOUNDS[3] - BOUNDS[1], 1 + network.parameters)
    for row in (0, 17, len(rows) - 1):
        point = points[:, BOUNDS[1] + row, None]
        alone = TorchResidual(TorchJets(network, shape, point, [0, 1]), burgers)
        leaf = alone.sum_losses_and_gradients(theta, 0, network.depth - 1, None)[0]
        r = rows[row, 0]
        torch.testing.assert_close(r.square(), leaf[0], rtol=1e-11, atol=0)
        torch.testing.assert_close(2 * r * rows[row, 1:], leaf[1:], rtol=1e-10, atol=1e-13)


def test_the_hessian_is_that_of_the_linearised_residuals():
    """B d is the change of ∇L where residuals are linear; here J's part of it, by differences."""
    _A, _b, objective = linear_problem()
    theta, d = torch.randn(5).double(), torch.randn(5).double()
    B = full(objective.residuals.assemble_gauss_newton(theta))
    change = (
        objective.evaluate_with_gradient(theta + d).evaluate_gradient()
        - objective.evaluate_with_gradient(theta).evaluate_gradient()
    )
    torch.testing.assert_close(B @ d, change, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make_system, samples, n", [(primal, 16, 5), (unsketched_dual, 4, 16)])
def test_a_step_with_little_damping_solves_linear_least_squares(make_system, samples, n):
    """The shortest step where there are fewer residuals than unknowns."""
    A, b, objective = linear_problem(samples, n)
    theta = torch.randn(n, dtype=torch.float64)
    system = make_system(objective, theta)
    factored = system.factor(1e-12)
    p = find_damped_step(factored, GaussNewtonOptions()).total
    expected = torch.linalg.pinv(A) @ (b - A @ theta)
    torch.testing.assert_close(p, expected, rtol=1e-7, atol=1e-9)
    decrease = objective.evaluate(theta).loss - objective.evaluate(theta + p).loss
    assert factored.predict_decrease(p) == pytest.approx(decrease, rel=1e-9)


@pytest.mark.parametrize("damping", [1e-9, 0.1, 10.0])
def test_the_predicted_decrease_is_that_of_the_linearised_residuals(damping):
    A, b, objective = linear_problem()
    theta = torch.randn(5, dtype=torch.float64)
    factored = primal(objective, theta).factor(damping)
    p = factored.compute_velocity()
    r = A @ theta - b
    expected = (r.square().sum() - (r + A @ p).square().sum()) / len(r)
    assert factored.predict_decrease(p) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize(
    "rho, decrease, factor",
    [
        (1.0, 0.5, 1 / 3),
        (1.0, 1e-3, 1e-3),
        (0.9, 1e-3, 1 - 0.8**3),
        (0.5, 0.5, 1.0),
        (0.0, 0.99, 2.0),
    ],
)
def test_damping_follows_nielsens_rule_and_a_loss_that_falls_faster(rho, decrease, factor):
    found = GaussNewtonOptions().ease(3.0, rho, decrease)
    assert found == pytest.approx(3 * factor)


def test_steps_converge_quadratically_to_a_residual_of_zero():
    """r = (10 (y - x²), 1 - x) of Rosenbrock's function, plus a third that is zero there too."""
    x, damping, losses = np.array([-1.2, 1.0]), 1e-2, []
    options = GaussNewtonOptions()

    def residuals(x):
        return np.array([10 * (x[1] - x[0] ** 2), 1 - x[0], np.sin(x[0] * x[1] - 1)])

    def jacobian(x):
        c = np.cos(x[0] * x[1] - 1)
        return np.array([[-20 * x[0], 10], [-1, 0], [x[1] * c, x[0] * c]])

    refusals = 0
    for _ in range(60):
        r, J = residuals(x), jacobian(x)
        p = -np.linalg.solve(J.T @ J + damping * np.eye(2), J.T @ r)
        left, model = np.sum(residuals(x + p) ** 2), np.sum((r + J @ p) ** 2)
        loss = np.sum(r**2)
        losses.append(loss)
        if loss < 1e-28:
            break
        if left < loss:
            rho = (loss - left) / (loss - model)
            x, damping = x + p, options.ease(damping, rho, left / loss)
            refusals = 0
        else:
            refusals += 1
            damping = options.grow(damping, refusals)
    # the last steps square the loss, but for a factor
    assert losses[-1] < 1e-28 and losses[-2] < 1e-10 and losses[-1] < losses[-2] ** 1.6


def test_delayed_control_eases_after_any_step_and_grows_evenly():
    ratio, delayed = GaussNewtonOptions(), GaussNewtonOptions(control="delayed")
    assert delayed.ease(3.0, 0.01, 0.9) == delayed.ease(3.0, 1.0, 0.9) == pytest.approx(1.0)
    assert [ratio.grow(3.0, k) for k in (1, 2, 3)] == [6.0, 12.0, 24.0]
    assert [delayed.grow(3.0, k) for k in (1, 2, 3)] == [4.5, 4.5, 4.5]


def test_the_ratio_is_one_on_linear_residuals_and_damping_falls():
    _A, _b, objective = linear_problem()
    solver = make_solver(Setting(objective), GaussNewtonOptions(damping=1.0))
    start = evaluate_point(objective, torch.zeros(5, dtype=torch.float64))
    state = GaussNewtonState(start, 1.0, iteration=1)
    for expected in (1 / 3, 1 / 9, 1 / 27):
        state, _ = solver.step(state)
        assert state.damping == pytest.approx(expected)


@pytest.mark.parametrize("given", [1e4, 1e3, 1.0])
@pytest.mark.parametrize("factorisation", ["gram", "qr"])
def test_the_first_step_is_damped_as_little_as_lowers_the_loss_most(given, factorisation):
    """Of those that are tried, each by a tenth, or as the loss fell, below the one before."""

    def curved(theta):
        a, b = theta
        return torch.stack([a, 30 * (b - a**2), 0.3 * (b - 1), 0 * a])

    objective = objective_of_residuals(curved, 4, 2)
    options = GaussNewtonOptions(damping=given, corrections=0, factorisation=factorisation)
    solver = make_solver(Setting(objective), options)
    start = solver.init(torch.tensor([1.5, 1.0], dtype=torch.float64))
    new, _ = solver.step(start)

    def lose(damping):
        p = PrimalSystem(objective, start.point).factor(damping).compute_velocity()
        return objective.evaluate(start.point.theta + p).loss

    dampings, losses = [given], [start.point.loss, lose(given)]
    while losses[-1] < losses[-2]:
        dampings.append(dampings[-1] * min(0.1, losses[-1] / losses[0]))
        losses.append(lose(dampings[-1]))
    assert new.point.loss == pytest.approx(losses[-2], rel=1e-9)
    again, _ = solver.step(GaussNewtonState(start.point, given, iteration=1))
    assert again.point.loss == pytest.approx(losses[1], rel=1e-9)


def test_more_damping_gives_a_shorter_step_towards_steepest_descent():
    _A, _b, objective = linear_problem()
    theta = torch.ones(5, dtype=torch.float64)
    system, plain = primal(objective, theta), GaussNewtonOptions(corrections=0)
    steps = [
        find_damped_step(system.factor(damping), plain).p for damping in (1e-6, 1e-2, 1.0, 1e4)
    ]
    lengths = [float(p.norm()) for p in steps]
    assert lengths == sorted(lengths, reverse=True)
    cosine = torch.nn.functional.cosine_similarity(steps[-1], -system.point.gradient, dim=0)
    assert float(cosine) > 1 - 1e-6


@pytest.mark.parametrize("corrections", [1, 2, 3])
def test_each_correction_solves_the_damped_equation_to_one_order_more(corrections):
    """r = (x + x², y - x³): what is left is of order ‖p‖² (‖p‖/λ)^c, and ‖p‖ falls as 1/λ."""
    objective = objective_of_residuals(
        lambda theta: torch.stack([theta[0] + theta[0] ** 2, theta[1] - theta[0] ** 3]), 2, 2
    )
    theta = torch.tensor([1.0, 1.5], dtype=torch.float64)
    system, left = primal(objective, theta), []
    for damping in (200.0, 400.0):
        factored = system.factor(damping)
        q = factored.compute_velocity()
        for _ in range(corrections):
            q = q + factored.compute_correction(q, torch.zeros_like(q))
        left.append(float((objective.residuals.pull_back(theta, q) + damping * q).norm()))
    assert math.log2(left[0] / left[1]) == pytest.approx(2 * corrections + 2, abs=0.6)


def test_a_step_whose_corrections_grow_is_not_tried_or_keeps_those_before():
    class Scripted:
        """Corrections of given lengths."""

        def __init__(self, *sizes):
            self.sizes = list(sizes)

        def compute_velocity(self):
            return torch.ones(1, dtype=torch.float64)

        def predict_decrease(self, p):
            return 1.0

        def compute_correction(self, q, centre):
            return torch.full((1,), self.sizes.pop(0), dtype=torch.float64)

    find = lambda *sizes: find_damped_step(Scripted(*sizes), GaussNewtonOptions())  # noqa: E731
    assert find(0.8).total is None
    assert float(find(0.5, 0.4).total) == 1.5
    assert float(find(0.5, 0.1, 1e-4, 1.0).total) == 1.6001


def test_residuals_of_another_point_are_pulled_back_by_the_jacobian_of_this_one():
    problem, objective = small_burgers()
    theta = problem.make_initial_parameters(0)
    q = 0.1 * torch.randn(len(theta), dtype=torch.float64)
    R = objective.residuals.sketch(theta, objective.samples, 0, 0)
    moved = objective.residuals.apply_sketch(theta + q, R)
    expected = 2 / objective.samples * R.rows[:, 1:].T @ moved
    found = objective.residuals.pull_back(theta, q)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("damping", [1e-3, 1.0])
def test_both_forms_of_the_system_give_the_same_step(damping):
    problem, objective = small_burgers()
    theta = problem.make_initial_parameters(0)
    factored = [make(objective, theta).factor(damping) for make in (primal, unsketched_dual)]
    p = [each.compute_velocity() for each in factored]
    d = [each.compute_correction(p[0], 0.3 * p[0]) for each in factored]
    torch.testing.assert_close(p[0], p[1], rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(d[0], d[1], rtol=1e-8, atol=1e-10)
    predictions = [each.predict_decrease(p[0]) for each in factored]
    assert predictions[0] == pytest.approx(predictions[1], rel=1e-9)


class Coupled(Equations):
    """Two residuals a sample, and conditions of single points and of pairs in the loss."""

    geometry = Box(t=(0.0, 1.0), x=(0.0, 1.0))
    fields = ("u", "v")
    unknowns = {"k": Unknown(0.7)}
    conditions = (
        Dirichlet({"u": 0.3, "v": 0.1}, on="t.low", weight=3.0),
        Periodic("x", exact=False),
        Observations({"t": [0.2, 0.5], "x": [0.4, 0.9], "v": [1.0, 2.0]}, ["v"], noise=0.1),
    )

    def residuals(self, at, u, v, k):
        return u.t - k * u.xx + v, v.t + u * v.x


def coupled(points, separate=False):
    formulation = Formulation(points, condition_points=8, separate=separate)
    problem = PinnProblem(Coupled(), DenseNetwork(2, 6, 4), formulation)
    return problem, Objective.of(problem, Communicator(), 8, 1)


@pytest.mark.parametrize("separate", [False, True])
def test_both_forms_give_the_same_step_of_several_residuals_and_conditions(separate):
    problem, objective = coupled(40, separate)
    theta = problem.make_initial_parameters(0)
    assert objective.residuals.count > objective.samples
    rows, counts = objective.residuals.gather_rows(theta)
    assert torch.equal(rows[:, 0], objective.residuals.gather_residuals(theta, counts))
    J, r = rows[:, 1:], rows[:, 0]
    assert len(r) == objective.residuals.count
    assert float(r @ r) / objective.samples == pytest.approx(objective.evaluate(theta).loss)
    for damping in (1e-3, 1.0):
        factored = [make(objective, theta).factor(damping) for make in (primal, unsketched_dual)]
        B = 2 / objective.samples * J.T @ J + damping * torch.eye(len(theta), dtype=torch.float64)
        expected = -torch.linalg.solve(B, 2 / objective.samples * J.T @ r)
        for each in factored:
            torch.testing.assert_close(each.compute_velocity(), expected, rtol=1e-7, atol=1e-9)
        d = [each.compute_correction(expected, 0.3 * expected) for each in factored]
        torch.testing.assert_close(d[0], d[1], rtol=1e-7, atol=1e-9)
        predictions = [each.predict_decrease(expected) for each in factored]
        assert predictions[0] == pytest.approx(predictions[1], rel=1e-8)


@pytest.mark.parametrize("points, is_dual", [(60, False), (20, True)])
def test_the_smaller_form_is_chosen_by_residuals_not_by_samples(points, is_dual):
    _, objective = coupled(points)
    n, count = objective.parameters, objective.residuals.count
    assert objective.samples < n and (count < n) == is_dual
    (line, _) = make_solver(Setting(objective), GaussNewtonOptions()).describe()
    assert (f"J Jᵀ {count} x {count}" if is_dual else f"JᵀJ {n} x {n}") in line


@pytest.mark.parametrize("rows", [16, 48, 200])
def test_sketched_rows_are_signed_sums_of_jacobian_rows(rows):
    """Groups do not cross chunks, every sample is in one, and their signs are those drawn."""
    problem, objective = small_burgers()
    theta = problem.make_initial_parameters(0)
    sketch = objective.residuals.sketch(theta, rows, seed=3, iteration=7)
    (term,) = objective._share._terms
    J = term.loss.evaluate_jacobian(theta, 0, 16)
    bounds = term.find_group_bounds(sketch.groups)
    expected = torch.stack(
        [
            (sketch.signs[first:last, None] * J[first:last]).sum(0)
            for first, last in itertools.pairwise(bounds)
        ]
    )
    assert set(sketch.signs.tolist()) == {-1, 1}
    torch.testing.assert_close(sketch.rows, expected, rtol=1e-10, atol=1e-12)
    again = objective.residuals.sketch(theta, rows, seed=3, iteration=8)
    assert not torch.equal(again.signs, sketch.signs)


def test_gauss_newton_products_are_those_of_the_normal_equations():
    problem, objective = small_burgers()
    theta = problem.make_initial_parameters(0)
    v = torch.randn(len(theta), dtype=torch.float64)
    B = full(objective.residuals.assemble_gauss_newton(theta))
    torch.testing.assert_close(
        objective.residuals.multiply_gauss_newton(theta, v),
        B @ v,
        rtol=1e-7,
        atol=1e-7 * float((B @ v).norm()),
    )


@pytest.mark.parametrize("n", [5, 16])
def test_it_ends_where_residuals_are_at_their_rounding_errors(n):
    A, x = torch.randn(16, n).double(), torch.randn(n).double()
    b = A @ x
    objective = objective_of_residuals(lambda theta: A @ theta - b, 16, n)
    solver = make_solver(Setting(objective), GaussNewtonOptions())
    state = solver.init(x + 1e-3)
    for _ in range(10):
        state, record = solver.step(state)
        if record.outcome.is_final:
            break
    assert record.outcome is Outcome.DAMPING_LIMIT
    assert state.point.loss < 1e-28


@pytest.mark.parametrize("form", ["primal", "dual"])
def test_linear_residuals_are_solved_with_one_jacobian(form, monkeypatch):
    """One iteration from λ = 1e-3, whose own step leaves a part of 1e-7."""
    A, x = torch.randn(16, 16).double() + 6 * torch.eye(16).double(), torch.randn(16).double()
    objective = objective_of_residuals(lambda theta: A @ (theta - x), 16, 16)
    solver = make_solver(Setting(objective), GaussNewtonOptions(form=form))
    start = evaluate_point(objective, torch.zeros(16, dtype=torch.float64))
    lone = primal(objective, start.theta).factor(1e-3).compute_velocity()
    assert objective.evaluate(lone).loss > 1e-9 * start.loss
    made, make = [], GaussNewton._make_system
    monkeypatch.setattr(
        GaussNewton, "_make_system", lambda self, state: made.append(1) or make(self, state)
    )
    new, _ = solver.step(GaussNewtonState(start, 1e-3, iteration=1))
    assert len(made) == 1
    assert new.point.loss < 1e-25 * start.loss


@pytest.mark.parametrize("make_system", [primal, unsketched_dual, SingularSystem])
def test_a_correction_about_a_centre_is_damped_from_there(make_system):
    """The minimum of ‖r(θ + q) + J d‖² + δ ‖q + d - c‖² of linear residuals."""
    A, b, objective = linear_problem()
    theta, q, centre = torch.randn(3, 5, dtype=torch.float64)
    delta = 0.3 * len(b) / 2
    right = A.T @ (A @ (theta + q) - b) + delta * (q - centre)
    expected = -torch.linalg.solve(A.T @ A + delta * torch.eye(5).double(), right)
    found = make_system(objective, theta).factor(0.3).compute_correction(q, centre)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "options, fraction",
    [({"form": "primal"}, 0.05), ({"form": "dual"}, 0.05), ({"sketch": 128}, 0.2)],
)
def test_burgers_falls_in_a_few_iterations(options, fraction):
    problem, objective = small_burgers()
    solver = make_solver(Setting(objective), GaussNewtonOptions(**options))
    state = solver.init(problem.make_initial_parameters(0))
    losses = [state.point.loss]
    for _ in range(30):
        state, record = solver.step(state)
        losses.append(record.loss)
    assert all(after <= before for before, after in itertools.pairwise(losses))
    assert losses[-1] < fraction * losses[0]


@pytest.mark.parametrize("chunks, first, last", [(16, 0, 16), (16, 5, 10), (64, 21, 42)])
@pytest.mark.parametrize("level", [0, 1, 3])
def test_added_nodes_end_as_the_subtrees_with_the_bits_of_the_tree(chunks, first, last, level):
    leaves = torch.randn(last - first, 3, dtype=torch.float64)

    def add(node, total):
        (part,) = reduce_leaves(leaves[node.first - first : node.last - first], node.first)
        total += part

    sums = add_to_nodes(level, first, last, lambda: leaves.new_zeros(3), add)
    assert torch.equal(torch.stack(sums), reduce_leaves(leaves, first))


@pytest.mark.parametrize("contraction", [0.75, 1e-12], ids=["taken", "refused"])
def test_a_step_is_recorded_as_one_gradient_and_one_update_also_where_it_is_refused(contraction):
    _, objective = small_burgers()
    theta = torch.rand(objective.parameters, dtype=torch.float64)
    solver = make_solver(Setting(objective), GaussNewtonOptions(contraction=contraction))
    state, record = solver.step(solver.init(theta))
    is_taken = contraction == 0.75
    assert (record.step_length > 0) == is_taken == (not torch.equal(state.point.theta, theta))
    assert (record.nominal_gradient_evaluations, record.update_cost) == (1, 1)


def test_a_cutoff_is_refused_where_there_are_no_subdomains_to_cut_directions_of():
    _, objective = small_burgers()
    options = GaussNewtonOptions(factorisation="qr", cutoff=1e-9)
    with pytest.raises(InputError, match=r"^solver.cutoff is for networks of subdomains"):
        make_solver(Setting(objective), options)
