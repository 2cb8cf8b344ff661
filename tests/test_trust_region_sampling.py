"""The trust region with L, g and B of samples, and with a nonmonotone acceptance."""

from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from quadratic import minimum, objective_of, random_quadratic

from hpctrain.errors import InputError
from hpctrain.methods.sampling.subsets import draw_subset
from hpctrain.methods.trust_region.control import (
    TrustRegionOptions,
    find_reference_loss,
    judge,
    slide_window,
)
from hpctrain.objective import evaluate_point
from hpctrain.solvers import Setting, make_solver
from hpctrain.solvers.trust_region import TrustRegionSolverOptions
from hpctrain.store.state import flatten, unflatten

N, SAMPLES = 10, 32


def ones():
    return torch.ones(N, dtype=torch.float64)


def quadratic():
    return random_quadratic(N, samples=SAMPLES, spread=0.5)


def options(**settings):
    return TrustRegionSolverOptions(debug=True, **settings)


def steps(o, loss, count):
    solver = make_solver(Setting(objective_of(loss)), o)
    states, records = [solver.init(ones())], []
    for _ in range(count):
        state, record = solver.step(states[-1])
        states.append(state)
        records.append(record)
    return solver, states, records


SAMPLED = {
    "B": options(model="hessian", sampling="hessian", sample_size=8),
    "B by lsr1": options(model="lsr1", sampling="hessian", sample_size=8),
    "g and B": options(model="lsr1", sampling="derivatives", sample_size=24),
    "g": options(model="linear", sampling="derivatives", sample_size=24),
    "all, growing": options(model="lsr1", sampling="growing", sample_size=4),
    "all, growing, infinity norm": options(
        model="hessian",
        sampling="growing",
        sample_size=4,
        trust_region=TrustRegionOptions(norm="inf"),
    ),
    "mini-batches": options(model="lsr1", batch_size=16, batch_overlap=25.0),
}


@pytest.mark.parametrize("case", SAMPLED)
def test_it_comes_near_the_minimum_and_never_ends_on_a_samples_word(case):
    loss = quadratic()
    _, states, records = steps(SAMPLED[case], loss, 60)
    objective = objective_of(loss)
    best, first = objective.evaluate(minimum(loss)).loss, objective.evaluate(ones()).loss
    assert objective.evaluate(states[-1].point.theta).loss - best < 0.05 * (first - best)
    assert not any(record.outcome.is_final for record in records)


@pytest.mark.parametrize("case", SAMPLED)
def test_it_goes_on_from_its_stored_state_as_if_never_stored(case):
    solver, states, _ = steps(SAMPLED[case], quadratic(), 4)
    leaves = {leaf.path: leaf.value for leaf in flatten(states[-1])}
    expected, _ = solver.step(states[-1])
    fresh = make_solver(Setting(objective_of(quadratic())), SAMPLED[case])
    found, _ = fresh.step(unflatten(fresh.init(ones()), leaves))
    assert torch.equal(found.point.theta, expected.point.theta)


@pytest.mark.parametrize("case", ["B", "B by lsr1", "g and B", "g"])
def test_where_the_loss_is_of_all_samples_it_never_rises(case):
    loss = quadratic()
    _, states, _ = steps(SAMPLED[case], loss, 20)
    losses = [objective_of(loss).evaluate(state.point.theta).loss for state in states]
    assert all(after <= before + 1e-14 for before, after in pairwise(losses))
    assert states[-1].point.loss == pytest.approx(losses[-1])


def test_a_sampled_hessian_with_all_samples_is_the_exact_one():
    loss = quadratic()
    exact = steps(options(model="hessian"), loss, 6)[1][-1]
    sampled = steps(options(model="hessian", sampling="hessian", sample_size=SAMPLES), loss, 6)
    torch.testing.assert_close(sampled[1][-1].point.theta, exact.point.theta, rtol=1e-9, atol=1e-10)


