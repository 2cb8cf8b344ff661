"""The multilevel frame on quadratics: consistency, transfers, cycles, and the two controls."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from quadratic import Quadratic, minimum, objective_of, random_quadratic

from hpctrain.linalg.vectors import dot
from hpctrain.methods.multilevel.cycles import (
    Level,
    LevelState,
    LineSearchControl,
    NoControl,
    Room,
    TrustRegionControl,
)
from hpctrain.methods.multilevel.smoothers import (
    DirectionSteps,
    LBFGSSteps,
    StepRule,
    make_newton_direction,
    negate_gradient,
)
from hpctrain.methods.search.armijo import ArmijoOptions, armijo
from hpctrain.methods.search.strong_wolfe import LineSearchOptions
from hpctrain.methods.trust_region.control import TrustRegionOptions
from hpctrain.objective import Counts, evaluate_point

N = 8
NEWTON = DirectionSteps(make_newton_direction(100, 1e-14), StepRule(1.0, None))
DESCENT = DirectionSteps(negate_gradient, StepRule(0.5, ArmijoOptions()))


class Pairs:
    """Piecewise constant: I copies a coarse parameter to two fine ones, P is the mean of both."""

    stretch = 2**0.5

    def prolong(self, s):
        return s.repeat_interleave(2)

    def restrict(self, g):
        return g.view(-1, 2).sum(dim=1)

    def project(self, theta):
        return theta.view(-1, 2).mean(dim=1)


@dataclass
class Spy:
    """Remembers the visits of a level: its h, where it starts, and the room there is."""

    solver: object
    visits: list = field(default_factory=list)

    def advance(self, h, state, count, room):
        self.visits.append((h, state, room))
        return self.solver.advance(h, state, count, room)

    def learn(self, memory, old, new):
        return self.solver.learn(memory, old, new)


def galerkin(loss: Quadratic) -> Quadratic:
    """θ_c ↦ L(I θ_c)."""
    eye = torch.eye(loss.parameters // 2, dtype=torch.float64).repeat_interleave(2, dim=0)
    return Quadratic(eye.T @ loss.A @ eye, loss.b @ eye)


def two_grid(loss, coarse_solver, control, steps=(0, 0), coarse_steps=1):
    coarse = Level(objective_of(galerkin(loss)), coarse_solver, (coarse_steps, 0), transfer=Pairs())
    return Level(objective_of(loss), DESCENT, steps, coarse, control)


def start(loss):
    theta = torch.ones(N, dtype=torch.float64)
    return LevelState(evaluate_point(objective_of(loss), theta))


def run(level, state, cycle="V"):
    return level.cycle(level.objective, state, cycle, Room(state.point.theta))


@pytest.fixture
def loss():
    return random_quadratic(N, samples=4, spread=1)


def test_transfers_fit_each_other():
    transfer, s = Pairs(), torch.randn(4, dtype=torch.float64)
    g = torch.randn(N, dtype=torch.float64)
    assert torch.equal(transfer.project(transfer.prolong(s)), s)
    assert dot(transfer.restrict(g), s) == pytest.approx(dot(g, transfer.prolong(s)), rel=1e-14)


def test_the_coarse_model_has_the_restricted_gradient_at_its_origin(loss):
    spy, state = Spy(NEWTON), start(loss)
    run(two_grid(loss, spy, NoControl()), state)
    [(h, entered, _)] = spy.visits
    expected = Pairs().restrict(state.point.gradient)
    origin = Pairs().project(state.point.theta)
    assert torch.equal(entered.point.theta, origin)
    torch.testing.assert_close(
        h.evaluate_with_gradient(origin).evaluate_gradient(), expected, rtol=1e-13, atol=1e-13
    )
    assert torch.equal(entered.point.gradient, expected)
    assert entered.point.loss == h.evaluate(origin).loss


def test_three_levels_are_consistent_all_the_way_down():
    loss = random_quadratic(16, samples=2)
    middle_loss = galerkin(loss)
    spies = Spy(NEWTON), Spy(DESCENT)
    coarsest = Level(objective_of(galerkin(middle_loss)), spies[0], (1, 0), transfer=Pairs())
    middle = Level(
        objective_of(middle_loss), spies[1], (2, 0), coarsest, NoControl(), transfer=Pairs()
    )
    finest = Level(objective_of(loss), DESCENT, (1, 0), middle, NoControl())
    state = LevelState(evaluate_point(objective_of(loss), torch.ones(16, dtype=torch.float64)))
    run(finest, state)
    h, entered, _ = spies[1].visits[0]
    left = spies[1].solver.advance(h, entered, 2, Room(entered.point.theta)).point
    h_coarse, start_coarse, _ = spies[0].visits[0]
    torch.testing.assert_close(
        h_coarse.evaluate_with_gradient(start_coarse.point.theta).evaluate_gradient(),
        Pairs().restrict(h.evaluate_with_gradient(left.theta).evaluate_gradient()),
        rtol=1e-12, atol=1e-12,
    )  # fmt: skip


def test_a_coarse_descent_direction_is_a_fine_one(loss):
    state = start(loss)
    g = state.point.gradient
    found = two_grid(loss, NEWTON, NoControl()).coarser.compute_correction(
        Pairs().project(state.point.theta), Pairs().restrict(g), float("inf"), "V"
    )
    s = Pairs().prolong(found.theta - Pairs().project(state.point.theta))
    coarse_slope = dot(Pairs().restrict(g), found.theta - Pairs().project(state.point.theta))
    assert dot(g, s) == pytest.approx(coarse_slope, rel=1e-12)
    assert dot(g, s) < 0


def test_an_exact_galerkin_correction_minimises_over_the_coarse_space(loss):
    state = start(loss)
    new = run(two_grid(loss, NEWTON, NoControl()), state).point
    coarse_gradient = Pairs().restrict(new.gradient)
    torch.testing.assert_close(
        coarse_gradient, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-10
    )
    assert new.loss < state.point.loss


def test_what_the_correction_claims_is_the_decrease_of_the_coarse_model(loss):
    state = start(loss)
    origin = Pairs().project(state.point.theta)
    gradient = Pairs().restrict(state.point.gradient)
    level = two_grid(loss, NEWTON, NoControl())
    found = level.coarser.compute_correction(origin, gradient, float("inf"), "V")
    moved = evaluate_point(
        objective_of(loss), state.point.theta + Pairs().prolong(found.theta - origin)
    )
    assert found.decrease == pytest.approx(state.point.loss - moved.loss, rel=1e-10)


@pytest.mark.parametrize("cycle", ["V", "F"])
def test_cycles_converge_to_the_minimum(loss, cycle):
    level = two_grid(loss, NEWTON, LineSearchControl(ArmijoOptions()), steps=(2, 2))
    state = start(loss)
    for _ in range(60):
        state = run(level, state, cycle)
    torch.testing.assert_close(state.point.theta, minimum(loss), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("cycle", "levels", "visits"), [("V", 4, 1), ("F", 3, 2), ("F", 4, 3)])
def test_an_f_cycle_visits_the_coarsest_level_once_more_for_each_level_between(
    cycle, levels, visits
):
    losses = [random_quadratic(16, samples=2)]
    for _ in range(levels - 1):
        losses.append(galerkin(losses[-1]))
    spy = Spy(NEWTON)
    level = Level(objective_of(losses.pop()), spy, (1, 0), transfer=Pairs())
    while losses:
        own = objective_of(losses.pop())
        level = Level(own, DESCENT, (1, 1), level, NoControl(), transfer=Pairs())
    run(level, LevelState(evaluate_point(own, torch.ones(16, dtype=torch.float64))), cycle)
    assert len(spy.visits) == visits


def test_a_correction_that_would_raise_the_loss_is_left_out_by_either_control(loss):
    """A coarse level that climbs."""

    class Climber:
        transfer = Pairs()
        is_coarsest = True

        def compute_correction(self, origin, gradient, radius, cycle):
            from hpctrain.methods.multilevel.cycles import Correction

            return Correction(origin + gradient, 1.0)

    state = replace(start(loss), reach=1.0)
    for control in (LineSearchControl(ArmijoOptions()), TrustRegionControl(TrustRegionOptions())):
        level = Level(objective_of(loss), DESCENT, (0, 0), Climber(), control)
        new = run(level, state)
        assert torch.equal(new.point.theta, state.point.theta)
    assert new.reach < 1.0


def test_trust_region_control_takes_an_exact_correction_and_keeps_the_radius(loss):
    state = replace(start(loss), reach=100.0)
    level = two_grid(loss, NEWTON, TrustRegionControl(TrustRegionOptions()))
    new = run(level, state)
    assert new.point.loss < state.point.loss
    assert new.reach == 100.0


def test_the_coarse_level_gets_the_room_that_its_prolongation_leaves(loss):
    spy, state = Spy(NEWTON), replace(start(loss), reach=0.6)
    run(two_grid(loss, spy, NoControl()), state)
    [(_, entered, room)] = spy.visits
    assert room.find_room(entered.point.theta) == pytest.approx(0.6 / 2**0.5)
    further = entered.point.theta + 0.1
    gone = float(Pairs().prolong(further - entered.point.theta).norm())
    assert 0.1 < gone < 0.6
    assert room.find_room(further) == pytest.approx((0.6 - gone) / 2**0.5)
    assert room.find_room(entered.point.theta + 10) == 0


def test_the_coarse_level_gets_what_is_left_of_the_fine_ones_room_where_that_is_less(loss):
    spy, state = Spy(NEWTON), replace(start(loss), reach=0.6)
    level, room = two_grid(loss, spy, NoControl()), Room(state.point.theta, 0.2)
    level.cycle(level.objective, state, "V", room)
    [(_, entered, room)] = spy.visits
    assert room.find_room(entered.point.theta) == pytest.approx(0.2 / 2**0.5)


@pytest.mark.parametrize(("length", "after"), [(0.4, 1.0), (0.5, 2.0), (0.7, 2.0)])
def test_a_good_correction_of_half_the_radius_was_held_back_by_it(loss, length, after):
    state = replace(start(loss), reach=1.0)
    s = -length * state.point.gradient / state.point.gradient.norm()
    decrease = state.point.loss - objective_of(loss).evaluate(state.point.theta + s).loss
    control = TrustRegionControl(TrustRegionOptions())
    assert control.apply(objective_of(loss), state, s, decrease).reach == after


def test_a_level_with_too_small_a_gradient_is_not_visited(loss):
    spy = Spy(NEWTON)
    control = TrustRegionControl(TrustRegionOptions(), kappa=1e3)
    state = replace(start(loss), reach=1.0)
    assert run(two_grid(loss, spy, control), state).point is state.point
    assert not spy.visits


def test_lbfgs_smoothing_learns_from_corrections(loss):
    smoother = LBFGSSteps(5, LineSearchOptions())
    coarse = Level(objective_of(galerkin(loss)), NEWTON, (1, 0), transfer=Pairs())
    level = Level(objective_of(loss), smoother, (0, 0), coarse, NoControl())
    state = start(loss)
    new = run(level, state)
    [s], [y] = new.memory.s, new.memory.y
    assert torch.equal(s, new.point.theta - state.point.theta)
    assert torch.equal(y, new.point.gradient - state.point.gradient)


def test_steps_end_where_the_gradient_has_fallen_enough(loss):
    solver = replace(NEWTON, tolerance=0.5)
    state = start(loss)
    end = solver.advance(objective_of(loss), state, 10, Room(state.point.theta))
    again = solver.advance(objective_of(loss), end, 0, Room(state.point.theta))
    torch.testing.assert_close(end.point.theta, minimum(loss))
    assert again.point is end.point


def test_a_cascade_starts_the_fine_level_from_the_coarse_minimum(loss):
    level = two_grid(loss, NEWTON, NoControl())
    theta = level.cascade(torch.ones(N, dtype=torch.float64))
    # The correction on the finest level adds nothing to the coarse minimum, prolonged.
    expected = minimum(galerkin(loss)).repeat_interleave(2)
    torch.testing.assert_close(theta, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("tolerance", [0.0, 0.5])
def test_smoothing_ends_where_the_gradient_is_small_enough_or_zero(tolerance):
    """Steps of half the way to the minimum of ½ ‖θ‖², each of which halves the gradient."""
    half = Quadratic(torch.eye(N).double()[None], torch.zeros(1, N).double())
    steps = DirectionSteps(negate_gradient, StepRule(0.5, None), tolerance)
    h, asked = objective_of(half), []
    for theta in (torch.ones(N).double(), torch.zeros(N).double()):
        before = h.counts.gradient_work
        state = LevelState(evaluate_point(h, theta))
        steps.advance(h, state, 3, Room(theta))
        asked.append((h.counts.gradient_work - before) // half.gradient_cost - 1)
    assert asked == [1 if tolerance else 3, 0]


def test_armijo_shortens_until_the_decrease_is_sufficient(loss):
    objective, point = objective_of(loss), start(loss).point
    d = -100 * point.gradient
    slope = dot(point.gradient, d)
    found = armijo(objective, point.theta, d, point.loss, slope, 1.0, ArmijoOptions())
    assert found.step < 1
    assert found.evaluation.loss <= point.loss + 1e-4 * found.step * slope
    longer = objective.evaluate(point.theta + 2 * found.step * d).loss
    assert longer > point.loss + 2e-4 * found.step * slope
    assert armijo(objective, point.theta, -d, point.loss, -slope, 1.0, ArmijoOptions()) is None


@pytest.mark.parametrize(("likely", "losses", "gradients"), [(0, 3, 1), (1, 2, 2), (15, 0, 3)])
def test_likely_trials_of_armijo_cost_one_pass_each(loss, likely, losses, gradients):
    """A search of three trials: the gradient at its end costs nothing more if it was likely."""
    objective, point = objective_of(loss), start(loss).point
    d = -point.gradient
    slope = dot(point.gradient, d)
    exact = -slope / dot(d, objective.multiply_hessian(point.theta, d))
    objective.counts = Counts(loss.loss_cost, loss.gradient_cost)
    found = armijo(objective, point.theta, d, point.loss, slope, 6 * exact, ArmijoOptions(), likely)
    assert found.step == pytest.approx(1.5 * exact)
    assert found.evaluation.evaluate_gradient().shape == d.shape
    assert objective.counts.loss_evaluations == losses
    assert objective.counts.gradient_evaluations == gradients
