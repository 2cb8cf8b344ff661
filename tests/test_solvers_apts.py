"""APTS in data and in weights: the invariants of their steps, on quadratics and a small network."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from apts import (
    ALL,
    FREE,
    MODELS,
    SAMPLES,
    VARIANTS,
    N,
    coupled,
    data,
    logistic,
    ones,
    overshooting,
    quadratic,
    solver_of,
    steps,
    watch_sums,
    watch_trials,
    weights,
    wide_objective,
)
from pydantic import ValidationError
from quadratic import minimum, objective_of

from hpctrain.errors import InputError
from hpctrain.job.settings import load_job, parse_job, write_toml
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.sampling.shares import Share, draw_shares
from hpctrain.methods.trust_region.control import RadiusOptions
from hpctrain.methods.trust_region.options import make_rule
from hpctrain.methods.trust_region.sampled import Exact, TrustRegionState, make_step
from hpctrain.methods.trust_region.subproblem import follow_gradient, length
from hpctrain.methods.trust_region.trials import ForcedDecrease, RatioControl, Trial
from hpctrain.objective import Counts, Evaluation, Objective, Point, evaluate_point
from hpctrain.parallel.communicator import Communicator
from hpctrain.solvers.apts_weights import APTSWeightsOptions
from hpctrain.store.state import flatten, unflatten

JOBS = sorted((Path(__file__).parents[1] / "jobs" / "apts").glob("*.toml"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_quadratic_is_minimised_with_decrease_in_every_step(variant):
    loss = quadratic(spread=0.5)
    states, _ = steps(VARIANTS[variant], loss, 25)
    losses = [state.point.loss for state in states]
    assert all(b <= a + 1e-13 for a, b in pairwise(losses))
    best = objective_of(loss).evaluate(minimum(loss)).loss
    assert losses[-1] - best < 1e-2 * (losses[0] - best)


@pytest.mark.parametrize("variant", VARIANTS)
def test_at_the_minimum_it_stalls_and_stays(variant):
    loss = quadratic()
    solver = solver_of(VARIANTS[variant], loss)
    state = solver.init(minimum(loss))
    for _ in range(60):
        state, record = solver.step(state)
        if record.outcome.is_final:
            break
    last = {Outcome.NO_SUBDOMAIN_DECREASE, Outcome.NO_DECREASE_FORESEEN, Outcome.LEAST_RADIUS}
    assert record.outcome.is_final and record.outcome in last
    torch.testing.assert_close(state.point.theta, minimum(loss), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_the_state_says_of_its_point_is_true(variant):
    loss = logistic()
    states, records = steps(VARIANTS[variant], loss, 4)
    there = evaluate_point(wide_objective(loss), states[-1].point.theta)
    assert states[-1].point.loss == pytest.approx(there.loss, rel=1e-12)
    torch.testing.assert_close(states[-1].point.gradient, there.gradient, rtol=1e-12, atol=1e-12)
    assert records[-1].gradient_norm == pytest.approx(float(there.gradient.norm()))


@pytest.mark.parametrize("variant", ALL)
def test_it_goes_on_from_its_stored_state_as_if_never_stored(variant):
    loss = logistic()
    solver = solver_of(ALL[variant], loss)
    state = solver.init(ones())
    for _ in range(3):
        state, _ = solver.step(state)
    leaves = {leaf.path: leaf.value for leaf in flatten(state)}
    leaves = {p: v.clone() if isinstance(v, torch.Tensor) else v for p, v in leaves.items()}
    fresh = solver_of(ALL[variant], loss)
    found = unflatten(fresh.init(ones()), leaves)
    for _ in range(2):
        state, _ = solver.step(state)
        found, _ = fresh.step(found)
    assert torch.equal(found.point.theta, state.point.theta)
    assert found.radius == state.radius


@pytest.mark.parametrize("variant", ALL)
def test_every_trial_keeps_its_radius_and_every_radius_its_limits(variant):
    loss, o = logistic(), ALL[variant]
    region, kind = o.trust_region, o.trust_region.norm
    solver = solver_of(o, loss)
    control, subdomains = watch_trials(solver), watch_sums(solver)
    state = solver.init(ones())
    for _ in range(12):
        radius = state.radius
        state, _ = solver.step(state)
        assert length(control.trials[-1].step, kind) <= radius * (1 + 1e-12)
        budget = subdomains.limit_step(radius) * (1 + 1e-12)
        assert all(length(step, kind) <= budget for step in subdomains.steps)
        assert region.min_radius <= state.radius <= region.max_radius
        assert region.min_radius <= state.global_radius <= region.max_radius
    assert any(length(trial.step, kind) > 0 for trial in control.trials)


@pytest.mark.parametrize("options", [data(subdomains=4, sample_overlap=10.0), weights(blocks=4)])
@pytest.mark.parametrize("chosen", [None, torch.tensor([1, 4, 6])])
def test_the_gradient_of_every_local_model_is_the_global_one(options, chosen):
    loss = logistic()
    solver = solver_of(options, loss)
    L = wide_objective(loss) if chosen is None else wide_objective(loss).subset(chosen)
    point = evaluate_point(L, ones())
    for p in solver.subdomains.own:
        local = solver.subdomains.pose_problem(p, L, chosen, point)
        if local is None:
            continue
        there = local.objective.evaluate_with_gradient(local.start.theta)
        wanted = point.gradient
        if options.name == "apts-weights":
            wanted = solver.subdomains.work.blocks[p].restrict(wanted)
        torch.testing.assert_close(there.evaluate_gradient(), wanted, rtol=1e-13, atol=1e-14)
        torch.testing.assert_close(local.start.gradient, wanted, rtol=1e-13, atol=1e-14)
        assert there.loss == pytest.approx(local.start.loss, rel=1e-13)


def test_without_correction_the_local_gradient_is_that_of_the_share():
    loss = logistic()
    solver = solver_of(data(subdomains=2, first_order_correction=False), loss)
    point = evaluate_point(wide_objective(loss), ones())
    local = solver.subdomains.pose_problem(0, wide_objective(loss), None, point)
    share = (
        wide_objective(loss).subset(draw_shares(0, SAMPLES, 2)[0]).evaluate_with_gradient(ones())
    )
    torch.testing.assert_close(local.start.gradient, share.evaluate_gradient())
    assert not torch.allclose(share.evaluate_gradient(), point.gradient, rtol=0.01)


def test_the_ratio_is_one_where_subdomains_do_not_couple():
    """In weights: on a block-diagonal quadratic the decreases add up exactly."""
    loss = quadratic()
    loss.A = loss.A * torch.block_diag(*[torch.ones(3, 3)] * 4).double()
    solver = solver_of(weights(model="hessian", blocks=4, global_steps=0), loss)
    spy, state = watch_trials(solver), solver.init(ones())
    for _ in range(6):
        state, _ = solver.step(state)
    assert len(spy.ratios) == 6
    assert spy.ratios == pytest.approx([1.0] * 6, rel=1e-9)


def test_the_ratio_is_one_with_one_share_of_all_samples():
    solver = solver_of(data(model="lsr1", subdomains=1, global_steps=0), logistic())
    spy, state = watch_trials(solver), solver.init(ones())
    for _ in range(6):
        state, _ = solver.step(state)
    assert spy.ratios == pytest.approx([1.0] * 6, rel=1e-9)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("local_steps", [1, 3])
def test_one_share_of_all_samples_is_the_plain_trust_region_method(model, local_steps):
    """N = 1: a local phase on h_1 = L is so many steps of the plain method, and is accepted."""
    loss, radius = logistic(), 0.2
    region = {"radius": 4.0, "max_radius": 4.0}
    o = data(
        model=model,
        subdomains=1,
        local_steps=local_steps,
        local_radius=radius / 4.0,
        global_steps=0,
        region=region,
    )
    states, _ = steps(o, loss, 1)
    objective = wide_objective(loss)
    plain = TrustRegionState(evaluate_point(objective, ones()), radius)
    for _ in range(local_steps):
        plain = make_step(Exact(objective), plain, make_rule(o))
    assert float((plain.point.theta - ones()).norm()) > 0
    assert states[1].accepted
    torch.testing.assert_close(states[1].point.theta, plain.point.theta, rtol=1e-12, atol=1e-13)
    assert states[1].local_memory[0].radius == plain.radius


@pytest.mark.parametrize("model", MODELS)
def test_where_nothing_moves_locally_it_is_the_plain_trust_region_method(model):
    """The global step alone, with its own radius and memory."""
    loss = logistic()
    solver = solver_of(data(model=model, subdomains=2), loss)
    watch_sums(solver).pose_problem = lambda *_: None
    state = solver.init(ones())
    objective, o = wide_objective(loss), solver.options
    plain = TrustRegionState(evaluate_point(objective, ones()), o.trust_region.radius)
    for _ in range(8):
        state, _ = solver.step(state)
        plain = make_step(Exact(objective), plain, make_rule(o))
        torch.testing.assert_close(state.point.theta, plain.point.theta, rtol=1e-12, atol=1e-13)
        assert state.global_radius == plain.radius
    assert state.silent == 2


WIDE = {"radius": 1.0, "max_radius": 4.0}


def test_forced_decrease_never_increases_the_loss_and_saves_steps():
    plain = weights(model="linear", blocks=4, global_steps=0, region=WIDE)
    forced = plain.model_copy(update={"forced_decrease": True})
    (first, second), _ = steps(plain, coupled(), 1, overshooting())
    assert not second.accepted
    assert second.point.loss == first.point.loss
    states, records = steps(forced, coupled(), 15, overshooting())
    losses = [state.point.loss for state in states]
    assert states[1].accepted and records[0].outcome is Outcome.DECREASE_FORCED
    assert losses[1] < losses[0]
    assert all(b <= a for a, b in pairwise(losses))


@pytest.mark.parametrize("kind", [2, "inf"])
def test_a_forced_step_stays_within_the_shrunk_radius_and_ends_along_the_gradient(kind):
    """A loss that only -g lowers: all five trials are made."""
    point = Point(torch.zeros(3).double(), 0.0, torch.tensor([3.0, -2.0, 1.0]).double())
    tried = []

    class Ridge:
        def evaluate(self, theta):
            tried.append(theta)
            return Evaluation(self, theta, 1.0 if len(tried) < 5 else -1.0)

    first = Trial(torch.tensor([0.0, 0.5, 0.5]).double(), 1.0, None)
    found = ForcedDecrease(0.5, kind)(Ridge(), point, first, 1.0)
    assert len(tried) == 5 and found.forced and found.evaluation.loss == -1.0
    for j, s in enumerate(tried, start=1):
        assert length(s, kind) <= 0.5**j * (1 + 1e-12)
    torch.testing.assert_close(found.step, follow_gradient(point.gradient, 0.5**5, kind))
    assert found.predicted == pytest.approx(-float(point.gradient @ found.step))


def test_a_trial_that_does_not_raise_the_loss_is_not_shortened():
    point = Point(torch.zeros(2).double(), 1.0, torch.ones(2).double())
    trial = Trial(-torch.ones(2).double(), 1.0, Evaluation(None, point.theta, 1.0))
    assert ForcedDecrease(0.5, 2)(None, point, trial, 1.0) is trial


@pytest.mark.parametrize("loss, taken", [(0.5, True), (1.0, False), (1.5, False)])
def test_after_a_forced_trial_the_radius_shrinks_whether_it_is_taken_or_not(loss, taken):
    point = Point(torch.zeros(2).double(), 1.0, torch.ones(2).double())
    s = -0.1 * torch.ones(2).double()
    trial = Trial(s, 0.2, Evaluation(None, s, loss), forced=True)
    decision = RatioControl(RadiusOptions()).decide(point, trial, 0.8, [])
    assert (decision.accepted, decision.radius) == (taken, 0.4)


def test_the_radius_follows_the_ratio_alone():
    """Δ/2 below 0.25, 2 Δ above 0.75, both within its limits, however short the trial is."""
    factors = set()
    for loss, start, largest in ((coupled(), overshooting(), 4.0), (logistic(), ones(), 0.5)):
        region = {"radius": 0.2, "min_radius": 0.15, "max_radius": largest}
        solver = solver_of(weights(model="linear", blocks=4, global_steps=0, region=region), loss)
        spy, state = watch_trials(solver), solver.init(start)
        for _ in range(8):
            before, (state, _) = state.radius, solver.step(state)
            rho = spy.ratios.pop()
            factor = 0.5 if rho < 0.25 else 2.0 if rho > 0.75 else 1.0
            expected = min(max(factor * before, 0.15), largest)
            assert state.radius == pytest.approx(expected, rel=1e-12)
            assert state.accepted == (rho >= 0.25)
            factors |= {factor, state.radius}
    assert {0.5, 1.0, 2.0} <= factors  # and both limits are met
    assert {0.15, 0.4, 0.5} <= factors


def test_a_step_was_taken_where_the_trial_or_a_global_step_after_it_was():
    options = weights(model="linear", blocks=4, region=FREE)
    states, records = steps(options, coupled(), 8, overshooting())
    seen = set()
    for state, record in zip(states[1:], records, strict=True):
        assert (record.outcome is Outcome.ACCEPTED) == (record.step_length > 0)
        seen.add((state.accepted, record.outcome))
    assert {(False, Outcome.ACCEPTED), (True, Outcome.ACCEPTED)} <= seen


def test_momentum_adds_a_part_of_the_last_trial_to_the_next():
    """s = Σ_p s_p + μ v, shortened to Δ; v is the last trial that was taken."""
    solver = solver_of(data(model="lsr1", momentum=0.5, global_steps=0, region=FREE), logistic())
    control, subdomains = watch_trials(solver), watch_sums(solver)
    state, v, shortened = solver.init(ones()), torch.zeros(len(ones())).double(), set()
    for _ in range(8):
        radius, (state, _) = state.radius, solver.step(state)
        s = subdomains.sum + 0.5 * v
        shortened |= {bool(s.norm() > radius)}
        s = s * min(1.0, radius / float(s.norm()))
        torch.testing.assert_close(control.trials[-1].step, s, rtol=1e-12, atol=1e-15)
        v = control.trials[-1].step if state.accepted else v
    assert float(v.norm()) > 0 and False in shortened


def test_without_global_control_every_finite_trial_is_taken_and_the_radius_stays():
    o = weights(model="linear", blocks=4, global_steps=0, global_control=False, region=WIDE)
    states, _ = steps(o, coupled(), 5, overshooting())
    assert all(state.accepted for state in states[1:])
    assert all(state.radius == 1.0 for state in states)
    assert any(b.point.loss > a.point.loss for a, b in pairwise(states))


def test_the_window_lets_pass_what_lies_below_its_greatest_loss_and_no_more():
    """ρ from the greatest of the last W losses; each state's window holds the W - 1 before."""
    size = 3
    o = weights(model="linear", blocks=4, global_steps=0, window=size, region={"radius": 0.1})
    solver = solver_of(o, coupled())
    control = watch_trials(solver)
    state, history = solver.init(overshooting()), []
    accepted_above = 0
    for _ in range(30):
        old, history = (
            state,
            [*history, state.point.loss] if state.accepted or not history else history,
        )
        state, _ = solver.step(state)
        trial = control.trials[-1]
        if trial.evaluation is None:
            continue
        reference = max(history[-size:])
        allowed = reference - trial.evaluation.loss >= 0.25 * trial.predicted * (1 - 1e-9)
        assert state.accepted == allowed
        accepted_above += state.accepted and trial.evaluation.loss > old.point.loss
        assert len(state.window) <= size - 1
    assert accepted_above > 0


