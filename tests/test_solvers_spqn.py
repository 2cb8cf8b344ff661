"""The variants of the Schwarz preconditioner on quadratics with known answers."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from quadratic import minimum, objective_of, random_quadratic, setting_of

from hpctrain.decomposition.blocks import Block, LayerRange, LayerSet, cut_layers, cut_tensors
from hpctrain.methods.quasi_newton.self_scaled import SelfScaledMethod
from hpctrain.methods.schwarz.global_steps import GlobalSelfScaled
from hpctrain.methods.schwarz.synchronisation import common, search_block_wise, subspace
from hpctrain.methods.search.strong_wolfe import LineSearchOptions
from hpctrain.networks.dense import DenseNetwork
from hpctrain.objective import Counts, Objective, evaluate_point
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations.library.burgers import Burgers
from hpctrain.problems.equations.problem import Formulation, PinnProblem
from hpctrain.solvers import make_solver
from hpctrain.solvers.quasi_newton import LBFGSOptions, SelfScaledOptions
from hpctrain.solvers.spqn import SPQNOptions
from hpctrain.store.state import flatten, unflatten

N, S = 20, 4
SIZES = [5] * S
EXACT = LineSearchOptions(c2=1e-6)
LAYERS = [LayerRange(5 * k, 5 * (k + 1), 1) for k in range(S)]
DIAGONAL = torch.block_diag(*[torch.ones(5, 5)] * S).double()

VARIANTS = {
    "overlap": {"overlap": 1},
    "multiplicative, overlap": {"name": "mspqn", "overlap": 1},
    "coarse": {"coarse_steps": 3},
    "block-wise": {"synchronisation": "block-wise"},
    "subspace, overlap": {"synchronisation": "subspace", "overlap": 1},
    "local trust region": {"local_solver": "trust-region"},
    "local trust region, kept": {"local_solver": "trust-region", "keep_local_memory": True},
    "local ssbroyden": {"local_solver": "ssbroyden"},
    "local ssbroyden, kept": {"local_solver": "ssbroyden", "keep_local_memory": True},
    "multiplicative, local ssbroyden, kept": {
        "name": "mspqn",
        "local_solver": "ssbroyden",
        "keep_local_memory": True,
    },
    "local pairs and momentum, kept": {
        "local_memory": 8,
        "local_momentum": 0.9,
        "keep_local_memory": True,
    },
    "global ssbroyden": {"global_solver": "ssbroyden"},
    "global ssbroyden, two steps": {"global_solver": "ssbroyden", "global_steps": 2},
    "all": {
        "overlap": 1,
        "coarse_steps": 2,
        "local_solver": "ssbroyden",
        "keep_local_memory": True,
        "synchronisation": "subspace",
        "global_solver": "ssbroyden",
        "global_steps": 2,
    },
}


def options_of(variant):
    return SPQNOptions(**{"blocks": S, "local_steps": 4, **VARIANTS[variant]})


def solver_of(options, loss):
    """The coarse parameters are layers 0 and 2."""
    solver = make_solver(setting_of(loss, SIZES), options)
    coarse = LayerSet((Block(0, 0, 0, 0, 5), Block(1, 2, 2, 10, 15)))
    decomposition = replace(solver.work.decomposition, coarse=coarse)
    solver.work = replace(solver.work, decomposition=decomposition)
    return solver


def ones():
    return torch.ones(N, dtype=torch.float64)


def uncoupled():
    """A quadratic that is block-diagonal in the blocks without overlap."""
    loss = random_quadratic(N, spread=1)
    loss.A = loss.A * DIAGONAL
    return loss


def exact_corrections(loss, decomposition, theta):
    """θ_s* - R_s θ of the blocks' exact minimisers."""
    A, g = loss.A.mean(0), loss.A.mean(0) @ theta - loss.b.mean(0)
    return [
        torch.linalg.solve(A[b.start : b.stop, b.start : b.stop], -b.restrict(g))
        for b in decomposition.blocks
    ]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_minimises_a_quadratic_with_decrease_in_every_step(variant):
    loss = random_quadratic(N, spread=2)
    solver = solver_of(options_of(variant), loss)
    state = solver.init(ones())
    losses = [state.point.loss]
    for _ in range(60):
        state, record = solver.step(state)
        losses.append(record.loss)
        if record.gradient_norm < 1e-6:
            break
    torch.testing.assert_close(state.point.theta, minimum(loss), rtol=1e-5, atol=1e-6)
    assert all(after <= before + 1e-14 for before, after in pairwise(losses))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_at_the_minimum_stalls_and_stays(variant):
    loss = random_quadratic(N)
    solver = solver_of(options_of(variant), loss)
    state = solver.init(minimum(loss))
    for _ in range(60):
        state, record = solver.step(state)
        if record.outcome.is_final:
            break
    assert record.outcome.is_final
    torch.testing.assert_close(state.point.theta, minimum(loss), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_goes_on_from_its_stored_state_as_if_never_stored(variant):
    loss = random_quadratic(N, spread=2)
    solver = solver_of(options_of(variant), loss)
    state = solver.init(ones())
    for _ in range(2):
        state, _ = solver.step(state)
    leaves = {leaf.path: leaf.value for leaf in flatten(state)}
    leaves = {p: v.clone() if isinstance(v, torch.Tensor) else v for p, v in leaves.items()}
    leaves = {p: v.rows.clone() if hasattr(v, "rows") else v for p, v in leaves.items()}
    expected, _ = solver.step(state)
    fresh = solver_of(options_of(variant), loss)
    found, _ = fresh.step(unflatten(fresh.init(ones()), leaves))
    assert torch.equal(found.point.theta, expected.point.theta)


@pytest.mark.parametrize(
    "changes, asked",
    [({}, 0), ({"coarse_steps": 2}, 0), ({"overlap": 1}, 0), ({"name": "mspqn"}, S - 1)],
    ids=str,
)
def test_what_is_known_at_the_start_of_a_local_solve_is_not_evaluated_again(
    changes, asked, monkeypatch
):
    """Of MSPQN's blocks the first alone starts at θ_k."""
    solver = solver_of(SPQNOptions(blocks=S, local_steps=2, **changes), random_quadratic(N))
    state, evaluate, at_start = solver.init(ones()), Objective.evaluate_with_gradient, []

    def count(objective, theta):
        at_start.append(len(theta) < N and bool((theta == 1).all()))
        return evaluate(objective, theta)

    monkeypatch.setattr(Objective, "evaluate_with_gradient", count)
    solver.precondition(state)
    assert sum(at_start) == asked


def test_a_coarse_step_with_an_exact_solve_is_the_galerkin_correction():
    """θ + α R_cᵀ (R_c A R_cᵀ)⁻¹ R_c (b - A θ); the search finds that α = 1 is best."""
    loss = random_quadratic(N, spread=1)
    options = SPQNOptions(blocks=S, coarse_steps=200, memory=10, line_search=EXACT)
    solver = solver_of(options, loss)
    found = solver._take_coarse_step(solver.init(ones()).point)
    coarse = solver.work.decomposition.coarse
    inside = coarse.restrict(torch.arange(N))
    A, residual = loss.A.mean(0), loss.b.mean(0) - loss.A.mean(0) @ ones()
    expected = ones()
    expected[inside] += torch.linalg.solve(A[inside][:, inside], residual[inside])
    torch.testing.assert_close(found.theta, expected, rtol=1e-6, atol=1e-8)


def test_a_coarse_step_on_all_parameters_is_as_many_steps_of_lbfgs():
    loss = random_quadratic(N)
    coarse = make_solver(setting_of(loss, SIZES), SPQNOptions(blocks=S, coarse_steps=6))
    everything = LayerSet((Block(0, 0, S - 1, 0, N),))
    decomposition = replace(coarse.work.decomposition, coarse=everything)
    coarse.work = replace(coarse.work, decomposition=decomposition)
    found = coarse._take_coarse_step(coarse.init(ones()).point)
    lbfgs = make_solver(setting_of(loss, [N]), LBFGSOptions(momentum=1.0))
    state = lbfgs.init(ones())
    for _ in range(6):
        state, _ = lbfgs.step(state)
    torch.testing.assert_close(found.theta, state.point.theta, rtol=1e-12, atol=1e-12)


def test_block_wise_searches_give_the_minimum_where_blocks_do_not_couple():
    loss = uncoupled()
    decomposition = cut_layers(LAYERS, S)
    objective = objective_of(loss)
    corrections = exact_corrections(loss, decomposition, ones())
    stretched = [factor * c for factor, c in zip((0.3, 1, 2, 5), corrections, strict=True)]
    found = search_block_wise(
        objective, decomposition, evaluate_point(objective, ones()), stretched, EXACT
    )
    torch.testing.assert_close(found.theta, minimum(loss), rtol=1e-6, atol=1e-8)


def subspace_minimum(loss, decomposition, theta, corrections):
    D = torch.stack(
        [
            decomposition.extend(b, c) / decomposition.owners
            for b, c in zip(decomposition.blocks, corrections, strict=True)
        ],
        dim=1,
    )
    A, b = loss.A.mean(0), loss.b.mean(0)
    return theta + D @ torch.linalg.solve(D.T @ A @ D, D.T @ (b - A @ theta))


@pytest.mark.parametrize("overlap", [0, 1])
def test_subspace_synchronisation_reaches_the_minimum_over_the_span_of_corrections(overlap):
    loss = random_quadratic(N, spread=1)
    decomposition = cut_layers(LAYERS, S, overlap)
    objective = objective_of(loss)
    corrections = exact_corrections(loss, decomposition, ones())
    stretched = [factor * c for factor, c in zip((0.3, 1, 2, 5), corrections, strict=True)]
    found = subspace(objective, decomposition, evaluate_point(objective, ones()), stretched, EXACT)
    expected = subspace_minimum(loss, decomposition, ones(), stretched)
    torch.testing.assert_close(found.theta, expected, rtol=1e-5, atol=1e-6)


def test_subspace_synchronisation_finds_a_decrease_where_the_common_step_has_none():
    """The corrections' sum ascends, one of them descends."""
    loss = uncoupled()
    decomposition = cut_layers(LAYERS, S)
    objective = objective_of(loss)
    corrections = exact_corrections(loss, decomposition, ones())
    mixed = [corrections[0], *(-3 * c for c in corrections[1:])]
    start = evaluate_point(objective, ones())
    assert common(objective, decomposition, start, mixed, EXACT) is start
    found = subspace(objective, decomposition, start, mixed, EXACT)
    assert found.loss < start.loss
    torch.testing.assert_close(found.theta, minimum(loss), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("synchronise", [common, search_block_wise, subspace])
@pytest.mark.parametrize("overlap", [0, 1])
def test_a_synchronisation_never_raises_the_loss_and_says_the_truth_of_its_point(
    synchronise, overlap
):
    loss = random_quadratic(N, samples=1)
    loss.A = torch.ones(1, N, N, dtype=torch.float64) + 0.01 * torch.eye(N, dtype=torch.float64)
    decomposition = cut_layers(LAYERS, S, overlap)
    objective = objective_of(loss)
    start = evaluate_point(objective, ones())
    corrections = exact_corrections(loss, decomposition, ones())
    for sign in (1, -1):
        signed = [sign * c for c in corrections]
        found = synchronise(objective, decomposition, start, signed, LineSearchOptions())
        assert found.loss <= start.loss
        there = evaluate_point(objective, found.theta)
        assert found.loss == pytest.approx(there.loss, rel=1e-12)
        torch.testing.assert_close(found.gradient, there.gradient)


@pytest.mark.parametrize("synchronise", [search_block_wise, subspace])
def test_with_one_block_every_synchronisation_starts_with_the_common_search(synchronise):
    """S = 1 with an exact search: one step length is all there is to find."""
    loss = random_quadratic(N)
    decomposition = cut_layers([LayerRange(0, N, 1)], 1)
    objective = objective_of(loss)
    start = evaluate_point(objective, ones())
    correction = [-start.gradient]
    expected = common(objective, decomposition, start, correction, EXACT)
    found = synchronise(objective, decomposition, start, correction, EXACT)
    torch.testing.assert_close(found.theta, expected.theta, rtol=1e-6, atol=1e-8)


def test_exact_overlapping_solves_are_averaged_by_ownership():
    """With exact local solves the additive step is along Σ_s E_s A_ss⁻¹ R_s (b - A θ) / w."""
    loss = random_quadratic(N, spread=1)
    options = SPQNOptions(blocks=S, overlap=1, local_steps=200, memory=10, line_search=EXACT)
    solver = solver_of(options, loss)
    half, _ = solver.precondition(solver.init(ones()))
    decomposition = solver.work.decomposition
    direction = torch.zeros(N, dtype=torch.float64)
    owners = torch.tensor([2, 3, 3, 2]).repeat_interleave(5)
    for block, correction in zip(
        decomposition.blocks, exact_corrections(loss, decomposition, ones()), strict=True
    ):
        direction[block.start : block.stop] += correction
    direction /= owners
    step = float((half.theta - ones()) @ direction / (direction @ direction))
    torch.testing.assert_close(half.theta, ones() + step * direction, rtol=1e-6, atol=1e-7)


def test_overlapping_multiplicative_solves_take_each_correction_whole():
    """Block Gauss-Seidel with overlap: each exact solve starts from the last one's result."""
    loss = random_quadratic(N, spread=1)
    options = SPQNOptions(
        name="mspqn", blocks=S, overlap=1, local_steps=200, memory=10, line_search=EXACT
    )
    solver = solver_of(options, loss)
    half, _ = solver.precondition(solver.init(ones()))
    theta = ones()
    for index, block in enumerate(solver.work.decomposition.blocks):
        block.restrict(theta).add_(exact_corrections(loss, solver.work.decomposition, theta)[index])
    torch.testing.assert_close(half.theta, theta, rtol=1e-6, atol=1e-7)


def test_a_local_ssbroyden_solve_is_ssbroyden_on_the_restricted_loss():
    loss = random_quadratic(N, spread=2)
    solver = solver_of(SPQNOptions(blocks=S, local_solver="ssbroyden", local_steps=7), loss)
    block = solver.work.decomposition.blocks[1]
    objective = objective_of(loss)
    start = evaluate_point(objective, ones()).restrict(block)
    found, _ = solver._solve_block(objective.restrict(block, ones()), block, start, {})
    restricted = loss.restrict(block, ones())
    alone = make_solver(setting_of(restricted, [5]), SelfScaledOptions())
    state = alone.init(block.restrict(ones()))
    for _ in range(7):
        state, _ = alone.step(state)
    torch.testing.assert_close(found, state.point.theta - 1, rtol=1e-12, atol=1e-13)


def test_one_multiplicative_block_with_local_ssbroyden_sweeps_by_restarted_ssbroyden():
    loss = random_quadratic(N, spread=2)
    options = SPQNOptions(name="mspqn", blocks=1, local_solver="ssbroyden", local_steps=5)
    solver = make_solver(setting_of(loss, [N]), options)
    half, _ = solver.precondition(solver.init(ones()))
    alone = make_solver(setting_of(loss, [N]), SelfScaledOptions())
    state = alone.init(ones())
    for _ in range(5):
        state, _ = alone.step(state)
    torch.testing.assert_close(half.theta, state.point.theta, rtol=1e-12, atol=1e-13)


def test_a_global_method_expects_the_decrease_of_its_last_step_again_where_it_was_moved():
    loss = random_quadratic(N, spread=2)
    objective = objective_of(loss)
    method = GlobalSelfScaled(SelfScaledMethod("ssbroyden", LineSearchOptions(), Communicator(), 1))
    first = method.start(evaluate_point(objective, ones()))
    state = method.step(objective, first)
    elsewhere = evaluate_point(objective, 0.5 * ones())
    moved = method.move(state, elsewhere)
    decrease = first.point.loss - state.point.loss
    assert decrease > 0
    assert moved.previous_loss - moved.point.loss == pytest.approx(decrease, rel=1e-12)
    torch.testing.assert_close(
        moved.Hg, state.H.multiply(elsewhere.gradient, Communicator(), 1), rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("name", ["aspqn", "mspqn"])
def test_under_a_renewed_loss_the_global_method_keeps_its_memory(name):
    solver = solver_of(SPQNOptions(name=name, blocks=S), random_quadratic(N, spread=2))
    state = solver.init(ones())
    for _ in range(2):
        state, _ = solver.step(state)
    renewed = solver.renew(state)
    assert len(renewed.outer.pairs.s) == len(state.outer.pairs.s) > 0
    assert torch.equal(renewed.outer.velocity, state.outer.velocity)


def test_global_ssbroyden_without_corrections_is_ssbroyden():
    """Blocks that cannot move leave the global method alone with θ."""
    loss = random_quadratic(N, spread=2)
    options = SPQNOptions(blocks=S, global_solver="ssbroyden", global_steps=3)
    solver = solver_of(options, loss)
    solver.precondition = lambda state: (state.point, state.local_memory)
    alone = make_solver(setting_of(loss, [N]), SelfScaledOptions())
    state, expected = solver.init(ones()), alone.init(ones())
    for _ in range(3):
        state, _ = solver.step(state)
        for _ in range(3):
            expected, _ = alone.step(expected)
    torch.testing.assert_close(state.point.theta, expected.point.theta, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    "changes, nominal, cost",
    [
        ({}, 2 + 5, 1 + 5 / 20 * 5),
        ({"coarse_steps": 3}, 2 + 5 + 4, 1 + 5 / 20 * 5 + 10 / 20 * 3),
        ({"synchronisation": "block-wise"}, 1 + 4 + 5, 1 + 5 / 20 * 5),
        ({"synchronisation": "subspace"}, 1 + 6 + 5, 1 + 5 / 20 * 5),
        ({"overlap": 1}, 2 + 5, 1 + 15 / 20 * 5),
        ({"global_steps": 3}, 4 + 5, 3 + 5 / 20 * 5),
        ({"memory": 6}, 2 + 5, 2 * (1 + 5 / 20 * 5)),
        ({"local_memory": 6}, 2 + 5, 1 + 2 * 5 / 20 * 5),
        ({"local_solver": "ssbroyden"}, 2 + 5, 1 + 5**2 / (6 * 20) * 5),
        ({"global_solver": "ssbroyden"}, 2 + 5, 20 / 6 + 5 / 20 * 5),
        ({"name": "mspqn", "overlap": 1}, 2 + 4 * 5, 1 + 50 / 20 * 5),
    ],
    ids=str,
)
def test_nominal_costs_count_what_a_variant_adds(changes, nominal, cost):
    options = SPQNOptions(**{"blocks": S, "local_steps": 5, **changes})
    loss = random_quadratic(N)
    solver = solver_of(options, loss)
    _, record = solver.step(solver.init(ones()))
    assert record.nominal_gradient_evaluations == nominal
    assert record.update_cost == pytest.approx(cost)


def test_a_composed_solver_describes_all_of_its_parts():
    text = "\n".join(solver_of(options_of("all"), random_quadratic(N)).describe())
    for part in (
        "2 steps of ssbroyden, inverse Hessian by rows over 1 ranks",
        "coarse: 2 steps of L-BFGS on the first layer of each block (n_c = 10)",
        "4 steps of ssbroyden with inverse Hessians of its own",
        "overlap 1 (n_s = 10, 15, 15, 10), memory kept",
        "a step length for each block",
    ):
        assert part in text


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"name": "mspqn", "synchronisation": "subspace"}, 'synchronisation = "subspace" is for'),
        ({"global_solver": "ssbroyden", "momentum": 0.5}, "momentum is for global_solver"),
        ({"local_solver": "trust-region", "local_momentum": 0.5}, "local_momentum is for local"),
        ({"local_solver": "ssbroyden", "local_memory": 5}, "ssbroyden., which keeps no pairs"),
    ],
)
def test_settings_without_a_meaning_together_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        SPQNOptions(**settings)


