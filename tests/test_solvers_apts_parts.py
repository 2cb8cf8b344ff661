"""APTS with a local step on every part of a share: the invariants of its steps."""

import pytest
import torch
from apts import SAMPLES, logistic, ones, wide_objective
from quadratic import minimum, random_quadratic

from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.sampling.epochs import batch
from hpctrain.objective import evaluate_point
from hpctrain.solvers import make_solver
from hpctrain.solvers.apts_parts import (
    APTSPartsOptions,
    Moments,
    PartsRegionOptions,
    make_local_steps,
)
from hpctrain.solvers.base import Setting


def options_of(radius=0.1, **settings):
    region = PartsRegionOptions(radius=radius, max_radius=radius, min_radius=1e-9)
    given = {"batch_size": SAMPLES, "parts": 2, "trust_region": region}
    return APTSPartsOptions(**given | settings)


def solver_of(options, loss=None):
    return make_solver(Setting(wide_objective(loss or logistic())), options)


def fresh():
    return Moments(torch.zeros_like(ones()), torch.zeros_like(ones()))


@pytest.mark.parametrize("size", [SAMPLES, 6])
@pytest.mark.parametrize("parts", [1, 3, 7])
def test_the_start_of_all_parts_together_is_loss_and_gradient_of_the_mini_batch(size, parts):
    solver = solver_of(options_of(batch_size=size, parts=parts))
    point, shares = solver._start(ones(), 1)
    count = -(-SAMPLES // size)
    chosen = batch(0, 1 // count, 1 % count, size, SAMPLES)
    wanted = evaluate_point(wide_objective(logistic()).subset(chosen), ones())
    assert point.loss == pytest.approx(wanted.loss, rel=1e-13)
    torch.testing.assert_close(point.gradient, wanted.gradient, rtol=1e-13, atol=1e-14)
    assert sum(len(share.parts) for share in shares.values()) <= min(len(chosen), 2 * parts)


def test_the_corrected_gradient_of_every_part_is_the_global_one_at_the_start():
    """So with steps of no length all of them go along g, whatever the part: m̂ = g."""
    solver = solver_of(options_of(parts=4, beta1=0.5))
    point, shares = solver._start(ones(), 0)
    for share in shares.values():
        assert len(share.parts) > 1
        found = make_local_steps(share.parts, point, 1e-30, fresh(), solver.options)
        t = found.moments.t
        assert t == len(share.parts)
        torch.testing.assert_close(found.moments.m / (1 - 0.5**t), point.gradient)
        part = share.parts[0].gradient
        assert not torch.allclose(part, point.gradient, rtol=0.01)


def test_one_part_of_all_samples_makes_the_steps_of_adam_where_the_radius_allows_them():
    """Adam's first step has length α in every component, its later ones are shorter here."""
    rate, steps = 0.01, 4
    loss = random_quadratic(12, samples=SAMPLES)
    region = PartsRegionOptions(radius=rate, max_radius=rate, min_radius=1e-9, eta1=1e-9, eta2=1e-8)
    o = options_of(subdomains=1, parts=1, trust_region=region)
    solver = solver_of(o, loss)
    state = solver.init(ones())
    theta, m, v = ones(), 0, 0
    for t in range(1, steps + 1):
        state, _ = solver.step(state)
        assert state.accepted
        g = evaluate_point(wide_objective(loss), theta).gradient
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        s = m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        theta = theta - rate * s.clamp(-1, 1)
    torch.testing.assert_close(state.point.theta, theta, rtol=1e-12, atol=1e-13)


def test_a_step_is_the_minimum_of_its_model_in_the_box():
    solver = solver_of(options_of(parts=1))
    point, shares = solver._start(ones(), 0)
    alpha = 0.1
    before = Moments(-3 * point.gradient, 0.5 * point.gradient**2, 5)
    own = make_local_steps(shares[0].parts, point, alpha, before, solver.options)
    m = own.moments.m / (1 - 0.9**6)
    D = (own.moments.v / (1 - 0.999**6)).sqrt() + 1e-8

    def model(s):
        return float(m @ s + 0.5 * s @ (D / alpha * s))

    assert own.decrease == pytest.approx(-model(own.step), rel=1e-12)
    random = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = own.step + 0.01 * torch.randn(len(m), generator=random, dtype=torch.float64)
        assert model(other.clamp(-alpha, alpha)) >= model(own.step)


def test_every_trial_keeps_the_radius_and_what_is_accepted_lowers_the_loss():
    solver = solver_of(options_of(radius=2.0, parts=3))
    state, refused = solver.init(ones()), 0
    for _ in range(15):
        before = state
        state, record = solver.step(before)
        assert record.step_length <= before.radius * (1 + 1e-12)
        if state.accepted:
            L = wide_objective(logistic())
            assert state.point.loss == pytest.approx(L.evaluate(state.point.theta).loss, rel=1e-12)
            assert state.point.loss < before.point.loss
        else:
            refused += 1
            assert state.radius == pytest.approx(0.5 * before.radius)
            assert torch.equal(state.point.theta, before.point.theta)
    assert 0 < refused < 15


def test_the_work_is_a_gradient_at_the_start_one_less_a_part_in_the_phase_and_a_loss():
    solver = solver_of(options_of(parts=4))
    state = solver.init(ones())
    counts = solver.setting.counts
    gradients, losses = counts.gradient_evaluations, counts.loss_evaluations
    solver.step(state)
    assert counts.gradient_evaluations - gradients == pytest.approx(1 + 3 / 4)
    assert counts.loss_evaluations - losses == pytest.approx(1)


@pytest.mark.parametrize("parts", [1, 4])
def test_costs_of_a_step_are_the_start_the_steps_on_parts_and_the_trial(parts):
    solver = solver_of(options_of(parts=parts, batch_size=SAMPLES // 2))
    _, record = solver.step(solver.init(ones()))
    assert record.nominal_gradient_evaluations == pytest.approx((3 - 1 / parts) / 2)
    assert record.update_cost == parts


def test_no_component_moves_further_than_the_decay_allows_and_then_the_run_ends():
    loss = logistic()
    solver = solver_of(options_of(radius=0.1, decay="linear", decay_steps=4), loss)
    state = solver.init(minimum(random_quadratic(12, samples=SAMPLES)))
    for t in range(4):
        state, record = solver.step(state)
        assert record.step_length <= 0.1 * (1 - t / 4) * (1 + 1e-12)
    last, record = solver.step(state)
    assert record.outcome is Outcome.DECAYED and record.outcome.is_final
    assert torch.equal(last.point.theta, state.point.theta)


def test_a_share_without_a_sample_in_the_mini_batch_contributes_nothing():
    solver = solver_of(options_of(batch_size=1, parts=2))
    state = solver.init(ones())
    new, _ = solver.step(state)
    moved = [p for p in (0, 1) if new.moments[p].t > 0]
    assert len(moved) == 1 and new.accepted
    idle = 1 - moved[0]
    assert torch.equal(new.moments[idle].m, state.moments[idle].m)


def test_the_trial_is_the_mean_of_the_shares_steps_by_their_samples():
    solver = solver_of(options_of(batch_size=3))
    point, shares = solver._start(ones(), 1)
    sizes = [share.objective.samples for share in shares.values()]
    assert sorted(sizes) == [1, 2]
    steps = {
        p: make_local_steps(share.parts, point, 0.1, fresh(), solver.options)
        for p, share in shares.items()
    }
    trial = solver._add_steps(point, shares, steps)
    mean = sum(size * s.step for size, s in zip(sizes, steps.values(), strict=True)) / 3
    torch.testing.assert_close(trial.step, mean, rtol=1e-13, atol=1e-15)