def test_a_sampled_gradient_is_that_of_the_steps_sample():
    loss = quadratic()
    solver, [_, state], _ = steps(
        options(model="linear", sampling="derivatives", sample_size=5), loss, 1
    )
    sample = objective_of(loss).subset(draw_subset(0, SAMPLES, 5, 0))
    g = evaluate_point(sample, ones()).gradient
    moved = state.point.theta - ones()
    torch.testing.assert_close(moved, -g / g.norm(), rtol=1e-9, atol=1e-12)
    assert solver.setting.counts.gradient_evaluations == pytest.approx(1 + 5 / SAMPLES)
    assert solver.setting.counts.loss_evaluations == 1


def test_growing_samples_grow_with_short_steps_at_most_twofold_and_never_shrink():
    _, states, _ = steps(SAMPLED["all, growing"], quadratic(), 30)
    sizes = [state.sample_size for state in states]
    assert sizes[0] == 4
    assert sizes[-1] == SAMPLES
    assert all(a <= b <= 2 * a for a, b in pairwise(sizes))


GRADIENTS = {  # of a step that is taken, of one that is refused
    ("lsr1", "exact"): (1, 1),
    ("linear", "exact"): (1, 0),
    ("hessian", "exact"): (1, 0),
    ("lsr1", "hessian"): (1, 0),
    ("lsr1", "derivatives"): (1, 1),
    ("linear", "derivatives"): (1, 1),
    ("lsr1", "growing"): (2, 2),
    ("linear", "growing"): (1, 1),
}


@pytest.mark.parametrize(("model", "sampling"), GRADIENTS)
def test_a_step_counts_the_gradients_that_it_evaluates_of_what_g_is_of(model, sampling):
    some = {} if sampling == "exact" else {"sample_size": 24}
    o = options(
        model=model, sampling=sampling, trust_region=TrustRegionOptions(radius=50.0), **some
    )
    _, states, records = steps(o, quadratic(), 30)
    seen = {True: set(), False: set()}
    for state, record in zip(states[1:], records, strict=True):
        seen[state.step_length > 0].add(record.nominal_gradient_evaluations)
    taken, refused = GRADIENTS[model, sampling]
    assert seen[True] == {taken} and seen[False] <= {refused}


def test_settings_without_a_meaning_are_refused():
    with pytest.raises(ValidationError, match="which model"):
        options(model="linear", sampling="hessian")
    with pytest.raises(ValidationError, match="not batch_size"):
        options(sampling="growing", batch_size=4)
    with pytest.raises(InputError, match="at most 32, the number of samples"):
        steps(options(sampling="growing", sample_size=33), quadratic(), 0)


# Nonmonotone acceptance


def test_the_reference_is_the_greatest_of_the_last_losses_with_the_present_one():
    window, losses = [], [5.0, 3.0, 4.0, 1.0, 0.5]
    for old, new in pairwise(losses):
        window = slide_window(window, old - new, 3)
        assert len(window) <= 2
    assert find_reference_loss(window, losses[-1]) == 4.0
    assert find_reference_loss(slide_window([], -1.0, 3), 2.0) == 2.0
    assert slide_window([], 5.0, 1) == []
    assert find_reference_loss([], 2.0) == 2.0


@pytest.mark.parametrize(
    "trial, accepted",
    [(1.5, True), (1.74, True), (1.76, False), (2.5, False), (float("nan"), False)],
)
def test_a_trial_is_taken_below_the_reference_by_a_part_of_the_predicted_decrease(trial, accepted):
    """L = 1, reference 2, predicted 1, η₁ = 0.25: what is at most 1.75."""
    o = TrustRegionOptions()
    verdict = judge(1.0, trial, 1.0, 1.0, 1.0, 0.0, o, reference=2.0)
    assert verdict.accepted is accepted
    assert verdict.radius == (1.0 if accepted else 0.5)
    assert not judge(1.0, trial, 1.0, 1.0, 1.0, 0.0, o).accepted


def test_the_radius_grows_by_the_ratio_itself():
    o = TrustRegionOptions()
    assert judge(1.0, 0.1, 1.0, 1.0, 1.0, 0.0, o, reference=2.0).radius == 2.0
    assert judge(1.0, 0.4, 1.0, 1.0, 1.0, 0.0, o, reference=2.0).radius == 1.0
