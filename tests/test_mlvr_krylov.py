"""MLVR with K-cycles: flexible conjugate gradients, its special cases, where it begins."""

import math
from dataclasses import replace

import pytest
import torch
from logistic import objective_over, random_problem, setting_over
from quadratic import random_quadratic, setting_of

from hpctrain.errors import InputError
from hpctrain.linalg.krylov.flexible_cg import flexible_cg
from hpctrain.linalg.vectors import dot, norm
from hpctrain.methods.multilevel.smoothers import LBFGSSteps
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.quasi_newton.secant_pairs import SecantPairs
from hpctrain.methods.sampling.subsets import draw_nested_subsets
from hpctrain.methods.search.armijo import ArmijoOptions
from hpctrain.solvers import make_solver
from hpctrain.solvers.mlvr_krylov import MLVRKrylov, MLVRKrylovOptions

SAMPLES, N = 60, 6


@pytest.fixture(scope="module")
def problem():
    return random_problem(SAMPLES, N)


def spd_matrix(seed=0, n=8):
    A = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return A @ A.T + torch.diag(torch.logspace(-2, 2, n, dtype=torch.float64))


def random_vector(seed=1, n=8):
    return torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def stepped(problem, options, seed=3):
    """θ before and after one step."""
    solver = make_solver(setting_over(problem, seed), options)
    start = solver.init(torch.zeros(N, dtype=torch.float64))
    return start.point.theta, solver.step(start)[0].point.theta


def test_flexible_cg_solves_in_as_many_products_as_there_are_unknowns():
    B, b = spd_matrix(), random_vector()
    x = flexible_cg(lambda v: B @ v, b, 1e-13, 8)
    torch.testing.assert_close(B @ x, b, rtol=1e-8, atol=1e-8)


def test_flexible_cg_minimises_over_two_preconditioned_directions():
    """After two iterations the residual is orthogonal to both directions, whatever the maps."""
    B, b = spd_matrix(), random_vector()
    directions = []

    def precondition(r):
        directions.append(random_vector(2 + len(directions)) * r)
        return directions[-1]

    x = flexible_cg(lambda v: B @ v, b, 0, 2, precondition)
    residual = b - B @ x
    for d in directions:
        assert abs(float(residual @ d)) < 1e-10 * float(b.norm() * d.norm())


def test_flexible_cg_gives_the_right_hand_side_where_the_first_curvature_is_not_positive():
    """With b = -∇L it is a direction of descent still."""
    B, b = -spd_matrix(), random_vector()
    assert torch.equal(flexible_cg(lambda v: B @ v, b, 0, 5), b)


def test_flexible_cg_ends_before_a_later_direction_of_negative_curvature():
    B, b = torch.diag(torch.tensor([2.0, -1.0])).double(), torch.tensor([4.0, 1.0]).double()
    x = flexible_cg(lambda v: B @ v, b, 0, 5)
    torch.testing.assert_close(x, b * float(b @ b / (b @ B @ b)), rtol=1e-14, atol=0)


def test_secant_pairs_hold_whatever_the_initial_matrix_is():
    """H y = s for the newest pair, and H = H₀ without pairs."""
    pairs, H_0, B = SecantPairs(), spd_matrix(3), spd_matrix()
    v = random_vector()
    assert torch.equal(pairs.multiply_inverse_hessian(v, lambda q: H_0 @ q), H_0 @ v)
    for seed in (4, 5):
        s = random_vector(seed)
        assert pairs.store(s, B @ s, 5)
    found = pairs.multiply_inverse_hessian(B @ s, lambda q: H_0 @ q)
    torch.testing.assert_close(found, s, rtol=1e-10, atol=1e-12)


def test_the_first_step_on_two_levels_is_sub_sampled_newton(problem):
    options = MLVRKrylovOptions(
        coarsening_factor=3.0, cascade_steps=0, cg_iterations=50, cg_tolerance=1e-12
    )
    theta, found = stepped(problem, options)
    L = objective_over(problem)
    sample = L.subset(draw_nested_subsets(3, SAMPLES, [20], 1)[0])
    H = torch.stack([sample.multiply_hessian(theta, e) for e in torch.eye(N, dtype=torch.float64)])
    expected = theta - torch.linalg.solve(H, L.evaluate(theta).evaluate_gradient())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_with_all_samples_on_every_level_the_first_step_is_newtons(problem):
    options = MLVRKrylovOptions(
        levels=3, coarsening_factor=1.0, cascade_steps=0, cg_iterations=50, cg_tolerance=1e-12
    )
    theta, found = stepped(problem, options)
    L = objective_over(problem)
    H = torch.stack([L.multiply_hessian(theta, e) for e in torch.eye(N, dtype=torch.float64)])
    expected = theta - torch.linalg.solve(H, L.evaluate(theta).evaluate_gradient())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_a_step_costs_one_gradient_and_the_products_of_each_level(problem):
    """Two on 20 samples, and before each of them two on 5."""
    options = MLVRKrylovOptions(
        levels=3, coarsening_factor=3.0, coarse_samples=5, cascade_steps=0, cg_tolerance=0
    )
    solver = make_solver(setting_over(problem), options)
    _, record = solver.step(solver.init(torch.zeros(N, dtype=torch.float64)))
    assert record.nominal_gradient_evaluations == pytest.approx(1 + 2 * 20 / 60 + 4 * 5 / 60)


