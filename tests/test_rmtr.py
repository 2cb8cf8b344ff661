"""RMTR on tiny residual classifiers: consistency, bounds, sample sizes, work, and resuming."""

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from classifiers import CLASSES, objective_of, part
from pydantic import ValidationError
from quadratic import objective_of as objective_of_quadratic
from quadratic import random_quadratic
from torch import nn

from hpctrain.errors import InputError
from hpctrain.linalg.vectors import dot, norm
from hpctrain.methods.multilevel.cascade import Stage
from hpctrain.methods.multilevel.cycles import Level, LevelState, Room, TrustRegionControl
from hpctrain.methods.multilevel.hierarchy import coarsen
from hpctrain.methods.multilevel.refinement import sum_half_step_systems
from hpctrain.methods.multilevel.smoothers import TrustRegionSteps
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.trust_region.control import RadiusOptions
from hpctrain.methods.trust_region.models import LSR1Model
from hpctrain.methods.trust_region.options import make_rule
from hpctrain.methods.trust_region.step import TrialRule
from hpctrain.networks.residual import ResidualNetwork, make_convolutional_resnet, make_dense_resnet
from hpctrain.objective import evaluate_point
from hpctrain.problems.classification.problem import ClassificationProblem
from hpctrain.problems.data.sets import DataSet
from hpctrain.solvers import make_solver
from hpctrain.solvers.base import Setting
from hpctrain.solvers.rmtr import RMTROptions
from hpctrain.solvers.trust_region import TrustRegionSolverOptions
from hpctrain.store.state import flatten, unflatten

SHAPE, SAMPLES, CHUNKS = (1, 6, 6), 60, 2
DENSE = partial(make_dense_resnet, 36, 6, CLASSES, 1.0, nn.Tanh)
CONVOLUTIONAL = partial(make_convolutional_resnet, SHAPE, [2, 3], CLASSES, 1.0, nn.Tanh, 1)
WHOLE = {"batch_size": SAMPLES}
RULE = TrialRule(LSR1Model(10), RadiusOptions(), 2)


def cascade(*epochs, **more):
    """A stage for each level from the coarsest on."""
    return [Stage(level=1 + i, epochs=each, **more) for i, each in enumerate(epochs)]


def problem_of(make=DENSE, blocks=4):
    data = DataSet("tiny", part(SAMPLES), part(10, seed=1), CLASSES)
    return ClassificationProblem(
        data, ResidualNetwork("net", make, SHAPE, blocks), dtype=torch.float64
    )


def solver_of(problem, **options):
    given = RMTROptions(**options)
    return make_solver(Setting(objective_of(problem, CHUNKS)), given)


def run(solver, theta, steps):
    state = solver.init(theta)
    states, records = [state], []
    for _ in range(steps):
        state, record = solver.step(state)
        states.append(state)
        records.append(record)
    return states, records


@dataclass
class Spy:
    """Remembers the visits of a level: its h, and where it starts and ends."""

    solver: TrustRegionSteps
    visits: list = field(default_factory=list)

    def advance(self, h, state, count, room):
        end = self.solver.advance(h, state, count, room)
        self.visits.append((h, state, end, room))
        return end

    def learn(self, memory, old, new):
        return self.solver.learn(memory, old, new)


def two_levels(make, rule, blocks):
    """A fine and a spied coarse level of a residual network, and where the fine one starts."""
    problem = problem_of(make, blocks)
    L = objective_of(problem, CHUNKS)
    coarse, transfer = coarsen(L, rule)
    spy = Spy(TrustRegionSteps(RULE))
    below = Level(coarse, spy, (5, 0), transfer=transfer)
    control = TrustRegionControl(RadiusOptions())
    fine = Level(L, TrustRegionSteps(RULE), (0, 0), below, control)
    point = evaluate_point(L, problem.make_initial_parameters(0))
    return fine, spy, transfer, LevelState(point, reach=0.3)


NETWORKS = [
    (DENSE, "constant", 4),
    (DENSE, "linear", 5),
    (CONVOLUTIONAL, "constant", 2),
    (CONVOLUTIONAL, "linear", 3),
]