def test_a_loss_restricted_to_separate_layers_or_single_tensors_has_their_gradient():
    problem = PinnProblem(Burgers(), DenseNetwork(2, 8, 6, 1, True, True), Formulation(100))
    share = problem.share(8, rank=0, ranks=1, threads=1)
    counts = Counts(share.loss_cost, share.gradient_cost)
    objective = Objective(share, Communicator(), problem.samples, 8, counts)
    theta = problem.make_initial_parameters(seed=0)
    coarse = cut_layers(problem.layers, 3).coarse
    upper = LayerSet(coarse.runs[1:])
    tensors = cut_tensors(problem.layers, 16).blocks  # W and b of six layers, a of the four inside
    full = evaluate_point(objective, theta)
    for layers in (coarse, upper, *tensors, *cut_tensors(problem.layers, 4).blocks):
        local = evaluate_point(objective.restrict(layers, theta), layers.restrict(theta))
        assert local.loss == pytest.approx(full.loss, rel=1e-13)
        expected = layers.restrict(full.gradient)
        torch.testing.assert_close(local.gradient, expected, rtol=1e-11, atol=1e-13)
    shifted = theta.clone()
    upper.replace(shifted, upper.restrict(theta) + 0.3)
    restricted = objective.restrict(upper, theta)
    moved = restricted.evaluate(upper.restrict(shifted)).loss
    assert moved == pytest.approx(objective.evaluate(shifted).loss, rel=1e-13)
    counts.gradient_work = 0
    restricted.evaluate_with_gradient(upper.restrict(theta))
    costs = [layer.cost for layer in problem.layers]
    swept = sum(costs[2:]) + sum(costs[3:]) + sum(costs[2:5])  # layers 2 and 4 are wanted
    assert counts.gradient_work == swept