class NotFinite(Objective):
    """A share whose loss is NaN everywhere."""

    def evaluate_with_gradient(self, theta):
        found = super().evaluate_with_gradient(theta)
        return Evaluation(self, theta, math.nan, math.nan * found.evaluate_gradient())

    def evaluate(self, theta):
        return Evaluation(self, theta, math.nan)


@pytest.mark.parametrize("model", MODELS)
def test_a_share_that_is_not_finite_contributes_nothing_and_says_so(model):
    loss, o = logistic(), data(model=model, subdomains=2, global_steps=0)
    solver = solver_of(o, loss)
    shares = solver.subdomains.work.own
    share = shares[1]
    broken = NotFinite(loss.subset(share.samples), Communicator(), 4, SAMPLES, Counts(1, 3))
    shares[1] = Share(share.samples, broken)
    state = solver.init(ones())
    for _ in range(3):
        old, (state, _) = state, solver.step(state)
        assert state.silent == 1
        assert state.point.loss < old.point.loss
        assert math.isfinite(state.point.loss)


def test_a_share_without_samples_in_the_batch_contributes_nothing():
    states, _ = steps(data(model="linear", subdomains=8, batch_size=3), logistic(), 4)
    assert all(state.silent >= 5 for state in states[1:])
    assert any(state.accepted for state in states)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_subdomain_without_a_way_down_is_not_silent(variant):
    loss = quadratic()
    loss.b.zero_()
    states, _ = steps(VARIANTS[variant], loss, 1, 0 * ones())
    assert states[-1].silent == 0