@pytest.mark.parametrize(("make", "rule", "blocks"), NETWORKS)
def test_a_shallower_network_is_consistent_with_the_deeper_one(make, rule, blocks):
    """∇h(θ₀) = R ∇L(θ), and its decrease is one of the deep network: ⟨∇L, I s⟩ = ⟨R∇L, s⟩ < 0."""
    fine, spy, transfer, state = two_levels(make, rule, blocks)
    fine.cycle(fine.objective, state, "V", Room(state.point.theta))
    [(h, entered, end, _)] = spy.visits
    origin, g = transfer.project(state.point.theta), state.point.gradient
    torch.testing.assert_close(
        h.evaluate_with_gradient(origin).evaluate_gradient(), transfer.restrict(g)
    )
    s = -entered.point.gradient
    along = dot(g, transfer.prolong(s))
    assert along == pytest.approx(-(norm(transfer.restrict(g)) ** 2), rel=1e-12)
    small = state.point.theta + 1e-4 * transfer.prolong(s)
    assert fine.objective.evaluate(small).loss < state.point.loss
    assert end.point.loss < entered.point.loss


@pytest.mark.parametrize(("make", "rule", "blocks"), NETWORKS)
def test_a_prolonged_correction_stays_within_the_radius_above(make, rule, blocks):
    fine, spy, transfer, state = two_levels(make, rule, blocks)
    fine.cycle(fine.objective, replace(state, reach=0.05), "V", Room(state.point.theta))
    [(_, entered, end, _)] = spy.visits
    s = end.point.theta - entered.point.theta
    assert 0 < norm(transfer.prolong(s)) <= 0.05 * (1 + 1e-12)
    assert norm(s) > 0.5 * 0.05 / transfer.stretch


def test_a_coarse_level_that_found_nothing_leaves_the_radius_above_alone():
    fine, _, _, state = two_levels(*NETWORKS[0])
    control = TrustRegionControl(RadiusOptions())
    zero = torch.zeros_like(state.point.theta)
    assert control.apply(fine.objective, state, zero, 0.0) is state


@pytest.mark.parametrize("model", ["linear", "lsr1", "hessian"])
def test_steps_on_a_level_are_those_of_the_trust_region_solver(model):
    loss = random_quadratic(6, spread=1)
    options = TrustRegionSolverOptions(model=model)
    solver = make_solver(Setting(objective_of_quadratic(loss)), options)
    state = solver.init(torch.ones(6, dtype=torch.float64))
    start = LevelState(state.point, options.trust_region.radius)
    for _ in range(5):
        state, _ = solver.step(state)
    room = Room(start.point.theta)
    end = TrustRegionSteps(make_rule(options)).advance(objective_of_quadratic(loss), start, 5, room)
    torch.testing.assert_close(end.point.theta, state.point.theta, rtol=0, atol=0)
    assert end.radius == state.radius


def test_steps_end_where_their_room_is_spent_and_do_not_blame_the_radius():
    loss = random_quadratic(6, spread=1)
    objective = objective_of_quadratic(loss)
    start = LevelState(evaluate_point(objective, torch.ones(6, dtype=torch.float64)), radius=0.4)
    before = objective.counts.gradient_evaluations
    room = Room(start.point.theta, 0.01)
    end = TrustRegionSteps(RULE).advance(objective, start, 100, room)
    assert 0.9 * 0.01 <= norm(end.point.theta - start.point.theta) <= 0.01 * (1 + 1e-12)
    assert objective.counts.gradient_evaluations - before < 5
    assert end.radius >= start.radius