def test_each_trial_of_a_search_costs_one_evaluation(problem, monkeypatch):
    """Along a direction 1000 times as long as the gradient; the one accepted included."""
    monkeypatch.setattr(MLVRKrylov, "_solve", lambda self, depth, theta, q: 1000 * q)
    solver = make_solver(setting_over(problem), MLVRKrylovOptions(cascade_steps=0))
    start = solver.init(torch.zeros(N, dtype=torch.float64))
    _, record = solver.step(start)
    halvings = math.log2(1000 * norm(start.point.gradient) / record.step_length)
    assert halvings >= 1
    assert record.nominal_gradient_evaluations == pytest.approx(1 + halvings)


def test_the_coarser_levels_lead_to_a_better_first_point(problem):
    L, theta = objective_over(problem), torch.zeros(N, dtype=torch.float64)
    solver = make_solver(setting_over(problem), MLVRKrylovOptions(coarsening_factor=3.0))
    first = solver.init(theta).point
    assert first.loss < 0.8 * L.evaluate(theta).loss
    gradient = L.evaluate(first.theta).evaluate_gradient()
    assert dot(gradient, gradient) == dot(first.gradient, first.gradient)


def test_the_first_point_comes_from_the_coarsest_level_up(problem, monkeypatch):
    seen, advance = [], LBFGSSteps.advance

    def watch(self, h, *rest):
        seen.append(h.samples)
        return advance(self, h, *rest)

    monkeypatch.setattr(LBFGSSteps, "advance", watch)
    options = MLVRKrylovOptions(levels=3, coarsening_factor=2.0)
    make_solver(setting_over(problem), options).init(torch.zeros(N, dtype=torch.float64))
    assert seen == [15, 30]


def test_a_loss_without_subsets_is_refused():
    setting = setting_of(random_quadratic(4), [4])
    setting.objective._share = object()
    with pytest.raises(
        InputError, match=r'solver.name = "mlvr-krylov" is not allowed: this problem\'s loss'
    ):
        make_solver(setting, MLVRKrylovOptions())


def run(solver, state, steps):
    for _ in range(steps):
        state, _ = solver.step(state)
    return state


def test_a_run_goes_on_from_its_state_alone(problem):
    """The samples of a cycle are a function of its number, not of what a solver remembers."""
    options = MLVRKrylovOptions(levels=3, coarsening_factor=3.0)
    first, second = (make_solver(setting_over(problem), options) for _ in range(2))
    half = run(first, first.init(torch.zeros(N, dtype=torch.float64)), 3)
    found, expected = (run(solver, half, 3).point for solver in (second, first))
    assert torch.equal(found.theta, expected.theta) and found.loss == expected.loss


@pytest.mark.parametrize("resample", ["never", "cycle"])
def test_samples_are_drawn_anew_in_every_cycle_or_never(problem, resample):
    """Seen by the step without pairs from one θ in two cycles: of other samples it is another."""
    options = MLVRKrylovOptions(coarsening_factor=3.0, cascade_steps=0, resample=resample)
    solver = make_solver(setting_over(problem), options)
    start = solver.init(torch.zeros(N, dtype=torch.float64))
    reached = [solver.step(replace(start, iteration=k))[0].point.theta for k in (0, 1)]
    assert torch.equal(*reached) == (resample == "never")


def test_the_first_point_is_fitted_to_other_samples_than_the_first_cycle_has(problem):
    setting, drawn = setting_over(problem), list[torch.Tensor]()
    subset = setting.objective.subset
    setting.objective.subset = lambda chosen: drawn.append(chosen) or subset(chosen)
    solver = make_solver(setting, MLVRKrylovOptions(coarsening_factor=3.0))
    solver.step(solver.init(torch.zeros(N, dtype=torch.float64)))
    assert len(drawn) == 2 and not torch.equal(*drawn)


def test_pairs_are_forgotten_where_no_decrease_is_found(problem):
    solver = make_solver(setting_over(problem), MLVRKrylovOptions())
    state, _ = solver.step(solver.init(torch.ones(N, dtype=torch.float64)))
    assert state.pairs.s
    strict = MLVRKrylovOptions(line_search=ArmijoOptions(c1=0.9999, max_trials=1))
    new, record = make_solver(setting_over(problem), strict).step(state)
    assert record.outcome is Outcome.MEMORY_DROPPED and not new.pairs.s