def test_mini_batches_go_through_all_samples_and_lower_the_whole_loss():
    loss, whole = logistic(), wide_objective(logistic())
    states, records = steps(data(model="lsr1", batch_size=4), loss, 20)
    assert [record.epoch for record in records[:4]] == [0.5, 1.0, 1.5, 2.0]
    assert whole.evaluate(states[-1].point.theta).loss < 0.5 * whole.evaluate(ones()).loss


def test_work_is_counted_in_whole_evaluations():
    """Linear, N = 2: each share's gradients are half ones; 1 at the start, 5 at most beside it."""
    loss = logistic()
    solver = solver_of(data(model="linear", subdomains=2, global_steps=0, local_steps=1), loss)
    state, counts = solver.init(ones()), solver.setting.counts
    for _ in range(2):
        before = counts.gradient_evaluations, counts.loss_evaluations
        state, _ = solver.step(state)
        # Two halves at θ_k and the trial with its gradient; two halves of a loss at local trials.
        assert counts.gradient_evaluations - before[0] == pytest.approx(2.0)
        assert counts.loss_evaluations - before[1] == pytest.approx(1.0)


def test_shares_are_disjoint_and_cover_the_samples_and_overlap_as_asked():
    shares = draw_shares(3, 100, 4)
    assert sorted(torch.cat(shares).tolist()) == list(range(100))
    assert [len(share) for share in shares] == [25] * 4
    wider = draw_shares(3, 100, 4, overlap=20.0)
    for own, wide in zip(shares, wider, strict=True):
        assert len(wide) == 25 + 15
        assert set(own.tolist()) < set(wide.tolist())
        assert wide.tolist() == sorted(set(wide.tolist()))