VARIANTS = {
    "three levels": {},
    "V-cycle": {"cycle": "V"},
    "two levels": {"levels": 2},
    "single level": {"levels": 1},
    "linear": {"transfer": "linear"},
    "line search": {"control": "line-search"},
    "linear model": {"model": "linear"},
    "hessian": {"model": "hessian", "levels": 2, "coarse_steps": 1, "cg_iterations": 4},
    "cascade": {"cascade": cascade(1.0, 1.0)},
    "cascade of steps": {"cascade": cascade(2.0, 1.0, steps=3)},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_descends_monotonically_on_all_samples(variant):
    options = VARIANTS[variant]
    problem = problem_of(blocks=5 if "transfer" in options else 4)
    solver = solver_of(problem, **WHOLE, **options)
    theta = problem.make_initial_parameters(0)
    states, records = run(solver, theta, 5)
    finest = [record.loss for record in records if record.details["level"] == solver.options.levels]
    assert all(after <= before for before, after in pairwise(finest))
    at = objective_of(problem).evaluate
    assert finest[-1] < 0.9 * at(theta).loss
    assert at(states[-1].point.theta).loss == pytest.approx(finest[-1], rel=1e-12)


def test_a_step_is_as_long_as_the_way_of_a_whole_cycle():
    problem = problem_of()
    states, records = run(solver_of(problem, batch_size=20), problem.make_initial_parameters(0), 4)
    for (old, new), record in zip(pairwise(states), records, strict=True):
        assert record.step_length == norm(new.point.theta - old.point.theta)
    assert any(record.step_length > 0 for record in records)


def test_convolutional_networks_descend_too():
    problem = problem_of(CONVOLUTIONAL, 2)
    solver = solver_of(problem, levels=2, coarse_steps=4, **WHOLE)
    _, records = run(solver, problem.make_initial_parameters(0), 3)
    assert records[-1].loss < 0.999 * records[0].loss


def test_a_single_level_is_the_trust_region_solver():
    problem = problem_of()
    theta = problem.make_initial_parameters(0)
    states, _ = run(solver_of(problem, levels=1, pre_smoothing=1, **WHOLE), theta, 6)
    reference = make_solver(Setting(objective_of(problem, CHUNKS)), TrustRegionSolverOptions())
    expected, _ = run(reference, theta, 6)
    for found, wanted in zip(states, expected, strict=True):
        assert torch.equal(found.point.theta, wanted.point.theta)


def test_levels_learn_and_keep_at_most_the_memory():
    problem = problem_of()
    states, _ = run(solver_of(problem, memory=3, **WHOLE), problem.make_initial_parameters(0), 3)
    sizes = [problem.parameters, *(each.parameters for each in coarsened(problem))]
    for level, size in zip(states[-1].levels, sizes, strict=True):
        assert len(level.memory.s) == 3 and all(len(s) == size for s in level.memory.s)


def coarsened(problem, levels=3):
    found = []
    for _ in range(1, levels):
        problem, _ = problem.coarsen("constant")
        found.append(problem)
    return found


def test_a_single_level_with_batches_spends_one_unit_of_a_batch_a_gradient():
    problem = problem_of()
    solver = solver_of(problem, levels=1, batch_size=15)
    state = solver.init(problem.make_initial_parameters(0))
    _, record = solver.step(state)
    # The gradient at θ on the new batch, and those of two trials.
    assert record.nominal_gradient_evaluations == pytest.approx(3 * 15 / 60)


def test_coarse_gradients_cost_what_their_networks_do():
    """One visit of the coarse level of two: its gradient at θ₀ and at the trial of a step."""
    problem = problem_of()
    steps = {"levels": 2, "pre_smoothing": 1, "post_smoothing": 0}
    solver = solver_of(problem, coarse_steps=1, kappa=0, **steps, **WHOLE)
    state = solver.init(problem.make_initial_parameters(0))
    new, record = solver.step(state)
    assert norm(new.point.theta - state.point.theta) > 0
    [coarse] = coarsened(problem, 2)
    costs = [problem_share.gradient_cost for problem_share in map(share_of, (problem, coarse))]
    # On the fine level: the smoothing step's, and the accepted correction's.
    expected = 2 + 2 * costs[1] / costs[0]
    assert record.nominal_gradient_evaluations == pytest.approx(expected)
    assert 0.5 < costs[1] / costs[0] < 1


def share_of(problem):
    return problem.share(CHUNKS, 0, 1, 1)


def test_a_level_with_too_small_a_restricted_gradient_costs_nothing():
    problem = problem_of()
    never = solver_of(problem, levels=2, kappa=0.999999, post_smoothing=0, **WHOLE)
    never.hierarchy.transfers[0].restrict = lambda g: (
        0.5 * g[: never.hierarchy.networks[1].parameters]
    )
    [_, state], [record] = run(never, problem.make_initial_parameters(0), 1)
    assert record.nominal_gradient_evaluations == 2
    assert not state.levels[1].memory.s


@pytest.mark.parametrize(("zeta", "sizes"), [(0.999, [15, 30, 60, 60]), (0.0, [15, 15, 15, 15])])
def test_batches_grow_where_their_decreases_mislead(zeta, sizes):
    """Steps on one batch after another never lower the whole loss as much as their own."""
    problem = problem_of()
    small = RadiusOptions(radius=0.05, max_radius=0.05)
    options = {"levels": 2, "batch_size": 15, "zeta": zeta, "trust_region": small}
    states, _ = run(solver_of(problem, **options), problem.make_initial_parameters(0), 16)
    firsts = {}
    for state in states:
        firsts.setdefault(state.epoch.number, state.epoch.batch_size)
    assert list(firsts.values())[:4] == sizes


def test_an_epoch_is_a_pass_over_the_samples_and_sums_decreases():
    problem = problem_of()
    states, records = run(solver_of(problem, batch_size=20), problem.make_initial_parameters(0), 3)
    assert [record.epoch for record in records] == pytest.approx([1 / 3, 2 / 3, 1])
    assert [record.details["batch_size"] for record in records] == [20] * 3
    assert states[2].epoch.index == 2 and states[2].epoch.decreases > states[1].epoch.decreases > 0
    assert (states[3].epoch.number, states[3].epoch.index, states[3].epoch.decreases) == (1, 0, 0)
    whole = objective_of(problem).evaluate(states[3].point.theta).loss
    assert states[3].epoch.loss == pytest.approx(whole, rel=1e-13)


def test_a_cascade_trains_the_coarsest_network_first_and_prolongs_it():
    problem = problem_of()
    solver = solver_of(problem, cascade=cascade(3.0, 1.0), batch_size=30, zeta=0)
    states, records = run(solver, problem.make_initial_parameters(0), 9)
    levels = [record.details["level"] for record in records]
    assert levels == [1, 1, 1, 1, 1, 1, 2, 2, 3]
    assert all(len(state.point.theta) == problem.parameters for state in states)
    # While it was trained, all blocks that stem from one of the coarsest network are alike.
    blocks = states[5].point.theta[36 * 6 + 6 :][: 4 * 42].view(4, 42)
    assert torch.equal(blocks, blocks[:1].expand(4, 42))
    later = states[7].point.theta[36 * 6 + 6 :][: 4 * 42].view(4, 42)
    assert torch.equal(later[0::2], later[1::2]) and not torch.equal(later[0], later[2])
    assert states[8].depth == 0 and states[8].trained is None
    assert records[-1].loss < records[0].loss


def test_the_coarsest_network_makes_its_coarse_steps_while_it_is_trained():
    problem = problem_of()
    options = {"pre_smoothing": 0, "coarse_steps": 3, "cascade": cascade(1.0, 1.0)}
    solver = solver_of(problem, batch_size=30, **options)
    _, records = run(solver, problem.make_initial_parameters(0), 1)
    fine, coarse = objective_of(problem), solver.hierarchy.networks[-1]
    cost = coarse._share.gradient_cost / fine._share.gradient_cost
    # Where the mini-batch begins, and after each step.
    assert records[0].nominal_gradient_evaluations == pytest.approx((1 + 3) * cost * 30 / SAMPLES)


def test_a_stage_of_steps_leaves_the_coarser_levels_alone_and_may_end_within_an_epoch():
    problem = problem_of()
    stages = [
        Stage(level=2, epochs=1.5, batch_size=15, steps=3),
        Stage(level=3, epochs=0.5, batch_size=30, steps=2),
    ]
    solver = solver_of(problem, cascade=stages, batch_size=20, zeta=0)
    states, records = run(solver, problem.make_initial_parameters(0), 8)
    assert [record.details["level"] for record in records] == [2, 2, 2, 2, 2, 2, 3, 3]
    assert [record.details["batch_size"] for record in records] == [15] * 6 + [30, 20]
    assert [record.epoch for record in records[5:]] == pytest.approx([1.5, 2, 2 + 1 / 3])
    assert [state.epoch.number for state in states] == [0, 0, 0, 0, 1, 1, 2, 3, 3]
    middle = solver.hierarchy.networks[1]
    cost = middle._share.gradient_cost / solver.setting.objective._share.gradient_cost
    assert records[1].nominal_gradient_evaluations == pytest.approx((1 + 3) * cost * 15 / SAMPLES)
    assert records[6].nominal_gradient_evaluations >= (1 + 2) * 30 / SAMPLES
    assert not states[7].levels[2].memory.s and states[8].levels[2].memory.s


def test_a_stage_shorter_than_the_epoch_that_its_batches_fill_leaves_their_size():
    problem = problem_of()
    stages = [Stage(level=3, epochs=1.0), Stage(level=3, epochs=0.9), Stage(level=3, epochs=0.5)]
    solver = solver_of(problem, cascade=stages, batch_size=20, zeta=0)
    states, _ = run(solver, problem.make_initial_parameters(0), 7)
    assert [state.stage for state in states] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert states[6].epoch.batch_size == 20 and states[6].epoch.number == 2


def test_a_finer_network_begins_with_what_was_learnt_on_the_coarser_one():
    """Its pairs are I s and Pᵀ y, and its B is that of the coarser one: (I s)ᵀ B I s = sᵀ B_c s."""
    problem = problem_of()
    solver = solver_of(problem, levels=2, cascade=cascade(1.0, steps=4), batch_size=30)
    states, _ = run(solver, problem.make_initial_parameters(0), 2)
    [fine, coarse] = states[2].levels
    transfer = solver.hierarchy.transfers[0]
    assert states[1].depth == 1 and states[2].depth == 0 and len(fine.memory.s) > 1
    assert fine.radius == pytest.approx(transfer.stretch * coarse.radius)
    s, y = coarse.memory.s[-1], coarse.memory.y[-1]
    assert torch.equal(fine.memory.s[-1], transfer.prolong(s))
    torch.testing.assert_close(transfer.restrict(fine.memory.y[-1]), y)
    product = fine.memory.hessian.multiply_vector(transfer.prolong(s))
    assert dot(product, transfer.prolong(s)) == pytest.approx(dot(y, s), rel=1e-6)


@pytest.mark.parametrize("make", [DENSE, CONVOLUTIONAL])
def test_a_fitted_network_comes_nearer_to_the_one_it_begins_from_than_a_copied_one(make):
    fine = problem_of(make, 4)
    L = objective_of(fine, CHUNKS)
    coarse, transfer = coarsen(L, "constant")
    theta = 2 * fine.coarsen("constant")[0].make_initial_parameters(0)
    before = L.counts.loss_work
    fitted = transfer.refine(theta, sum_half_step_systems(coarse, theta))
    share = coarse._share
    assert L.counts.loss_work - before == share.half_step_cost
    copied = transfer.prolong(theta)

    def outputs(loss, theta):
        loss.sum_losses(theta)  # puts θ into the replicas
        return loss._outputs(loss._replicas[0], 0)

    def missed(refined):
        return (outputs(L._share, refined) - outputs(share, theta)).norm()

    assert missed(fitted) < 0.6 * missed(copied)
    # The first of the two half steps stays as it was, and what all levels share.
    [run, *_] = [each for each in fine.network.runs if each.depth]
    start = fine.network.runs[0].numbers
    blocks, copies = (
        each[start : start + run.numbers].view(4, run.size) for each in (fitted, copied)
    )
    assert torch.equal(blocks[0::2], copies[0::2]) and not torch.equal(blocks, copies)
    assert torch.equal(fitted[:start], theta[:start])


def test_the_work_of_a_fit_is_two_maps_and_a_gram_matrix_for_each_block():
    coarse, _ = coarsen(objective_of(problem_of(DENSE, 4), CHUNKS), "constant")
    layers, q = [36 * 6, 36, 36, 6 * CLASSES], 6
    gram = (q + 1) * (q + 1 + 6)
    wanted = sum(layers) + 2 * (2 * 36 + gram)
    assert coarse._share.half_step_cost == pytest.approx(wanted)


def test_a_finer_network_is_fitted_unless_copies_are_asked_for():
    problem = problem_of()
    found = {}
    for samples in (0, 20, 1000):
        solver = solver_of(problem, levels=2, cascade=cascade(1.0), fit_samples=samples, **WHOLE)
        found[samples] = run(solver, problem.make_initial_parameters(0), 1)[0][1].point.theta
    blocks = {key: each[36 * 6 + 6 :][: 4 * 42].view(4, 42) for key, each in found.items()}
    assert torch.equal(blocks[0][0::2], blocks[0][1::2])
    assert not torch.equal(blocks[20], blocks[1000])
    for each in blocks.values():
        assert torch.equal(each[0::2], blocks[0][0::2])


def test_a_state_taken_apart_and_put_together_goes_on_as_before():
    problem = problem_of()
    for options in ({}, {"cascade": cascade(1.0, 0.7, steps=2)}):
        solver = solver_of(problem, batch_size=20, **options)
        states, _ = run(solver, problem.make_initial_parameters(0), 5)
        for state in (states[1], states[4]):
            leaves = {leaf.path: leaf.value for leaf in flatten(state)}
            restored = unflatten(solver.init(problem.make_initial_parameters(1)), leaves)
            found, expected = solver.step(restored)[0], solver.step(state)[0]
            assert torch.equal(found.point.theta, expected.point.theta)
            assert found.epoch == expected.epoch
            assert [each.reach for each in found.levels] == [each.reach for each in expected.levels]


def test_at_a_minimum_the_solver_says_that_it_is_stalled():
    loss = random_quadratic(6)
    solver = make_solver(Setting(objective_of_quadratic(loss)), RMTROptions(levels=1, batch_size=4))
    state = solver.init(torch.ones(6, dtype=torch.float64))
    for _ in range(100):
        state, record = solver.step(state)
        if record.outcome.is_final:
            break
    assert record.outcome.is_final and record.gradient_norm < 1e-6


@pytest.mark.parametrize(
    ("size", "outcome"), [(2, Outcome.SAMPLES_EXHAUSTED), (4, Outcome.NO_DECREASE_FORESEEN)]
)
def test_what_ends_the_steps_on_some_samples_ends_no_run(size, outcome):
    setting = Setting(objective_of_quadratic(random_quadratic(6)))
    solver = make_solver(setting, RMTROptions(levels=1, batch_size=size))
    state = solver.init(torch.ones(6, dtype=torch.float64))
    ended = replace(state, outcome=Outcome.NO_DECREASE_FORESEEN)
    assert solver._record(state, ended, ended, 1).outcome is outcome


def test_a_gradient_is_lifted_to_a_finer_network_on_which_it_is_restricted_to_itself():
    problem = problem_of()
    solver = solver_of(problem, cascade=cascade(1.0, 1.0), levels=2, batch_size=30)
    state = solver.init(problem.make_initial_parameters(0))
    finer = solver._refine_network(state)
    found = solver.hierarchy.transfers[0].restrict(finer.point.gradient)
    torch.testing.assert_close(found, state.trained.gradient, rtol=1e-13, atol=1e-15)


BAD = {
    "pre_smoothing of at least 1": {"levels": 1, "pre_smoothing": 0},
    "its levels must not fall, nor exceed 3": {"cascade": cascade(1.0, 1.0)[::-1]},
    "its levels must not fall, nor exceed 2": {"levels": 2, "cascade": cascade(1.0, 1.0, 1.0)},
}


@pytest.mark.parametrize("message", BAD)
def test_settings_that_contradict_each_other_are_refused(message):
    with pytest.raises(ValidationError, match=message):
        RMTROptions(**BAD[message])


def test_several_levels_of_a_problem_without_coarser_networks_are_refused():
    objective = objective_of_quadratic(random_quadratic(8))
    with pytest.raises(InputError, match=r"^solver.levels = 3 is not allowed: this problem has no"):
        make_solver(Setting(objective), RMTROptions(batch_size=2))


def test_more_levels_than_the_network_can_be_halved_are_refused():
    problem = problem_of(blocks=6)
    with pytest.raises(InputError, match=r"^solver.levels = 3 is not allowed: .*3"):
        make_solver(Setting(objective_of(problem, CHUNKS)), RMTROptions(batch_size=20))
