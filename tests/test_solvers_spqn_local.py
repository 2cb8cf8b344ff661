"""Local solvers of the Schwarz preconditioner, and the memories that their blocks keep."""

import pytest
import torch
from quadratic import objective_of, random_quadratic, setting_of

from hpctrain.decomposition.blocks import LayerRange, cut_layers
from hpctrain.methods.quasi_newton.self_scaled import SelfScaledMethod
from hpctrain.methods.search.strong_wolfe import LineSearchOptions
from hpctrain.objective import evaluate_point
from hpctrain.parallel.communicator import Communicator
from hpctrain.solvers import make_solver
from hpctrain.solvers.quasi_newton import LBFGSOptions
from hpctrain.solvers.spqn import SPQNOptions

N, S = 20, 4
SIZES = [5] * S
LAYERS = [LayerRange(5 * k, 5 * (k + 1), 1) for k in range(S)]


def ones(n=N):
    return torch.ones(n, dtype=torch.float64)


def local_solver_of(loss, sizes, **settings):
    options = SPQNOptions(blocks=len(sizes), **settings)
    return make_solver(setting_of(loss, sizes), options)._local


def solve_in_turns(solver, objective, *steps):
    """So many steps from θ = (1, …, 1) in each solve, with the memory of the one before."""
    point, memory = evaluate_point(objective, ones()), solver.make_fresh()
    for each in steps:
        point, memory = solver.solve(objective, point, memory, each)
    return point, memory


@pytest.mark.parametrize("local_solver", ["lbfgs", "ssbroyden", "trust-region"])
def test_a_kept_local_memory_solves_a_moved_block_better_than_a_fresh_one(local_solver):
    loss = random_quadratic(N, spread=2)
    solver = local_solver_of(loss, SIZES, local_solver=local_solver)
    block = cut_layers(LAYERS, S).blocks[2]
    first = objective_of(loss).restrict(block, ones())
    _, memory = solver.solve(first, evaluate_point(first, ones()[:5]), solver.make_fresh(), 8)
    moved = objective_of(loss).restrict(block, -2 * ones())
    start = evaluate_point(moved, -2 * ones()[:5])
    kept, _ = solver.solve(moved, start, memory, 3)
    forgetful, _ = solver.solve(moved, start, solver.make_fresh(), 3)
    assert kept.loss < forgetful.loss


def test_a_local_solve_that_keeps_its_memory_goes_on_as_lbfgs_that_was_never_interrupted():
    loss = random_quadratic(N, spread=2)
    solver = local_solver_of(loss, [N], local_memory=6, local_momentum=0.7)
    point, _ = solve_in_turns(solver, objective_of(loss), 4, 5)
    alone = make_solver(setting_of(loss, [N]), LBFGSOptions(memory=6, momentum=0.7))
    state = alone.init(ones())
    for _ in range(9):
        state, _ = alone.step(state)
    assert torch.equal(point.theta, state.point.theta)


def test_a_kept_trust_region_goes_on_as_one_that_was_never_interrupted():
    loss = random_quadratic(N, spread=2)
    solver = local_solver_of(loss, [N], local_solver="trust-region")
    point, memory = solve_in_turns(solver, objective_of(loss), 4, 5)
    once, at_once = solve_in_turns(solver, objective_of(loss), 9)
    torch.testing.assert_close(point.theta, once.theta, rtol=1e-12, atol=1e-13)
    assert memory.radius == at_once.radius != solver.region.radius


@pytest.mark.parametrize("n", [5, 20])
def test_a_kept_inverse_hessian_is_that_of_all_updates_and_stays_as_it_is(n):
    """As factors (n = 20), and as a matrix (n = 5), with the update that waits."""
    loss = random_quadratic(n, spread=2)
    objective, alone = objective_of(loss), Communicator()
    start = evaluate_point(objective, ones(n))
    solver = local_solver_of(loss, [n], local_solver="ssbroyden")
    point, memory = solver.solve(objective, start, solver.make_fresh(), 4)
    method = SelfScaledMethod("ssbroyden", LineSearchOptions(), alone, 1)
    state = method.start(start)
    for _ in range(4):
        state = method.step(objective, state)
    v = torch.linspace(-1, 2, n, dtype=torch.float64)
    expected = state.H.multiply(v, alone, 1)
    solver.solve(objective, point, memory, 3)  # from the same memory, which may be used again
    found = memory.multiply(v, alone, 1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