def test_contradictory_settings_are_refused():
    with pytest.raises(ValidationError, match="forced_decrease"):
        APTSWeightsOptions(forced_decrease=True, window=2)
    with pytest.raises(InputError, match=r"solver\.batch_size = 9 is not allowed: at most 8"):
        solver_of(data(batch_size=9), logistic())


def test_a_solver_describes_its_subdomains_and_its_control():
    lines = solver_of(data(model="lsr1", subdomains=4, sample_overlap=5.0), logistic()).describe()
    assert lines[0] == "apts-data: 4 shares of the samples, overlap 5 %, all parameters"
    assert "L-SR1 model, 5 secant pairs, OBS" in lines[1]
    lines = solver_of(weights(blocks=4, window=3, global_control=False), logistic()).describe()
    assert lines[0] == "apts-weights: 4 blocks of layers (n_p = 3, 3, 3, 3), all samples"
    assert "taken without control" in lines[2]
    assert "nonmonotone: rho by the greatest of 3 losses" in lines


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_the_jobs_of_the_published_figures_are_valid(path):
    job = load_job(path)
    assert job.solver_name == f"apts-{path.stem.split('-')[0]}"
    assert parse_job(write_toml(job), "again") == job


@pytest.mark.parametrize(
    "options, gradients",
    [
        (data(model="lsr1", local_steps=3, global_steps=2), 3 + 1 + 2),
        (weights(model="linear", blocks=4, local_steps=5, global_steps=0), 5 + 1),
        (data(model="linear", batch_size=4, local_steps=3, global_steps=2), (1 + 3 + 1 + 2) / 2),
        (weights(model="linear", batch_size=4, batch_overlap=50.0), (1 + 5 + 1 + 1) * 3 / 4),
        (data(model="linear", subdomains=3, sample_overlap=50.0), 5 * (1 + 0.5 * 2) + 1 + 1),
    ],
    ids=["data", "weights", "batches", "overlapping batches", "overlapping shares"],
)
def test_gradients_are_counted_as_if_all_subdomains_worked_at_once(options, gradients):
    """One a local step, the trial and each global step; one more where a batch begins.

    Half of the others come to a mini-batch of 4 of 8 samples, and to each share of 3.
    """
    _, [record] = steps(options, logistic(), 1)
    assert record.nominal_gradient_evaluations == gradients


@pytest.mark.parametrize("model, cost", [("linear", 0), ("lsr1", 5 / 3 * (1 + 1 + 5 * 3 / N))])
def test_updates_of_pairs_are_counted_in_updates_of_three_pairs(model, cost):
    _, [record] = steps(weights(model=model, blocks=4), logistic(), 1)
    assert record.update_cost == pytest.approx(cost)


def test_an_epoch_is_as_many_samples_as_there_are_with_those_that_overlap():
    """Two mini-batches of 4 of 8 samples, each with two of the others: a pass is 1.5 epochs."""
    _, records = steps(weights(model="linear", batch_size=4, batch_overlap=50.0), logistic(), 2)
    assert [record.epoch for record in records] == [0.75, 1.5]
    assert [record.ends_epoch for record in records] == [False, True]
