"""Newton-Krylov-Schwarz: its preconditioner against dense algebra, its steps on known problems."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from residuals import full, linear_problem, small_burgers

from hpctrain.decomposition.blocks import Block, cut_layers
from hpctrain.objective.evaluation import Evaluation
from hpctrain.objective.sketch import Sketch
from hpctrain.solvers import make_solver
from hpctrain.solvers.base import Setting
from hpctrain.solvers.gauss_newton import GaussNewtonOptions
from hpctrain.solvers.newton_krylov import (
    CoarseSpace,
    NewtonKrylovOptions,
    SketchedBlock,
    factor_shifted,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("damping", [1e-4, 1.0])
def test_a_blocks_inverse_is_that_of_its_damped_part_of_the_gauss_newton_matrix(damping):
    """With as many rows as residuals the sketch is exact."""
    problem, objective = small_burgers()
    theta = problem.make_initial_parameters(0)
    sketch = objective.residuals.sketch(theta, objective.samples, 0, 0)
    B = full(objective.residuals.assemble_gauss_newton(theta))
    x = torch.randn(len(theta), dtype=torch.float64)
    for block in cut_layers(problem.layers, 3).blocks:
        part = slice(block.start, block.stop)
        expected = torch.linalg.solve(
            B[part, part] + damping * torch.eye(block.size, dtype=x.dtype), x[part]
        )
        found = SketchedBlock(block, sketch, 1).make_inverse(damping, 0.5 * objective.samples)(x)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6 * float(expected.norm()))


def test_a_blocks_inverse_is_that_of_what_was_factored_where_rounding_errors_were_added():
    """Of an x that no row of A_s sees: it is divided by what stands on the diagonal."""
    A = torch.randn(3, 5, dtype=torch.float64)
    sketch = Sketch(torch.cat([A[:, :1], A], dim=1), torch.ones(3), 1, [3])
    block = SketchedBlock(Block(0, 0, 0, 0, 5), sketch, 1)
    x = torch.linalg.svd(A).Vh[3]
    delta, _ = factor_shifted(A @ A.T, 8 * 1e-20)
    assert delta > 1e3 * 8 * 1e-20
    found = block.make_inverse(1e-20, 8.0)(x)
    torch.testing.assert_close(found, 8 / delta * x, rtol=1e-6, atol=0)


def test_the_coarse_inverse_is_that_of_the_damped_gauss_newton_matrix_on_its_space():
    problem, objective = small_burgers()
    theta = problem.make_initial_parameters(0)
    sketch = objective.residuals.sketch(theta, objective.samples, 0, 0)
    x, *vectors = torch.randn(4, len(theta), dtype=torch.float64)
    B = full(objective.residuals.assemble_gauss_newton(theta))
    V = torch.stack(vectors, dim=1)
    expected = V @ torch.linalg.solve(V.T @ (B @ V + 0.1 * V), V.T @ x)
    found = CoarseSpace(vectors, sketch).make_inverse(0.1, 0.5 * objective.samples)(x)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


def test_the_coarse_space_has_every_blocks_part_of_the_gradient_and_of_the_last_step():
    problem, objective = small_burgers()
    solver = make_solver(Setting(objective), NewtonKrylovOptions(blocks=2))
    state = solver.init(problem.make_initial_parameters(0))
    assert len(solver._list_coarse_vectors(state)) == 2
    state, _ = solver.step(state)
    vectors = torch.stack(solver._list_coarse_vectors(state))
    assert torch.equal(vectors[:2].sum(0), state.point.gradient)
    assert torch.equal(vectors[2:].sum(0), state.last_step)
    assert not (vectors[0] * vectors[1]).any()


def test_a_step_solves_linear_least_squares():
    A, b, objective = linear_problem()
    options = NewtonKrylovOptions(blocks=1, damping=1e-10, tolerance=1e-12, coarse=False)
    solver = make_solver(Setting(objective), options)
    start = solver.init(torch.randn(5, dtype=torch.float64))
    state, _ = solver.step(start)
    expected = torch.linalg.lstsq(A, b[:, None]).solution[:, 0]
    torch.testing.assert_close(state.point.theta, expected, rtol=1e-6, atol=1e-7)
    fallen = state.point.loss / start.point.loss
    assert state.damping == pytest.approx(1e-10 * min(1 / 3, fallen), rel=1e-9, abs=0)


def test_preconditioning_saves_products_and_the_coarse_space_saves_more():
    problem, objective = small_burgers()
    setting, theta = Setting(objective), problem.make_initial_parameters(0)
    products = {}
    for name, options in {
        "whole": {"blocks": 1, "coarse": False},
        "one level": {"blocks": 4, "coarse": False},
        "two levels": {"blocks": 4},
    }.items():
        o = NewtonKrylovOptions(sketch=200, tolerance=1e-6, max_products=500, **options)
        solver = make_solver(setting, o)
        before = objective.counts.hvp_work
        solver.step(solver.init(theta))
        products[name] = objective.counts.hvp_work - before
    assert products["whole"] < 0.5 * products["one level"]
    assert products["two levels"] <= products["one level"]


def test_a_step_to_round_off_is_the_plain_step_of_levenberg_marquardt():
    problem, objective = small_burgers()
    theta = problem.make_initial_parameters(0)
    o = NewtonKrylovOptions(blocks=4, tolerance=1e-12, max_products=2000)
    state, _ = make_solver(Setting(objective), o).step(
        make_solver(Setting(objective), o).init(theta)
    )
    plain = make_solver(Setting(objective), GaussNewtonOptions(corrections=0))
    expected, _ = plain.step(replace(plain.init(theta), iteration=1))
    assert state.damping == pytest.approx(expected.damping, rel=1e-6)
    torch.testing.assert_close(state.point.theta, expected.point.theta, rtol=1e-5, atol=1e-6)


def test_every_step_lowers_the_loss_of_burgers():
    problem, objective = small_burgers()
    solver = make_solver(Setting(objective), NewtonKrylovOptions(blocks=4))
    state = solver.init(problem.make_initial_parameters(0))
    losses = [state.point.loss]
    for _ in range(6):
        state, record = solver.step(state)
        losses.append(record.loss)
    assert all(after < before for before, after in pairwise(losses))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_singular_matrix_gets_the_shift_that_its_precision_needs(dtype):
    """A Aᵀ of rank 3: rounding makes some of its other eigenvalues negative."""
    A = torch.randn(200, 3, dtype=dtype)
    K = A @ A.T
    delta, factor = factor_shifted(K, 0.0)
    shifted = K + delta * torch.eye(200, dtype=dtype)
    size = float(K.diagonal().max())
    rounding = torch.finfo(dtype).eps * size
    assert 0 < delta <= 1e4 * rounding
    torch.testing.assert_close(factor @ factor.T, shifted, rtol=0, atol=100 * rounding)


def test_no_rows_at_all_are_shifted_too():
    delta, factor = factor_shifted(torch.zeros(2, 2, dtype=torch.float64), 0.0)
    assert delta > 0 and bool(factor.isfinite().all())


def test_a_matrix_that_is_not_finite_ends_the_search_for_a_shift():
    delta, _ = factor_shifted(torch.full((2, 2), float("nan"), dtype=torch.float64), 1.0)
    assert not delta < float("inf")


def test_an_exact_preconditioner_leaves_one_product():
    """One block and a sketch with as many rows as residuals: M = B + λ I."""
    _, _, objective = linear_problem()
    options = NewtonKrylovOptions(blocks=1, sketch=16, damping=1.0, tolerance=1e-8, coarse=False)
    solver = make_solver(Setting(objective), options)
    state, products = solver.init(torch.randn(5, dtype=torch.float64)), []
    solve = solver._solve
    solver._solve = lambda *given: products.append(solve(*given)) or products[-1]
    solver.step(state)
    assert [found.iterations for found in products] == [1]


@pytest.mark.parametrize(
    "options",
    [
        NewtonKrylovOptions(blocks=1, damping=0.1),
        GaussNewtonOptions(damping=0.1, corrections=0),
        GaussNewtonOptions(damping=0.1, corrections=0, form="dual"),
    ],
    ids=lambda options: options.name,
)
def test_failed_trials_make_the_damping_grow_faster_and_faster(options):
    """λ, 2 λ, 2 · 4 λ, 2 · 4 · 8 λ (Nielsen); ρ = 1 leaves a third of it."""
    _, _, objective = linear_problem()
    solver = make_solver(Setting(objective), options)
    state, tried, at = solver.init(torch.randn(5, dtype=torch.float64)), [], objective.evaluate

    def refused(theta):
        tried.append(theta - state.point.theta)
        return at(theta) if len(tried) > 3 else Evaluation(objective, theta, math.inf)

    objective.evaluate = refused
    new, _ = solver.step(state)
    B = full(objective.residuals.assemble_gauss_newton(state.point.theta))
    for step, damping in zip(tried, [0.1, 0.2, 0.8, 6.4], strict=True):
        p = torch.linalg.solve(B + damping * torch.eye(5), -state.point.gradient)
        torch.testing.assert_close(step, p, rtol=0.02, atol=1e-4)
    predicted = -float(state.point.gradient @ tried[-1] + 0.5 * tried[-1] @ B @ tried[-1])
    rho = (state.point.loss - new.point.loss) / predicted
    assert rho == pytest.approx(1.0)
    assert new.damping == pytest.approx(6.4 / 3)
