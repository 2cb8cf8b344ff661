"""Solvers on quadratics with known answers, and the identities that tie them to each other."""

from itertools import pairwise

import pytest
import torch
from quadratic import minimum, objective_of, random_quadratic, setting_of

from hpctrain.methods.quasi_newton.lbfgs import LBFGSState, lbfgs_step
from hpctrain.methods.quasi_newton.secant_pairs import SecantPairs
from hpctrain.methods.search.strong_wolfe import LineSearchOptions
from hpctrain.methods.trust_region.control import TrustRegionOptions
from hpctrain.objective import evaluate_point
from hpctrain.solvers import make_solver
from hpctrain.solvers.mlvr_krylov import MLVRKrylovOptions
from hpctrain.solvers.quasi_newton import LBFGSOptions, SelfScaledOptions
from hpctrain.solvers.spqn import SPQNOptions
from hpctrain.solvers.torch_lbfgs import TorchLBFGSOptions
from hpctrain.solvers.trust_region import TrustRegionSolverOptions

N = 20
SOLVERS = [
    LBFGSOptions(),
    LBFGSOptions(momentum=0.5, memory=10),
    SelfScaledOptions(name="ssbfgs"),
    SelfScaledOptions(name="ssbroyden"),
    SPQNOptions(name="aspqn", blocks=4, local_steps=5),
    SPQNOptions(name="mspqn", blocks=4, local_steps=5),
    SPQNOptions(name="aspqn", blocks=4, local_steps=3, keep_local_memory=True),
    TorchLBFGSOptions(),
    TorchLBFGSOptions(history_size=5),
    TrustRegionSolverOptions(),
    TrustRegionSolverOptions(memory=3),
    TrustRegionSolverOptions(model="hessian"),
    TrustRegionSolverOptions(trust_region=TrustRegionOptions(norm="inf")),
]
EXACT_LOCAL_SOLVES = LineSearchOptions(c2=0.1)


def run(options, loss, steps, sizes=None, gradient_norm=0.0):
    """Up to so many steps, fewer where the gradient becomes as small as that."""
    sizes = sizes or [5, 5, 5, 5]
    solver = make_solver(setting_of(loss, sizes), options)
    state = solver.init(torch.ones(loss.parameters, dtype=torch.float64))
    records = []
    for _ in range(steps):
        state, record = solver.step(state)
        records.append(record)
        if record.gradient_norm < gradient_norm:
            break
    return state, records


@pytest.mark.parametrize("options", SOLVERS, ids=str)
def test_a_quadratic_is_minimised_with_decrease_in_every_step(options):
    # Blocks that go their own ways take many steps along a narrow valley.
    loss = random_quadratic(N, spread=1 if isinstance(options, SPQNOptions) else 2)
    state, records = run(options, loss, 200, gradient_norm=1e-7)
    torch.testing.assert_close(state.point.theta, minimum(loss), rtol=1e-4, atol=1e-5)
    losses = [
        objective_of(loss).evaluate(torch.ones(N).double()).loss,
        *(r.loss for r in records),
    ]
    assert all(after <= before + 1e-14 for before, after in pairwise(losses))


