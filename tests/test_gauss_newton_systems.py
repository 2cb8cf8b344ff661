"""The linear systems of Levenberg-Marquardt: Gram matrices, both forms, and sketched rows."""

import itertools
from dataclasses import replace

import pytest
import torch
from residuals import full, linear_problem, primal, small_burgers

from hpctrain.kernels import dense, is_native_available
from hpctrain.linalg.block_layout import Layout
from hpctrain.methods.least_squares.damped_systems import DualSystem
from hpctrain.methods.least_squares.singular_values import SingularSystem
from hpctrain.networks.dense import DenseNetwork
from hpctrain.objective import Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.tree import Node, add_to_nodes, push_node, reduce_leaves
from hpctrain.problems.equations import Box, Dirichlet, Equations, Observations, Periodic, Unknown
from hpctrain.problems.equations.problem import Formulation, PinnProblem
from hpctrain.solvers import Setting, make_solver
from hpctrain.solvers.gauss_newton import GaussNewtonOptions, find_damped_step

needs_native = pytest.mark.skipif(not is_native_available(), reason="native kernels are not built")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def unsketched_dual(objective, theta):
    return DualSystem.of_all_rows(objective, theta)


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


def test_sketches_are_drawn_anew_in_every_iteration():
    problem, objective = small_burgers()
    solver = make_solver(Setting(objective), GaussNewtonOptions(sketch=64))
    start = solver.init(problem.make_initial_parameters(0))
    reached = [solver.step(replace(start, iteration=k))[0].point.theta for k in (1, 2)]
    assert not torch.equal(*reached)


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


@pytest.mark.parametrize("chunks, first, last", [(16, 0, 16), (16, 5, 10), (64, 21, 42)])
@pytest.mark.parametrize("level", [0, 1, 3])
def test_added_nodes_end_as_the_subtrees_with_the_bits_of_the_tree(chunks, first, last, level):
    leaves = torch.randn(last - first, 3, dtype=torch.float64)

    def add(node, total):
        (part,) = reduce_leaves(leaves[node.first - first : node.last - first], node.first)
        total += part

    sums = add_to_nodes(level, first, last, lambda: leaves.new_zeros(3), add)
    assert torch.equal(torch.stack(sums), reduce_leaves(leaves, first))


def test_products_and_pull_backs_are_counted():
    _A, _b, objective = linear_problem()
    loss, gradient = objective.share.loss_cost, objective.share.gradient_cost
    theta, counts = torch.ones(5, dtype=torch.float64), objective.counts
    objective.residuals.multiply_gauss_newton(theta, theta)
    assert (counts.loss_work, counts.gradient_work, counts.hvp_work) == (0, 0, gradient + 2 * loss)
    objective.residuals.pull_back(theta, theta)
    assert (counts.loss_work, counts.gradient_work) == (loss, gradient)
