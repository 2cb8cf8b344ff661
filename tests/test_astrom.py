"""ASTROM: batch trust region as its limit, growing samples, bounds, and published counts."""

from itertools import pairwise

import pytest
import torch
from logistic import objective_over, random_problem, setting_over

from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.trust_region.control import RadiusOptions
from hpctrain.solvers import make_solver
from hpctrain.solvers.astrom import ASTROMOptions
from hpctrain.solvers.trust_region import TrustRegionSolverOptions

N = 6
ZERO = torch.zeros(N, dtype=torch.float64)


@pytest.fixture(scope="module")
def problem():
    return random_problem(200, N)


def run(problem, options, steps):
    solver = make_solver(setting_over(problem), options)
    states, records = [solver.init(ZERO)], []
    for _ in range(steps):
        state, record = solver.step(states[-1])
        states.append(state)
        records.append(record)
    return solver, states, records


def test_with_all_samples_it_is_the_batch_trust_region(problem):
    _, found, _ = run(problem, ASTROMOptions(share=1.0), 8)
    batch = TrustRegionSolverOptions(model="hessian")
    _, expected, _ = run(problem, batch, 8)
    for own, other in zip(found, expected, strict=True):
        assert torch.equal(own.point.theta, other.point.theta)
        assert own.radius == other.radius


@pytest.mark.parametrize("coarse_steps", [1, 3])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_it_converges_with_samples_that_only_grow_and_losses_that_only_fall(
    problem, share, coarse_steps
):
    _, states, records = run(problem, ASTROMOptions(share=share, coarse_steps=coarse_steps), 60)
    assert records[-1].gradient_norm < 1e-6
    sizes = [state.samples for state in states]
    assert sizes == sorted(sizes) and sizes[0] == round(200 * share)
    losses = [state.point.loss for state in states]
    assert all(after <= before + 1e-14 for before, after in pairwise(losses))


def grown(samples):
    return min(2 * samples, 200)


def test_samples_grow_where_a_step_is_rejected_and_only_there(problem):
    _, states, records = run(problem, ASTROMOptions(share=0.02), 30)
    rejected = 0
    for before, after, record in zip(states, states[1:], records, strict=False):
        moved = not torch.equal(after.point.theta, before.point.theta)
        assert moved == (record.step_length > 0)
        if moved:
            assert after.samples == before.samples
        elif after.samples != before.samples:
            rejected += record.outcome is Outcome.SAMPLES_MISLED
            assert after.samples == grown(before.samples)
    assert rejected > 0


def test_samples_also_grow_after_a_step_whose_model_had_a_wrong_gradient(problem):
    solver, states, _ = run(problem, ASTROMOptions(share=0.1, model_error=0.3), 12)
    seen = set()
    for before, after in pairwise(states):
        if torch.equal(after.point.theta, before.point.theta) or before.samples == 200:
            continue
        h, _ = solver.make_model(before)
        there = after.point.theta
        wrong = (after.point.gradient - h.evaluate_with_gradient(there).evaluate_gradient()).norm()
        poor = bool(wrong > 0.3 * before.point.gradient.norm())
        assert after.samples == (grown(before.samples) if poor else before.samples)
        seen.add(poor)
    assert seen == {True, False}


def test_samples_grow_by_one_at_least(problem):
    solver, [state], _ = run(problem, ASTROMOptions(share=0.01, growth=1.1), 0)
    assert state.samples == 2 and solver._grow(state) == 3


def test_a_rejection_keeps_the_radius_unless_the_loss_rose(problem):
    """ρ ≤ 0: half the step's length is left; 0 < ρ < η₁ is blamed on the samples alone."""
    seen = set()
    for seed, radius in ((0, 3.0), (1, 4.0), (2, 5.0), (3, 6.0)):
        region = RadiusOptions(radius=radius)
        solver = make_solver(
            setting_over(problem, seed),
            ASTROMOptions(share=0.02, trust_region=region),
        )
        phases, phase = [], solver.run_coarse_phase
        solver.run_coarse_phase = lambda h, start, radius, p=phase, e=phases: (
            e.append((start, p(h, start, radius))) or e[-1][1]
        )
        state = solver.init(ZERO)
        for _ in range(8):
            old, (state, _) = state, solver.step(state)
            if old.samples == 200:
                break
            start, end = phases[-1]
            theta, decrease = end.point.theta, start.loss - end.point.loss
            length = float((theta - old.point.theta).norm())
            rho = (old.point.loss - objective_over(problem).evaluate(theta).loss) / decrease
            if rho >= 0.25:
                assert torch.equal(state.point.theta, theta)
                continue
            assert state.radius == pytest.approx(0.5 * length if rho <= 0 else old.radius)
            assert state.samples == grown(old.samples)
            seen |= {rho > 0}
    assert seen == {True, False}


@pytest.mark.parametrize("coarse_steps", [1, 4])
def test_the_coarse_phase_stays_within_the_radius(problem, coarse_steps):
    options = ASTROMOptions(
        share=0.1, coarse_steps=coarse_steps, trust_region=RadiusOptions(radius=0.05)
    )
    _, states, records = run(problem, options, 10)
    lengths = [record.step_length for record in records]
    assert max(lengths) > 0.04
    for before, length in zip(states, lengths, strict=False):
        assert length <= before.radius * (1 + 1e-12)


def test_the_coarse_model_starts_with_the_full_gradient(problem):
    solver, states, _ = run(problem, ASTROMOptions(share=0.1), 2)
    h, start = solver.make_model(states[-1])
    full = objective_over(problem).evaluate(states[-1].point.theta).evaluate_gradient()
    torch.testing.assert_close(
        h.evaluate_with_gradient(start.theta).evaluate_gradient(), full, rtol=1e-12, atol=1e-15
    )
    assert start.loss == h.evaluate(start.theta).loss


def test_work_is_counted_in_both_units(problem):
    _, states, [record] = run(problem, ASTROMOptions(share=0.1, cg_iterations=2), 1)
    details = record.details
    cg = details["cg_iterations"]
    assert 1 <= cg <= 2 and cg == states[-1].cg
    assert details["shared_cg_iterations"] == pytest.approx(0.1 * cg)
    assert details["hessian_evaluations"] == pytest.approx(0.1)
    # ∇L¹ at θ, h¹ and L at the trial, ∇L there, products of a tenth.
    spent = 0.1 + 0.1 + 1 + 1 + 0.1 * cg
    assert record.nominal_gradient_evaluations == pytest.approx(spent)


def test_a_run_goes_on_from_its_state_alone(problem):
    _, states, _ = run(problem, ASTROMOptions(share=0.02), 12)
    solver = make_solver(setting_over(problem), ASTROMOptions(share=0.02))
    state = states[6]
    for _ in range(6):
        state, _ = solver.step(state)
    assert torch.equal(state.point.theta, states[-1].point.theta)
    assert state.samples == states[-1].samples