@pytest.mark.parametrize("options", SOLVERS, ids=str)
def test_a_solver_at_the_minimum_says_that_it_is_stalled_and_stays(options):
    loss = random_quadratic(N)
    solver = make_solver(setting_of(loss, [5, 5, 5, 5]), options)
    state = solver.init(minimum(loss))
    for _ in range(60):
        state, record = solver.step(state)
        if record.outcome.is_final:
            break
    assert record.outcome.is_final
    torch.testing.assert_close(state.point.theta, minimum(loss), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("options", SOLVERS, ids=str)
def test_what_the_state_says_of_its_point_is_true(options):
    loss = random_quadratic(N)
    state, _ = run(options, loss, 3)
    there = evaluate_point(objective_of(loss), state.point.theta)
    assert state.point.loss == pytest.approx(there.loss, rel=1e-12)
    torch.testing.assert_close(state.point.gradient, there.gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("momentum", [1.0, 0.9])
def test_mspqn_with_one_block_is_restarted_lbfgs(momentum):
    """S = 1: k_s steps of L-BFGS without memory of earlier sweeps, then one global step."""
    loss = random_quadratic(N, spread=3)
    options = SPQNOptions(name="mspqn", blocks=1, local_steps=4, momentum=momentum)
    found, _ = run(options, loss, 5, sizes=[N])
    objective, search = objective_of(loss), LineSearchOptions()
    outer = LBFGSState(evaluate_point(objective, torch.ones(N, dtype=torch.float64)))
    for _ in range(5):
        inner = LBFGSState(outer.point)
        for _ in range(4):
            inner = lbfgs_step(objective, inner, 3, 1.0, search)
        half = evaluate_point(objective, inner.point.theta)
        outer = LBFGSState(half, outer.pairs, outer.velocity)
        outer = lbfgs_step(objective, outer, 3, momentum, search)
    torch.testing.assert_close(found.point.theta, outer.point.theta, rtol=1e-9, atol=1e-11)


def test_additive_and_multiplicative_agree_on_a_block_diagonal_quadratic():
    """Blocks that do not couple do not see each other's results; α = 1 is the best step."""
    loss = random_quadratic(N, spread=1)
    coupled = torch.block_diag(*[torch.ones(5, 5)] * 4).double()
    loss.A = loss.A * coupled
    found = [
        run(SPQNOptions(name=name, blocks=4, local_steps=30), loss, 1)[0].point.theta
        for name in ("aspqn", "mspqn")
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found[0], minimum(loss), rtol=1e-5, atol=1e-7)


def local_phase(options, loss):
    """θ_{k+1/2} of the first iteration."""
    solver = make_solver(setting_of(loss, [5, 5, 5, 5]), options)
    theta = torch.ones(N, dtype=torch.float64)
    half, _ = solver.precondition(solver.init(theta))
    return theta, half.theta


def test_mspqn_with_exact_local_solves_is_block_gauss_seidel():
    loss = random_quadratic(N, spread=1)
    options = SPQNOptions(
        name="mspqn", blocks=4, local_steps=200, memory=6, line_search=EXACT_LOCAL_SOLVES
    )
    theta, found = local_phase(options, loss)
    A, b = loss.A.mean(0), loss.b.mean(0)
    D = torch.block_diag(*[torch.ones(5, 5)] * 4).double()
    lower = A * (torch.tril(torch.ones_like(A)) + D).clamp(max=1)
    expected = theta + torch.linalg.solve(lower, b - A @ theta)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_aspqn_with_exact_local_solves_is_a_searched_step_of_block_jacobi():
    loss = random_quadratic(N, spread=1)
    options = SPQNOptions(
        name="aspqn", blocks=4, local_steps=200, memory=6, line_search=EXACT_LOCAL_SOLVES
    )
    theta, found = local_phase(options, loss)
    A, b = loss.A.mean(0), loss.b.mean(0)
    D = A * torch.block_diag(*[torch.ones(5, 5)] * 4).double()
    direction = torch.linalg.solve(D, b - A @ theta)
    step = float((found - theta) @ direction / (direction @ direction))
    torch.testing.assert_close(found, theta + step * direction, rtol=1e-6, atol=1e-7)
    assert 0 < step < 1 + 1e-6


def test_an_additive_correction_that_would_raise_the_loss_is_shortened():
    """Strongly coupled blocks: the sum of exact local solves overshoots, the search holds it."""
    loss = random_quadratic(N, samples=1)
    loss.A = torch.ones(1, N, N, dtype=torch.float64) + 0.01 * torch.eye(N, dtype=torch.float64)
    theta, found = local_phase(SPQNOptions(blocks=4, local_steps=50), loss)
    objective = objective_of(loss)
    assert objective.evaluate(found).loss < objective.evaluate(theta).loss


def test_velocity_that_does_not_descend_is_reset():
    loss = random_quadratic(N)
    objective = objective_of(loss)
    point = evaluate_point(objective, torch.ones(N, dtype=torch.float64))
    against = LBFGSState(point, SecantPairs(), velocity=1e6 * point.gradient)
    step = lbfgs_step(objective, against, 3, 0.5, LineSearchOptions())
    torch.testing.assert_close(step.velocity, -point.gradient)


def test_momentum_weighs_the_new_direction():
    loss = random_quadratic(N)
    objective = objective_of(loss)
    point = evaluate_point(objective, torch.ones(N, dtype=torch.float64))
    old = -2.0 * point.gradient
    step = lbfgs_step(objective, LBFGSState(point, velocity=old), 3, 0.9, LineSearchOptions())
    torch.testing.assert_close(step.velocity, 0.1 * old - 0.9 * point.gradient)


def test_ssbroyden_converges_superlinearly_on_a_quadratic():
    """A dense quasi-Newton method is fast where the curvature is learnt: far below N-step rates."""
    loss = random_quadratic(N, spread=4)
    state, _ = run(SelfScaledOptions(), loss, 120)
    assert float((state.point.theta - minimum(loss)).norm()) < 1e-8


@pytest.mark.parametrize("name, nominal, cost", [("aspqn", 7, 1 + 5 / 20 * 5), ("mspqn", 22, 6)])
def test_nominal_costs_are_the_papers(name, nominal, cost):
    """#g_e: ASPQN k (2 + k_s), MSPQN k (2 + S k_s); UC: 1 + (n_s/n) k_s and 1 + k_s."""
    _, [record] = run(SPQNOptions(name=name, blocks=4, local_steps=5), random_quadratic(N), 1)
    assert record.nominal_gradient_evaluations == nominal
    assert record.update_cost == cost


@pytest.mark.parametrize(
    "options, cost",
    [
        (LBFGSOptions(), 1),
        (LBFGSOptions(memory=12), 4),
        (TorchLBFGSOptions(history_size=6), 2),
        (MLVRKrylovOptions(coarse_samples=2, memory=6), 2),
        (TrustRegionSolverOptions(memory=6), 2),
        (TrustRegionSolverOptions(model="linear"), 0),
        (SelfScaledOptions(), N / 6),
        (SelfScaledOptions(memory=5), 10 / 6),
    ],
    ids=str,
)
def test_pairs_and_matrices_are_counted_in_one_unit(options, cost):
    """6 n numbers: three pairs; a matrix of n², or of two columns for each update that is kept."""
    _, [record] = run(options, random_quadratic(N), 1)
    assert record.update_cost == pytest.approx(cost)
