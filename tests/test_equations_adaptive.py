"""Points and weights that are renewed in the course of a run, against their definitions."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from residuals import full

from hpctrain.linalg.vectors import norm
from hpctrain.networks.dense import DenseNetwork
from hpctrain.objective import Objective, evaluate_point
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations import Box, Dirichlet, Disk, Equations, Initial
from hpctrain.problems.equations.adaptive.options import AdaptOptions
from hpctrain.problems.equations.adaptive.points import draw_by_residual, find_retained
from hpctrain.problems.equations.adaptive.weights import (
    ascend,
    balance,
    choose_epsilon,
    weigh_causally,
)
from hpctrain.problems.equations.holding import Holding
from hpctrain.problems.equations.points import Cluster
from hpctrain.problems.equations.problem import Formulation, PinnProblem

CHUNKS, POINTS = 8, 60


class Layer(Equations):
    """A residual of known size where the network is zero: large in a layer around x = 0.5."""

    geometry = Box(t=(0, 1), x=(0, 1), y=(0, 1)) - (Box(t=(0, 1)) * Disk((0.5, 0.5), 0.2))
    conditions = (Initial({"u": 1.0}, weight=3.0), Dirichlet({"u": 2.0}))

    def residuals(self, at, u):
        return u.t - 0.1 * u.xx - 5 * torch.exp(-200 * (at.x - 0.8) ** 2), u.value


def renewal(adapt, **settings):
    """Of the equations above, the objective and θ₀."""
    formulation = Formulation(POINTS, condition_points=20, adapt=adapt, **settings)
    problem = PinnProblem(Layer(), DenseNetwork(3, 5, 3), formulation)
    objective = Objective.of(problem, Communicator(), CHUNKS)
    return (
        problem,
        objective,
        problem.make_renewal(objective, 0),
        problem.make_initial_parameters(0),
    )


def equation_squares(problem, theta, points):
    loss = problem.make_equation_residuals(points, Holding(CHUNKS, 0, 1, 1))
    return loss.evaluate_residuals(theta).reshape(points.shape[1], -1).square().sum(1)


def test_rad_draws_each_candidate_as_often_as_its_density_says():
    squares = np.array([0.0, 1.0, 4.0, 9.0])
    drawn = np.zeros(4)
    for iteration in range(4000):
        drawn[draw_by_residual(squares, 1, 2.0, 0.5, 0, iteration)] += 1
    density = squares / squares.mean() + 0.5
    expected = density / density.sum()
    assert np.abs(drawn / 4000 - expected).max() < 4 * math.sqrt(0.25 / 4000)


def test_rad_without_an_offset_never_draws_where_the_equation_holds_or_fails():
    squares = np.array([0.0, 1.0, np.inf, 1e-300, np.nan, 2.0])
    for iteration in range(50):
        assert draw_by_residual(squares, 2, 1.0, 0.0, 0, iteration).tolist() == [1, 5]
    assert draw_by_residual(squares, 6, 1.0, 1.0, 0, 0).tolist() == [0, 1, 3, 5]


def test_rad_draws_evenly_where_all_residuals_are_zero():
    drawn = {tuple(draw_by_residual(np.zeros(5), 4, 1.0, 1.0, 0, k).tolist()) for k in range(100)}
    assert len(drawn) == 5


def test_r3_retains_what_exceeds_the_mean_of_the_finite_residuals():
    squares = np.array([1.0, 4.0, 9.0, np.nan, 0.0, np.inf])  # |r| = 1, 2, 3, 0: the mean is 1.5
    assert find_retained(squares).tolist() == [False, True, True, False, False, False]


def test_rad_moves_points_to_where_the_residual_is_large_and_stays_inside():
    problem, _, renew, theta = renewal(AdaptOptions(points="rad", offset=0.0, power=8.0))
    before = problem.terms[0].points
    renew.renew(theta, 500)
    after = problem.terms[0].points
    assert after.shape == before.shape
    mean = [float(equation_squares(problem, theta, each).mean()) for each in (before, after)]
    assert mean[1] > 2 * mean[0]
    assert bool(problem.frame.region.contains(after).all())


def test_r3_keeps_points_of_large_residuals_in_place_and_draws_the_others_anew():
    problem, _, renew, theta = renewal(AdaptOptions(points="r3"))
    before = problem.terms[0].points
    stays = find_retained(equation_squares(problem, theta, before).numpy())
    renew.renew(theta, 500)
    after = problem.terms[0].points
    assert np.array_equal((after == before).all(0).numpy(), stays)
    assert 0 < stays.sum() < POINTS
    assert bool(problem.frame.region.contains(after).all())


@pytest.mark.parametrize("points", ["rad", "r3", "fresh"])
def test_new_points_depend_on_seed_and_iteration_alone(points):
    def drawn(seed, iteration):
        problem, objective, _, theta = renewal(AdaptOptions(points=points))
        problem.make_renewal(objective, seed).renew(theta, iteration)
        return problem.terms[0].points

    assert torch.equal(drawn(0, 500), drawn(0, 500))
    assert not torch.equal(drawn(0, 500), drawn(0, 1000))
    assert not torch.equal(drawn(0, 500), drawn(1, 500))


def test_fresh_points_are_others_inside_and_on_each_part_of_the_boundary():
    problem, _, renew, theta = renewal(AdaptOptions(points="fresh"))
    before = problem.terms
    renew.renew(theta, 500)
    region, axes = problem.frame.region, problem.frame.axes.names
    for old, new in zip(before, problem.terms, strict=True):
        assert (new.name, new.weight, new.points.shape) == (old.name, old.weight, old.points.shape)
        assert not torch.equal(new.points, old.points)
        assert float(region.distance(new.points).min()) > -1e-12
    inside, start, sides = (term.points for term in problem.terms)
    assert bool((region.distance(inside) > 0).all())
    assert bool((start[axes.index("t")] == 0).all())
    assert float(region.distance(sides).abs().max()) < 1e-12
    assert torch.equal(problem.terms[1].normals[:, 0], torch.tensor([-1.0, 0, 0]).double())


def test_fresh_points_are_spread_evenly_over_many_draws():
    problem, _, renew, theta = renewal(AdaptOptions(points="fresh"))
    drawn = []
    for iteration in range(1, 40):
        renew.renew(theta, iteration)
        drawn.append(problem.terms[0].points[0])
    t = torch.cat(drawn)
    shares = torch.histc(t, 5, 0.0, 1.0) / len(t)
    assert float((shares - 0.2).abs().max()) < 0.02


def test_a_state_brings_back_all_fresh_points_with_weights_of_conditions():
    adapt = AdaptOptions(points="fresh", weights="gradients", every=2)
    problem, objective, renew, theta = renewal(adapt)
    renew.renew(theta, 2)
    renew.renew(theta, 4)
    expected = problem.terms
    again = problem.make_renewal(objective, 0)
    again.renew(theta, 6)
    again.take(renew.state)
    for one, other in zip(problem.terms, expected, strict=True):
        assert torch.equal(one.points, other.points) and one.weight == other.weight


def test_candidates_lie_as_dense_in_clusters_as_the_points_of_the_start():
    cluster = Cluster(1, 0.1, 0.01, 0.8)
    problem, _, renew, theta = renewal(AdaptOptions(points="r3"), clusters=(cluster,))

    def zero(at, fields, unknowns):
        return dict.fromkeys(["residual.1", "residual.2"], 0 * fields["u"].value)

    problem.first_terms[0] = replace(problem.first_terms[0], zero=zero)
    renew.renew(theta, 500)  # no residual exceeds the mean of zeros: all points are drawn anew
    x = problem.terms[0].points[1]
    assert float(((x - 0.1).abs() < 0.05).double().mean()) > 0.6


def test_balanced_weights_move_by_their_memory_and_leave_out_what_has_no_measure():
    found = balance([1.0, 2.0, 5.0, 7.0], [4.0, 2.0, 0.0, math.inf], 0, 0.75)
    assert found == [1.0, 0.75 * 2 + 0.25 * 2, 5.0, 7.0]
    assert balance([1.0, 2.0], [0.0, 3.0], 0, 0.5) == [1.0, 2.0]


def test_causal_weights_are_those_of_the_published_formula():
    random = np.random.default_rng(0)
    times, squares = random.uniform(2, 4, 50), random.random(50)
    found = weigh_causally(squares, times, (2.0, 4.0), 4, 0.3)
    parts = [(times >= 2 + 0.5 * k) & (times < 2.5 + 0.5 * k) for k in range(4)]
    for i, part in enumerate(parts):
        sum_before = sum(squares[parts[k]].mean() for k in range(i))
        assert np.allclose(found[part], math.exp(-0.3 * sum_before), rtol=1e-14)
    last = weigh_causally(np.ones(2), np.array([2.0, 4.0]), (2.0, 4.0), 4, 1.0)
    assert last[0] == 1 and last[1] == pytest.approx(math.exp(-1))


@pytest.mark.parametrize(("least", "stage"), [(0.5, 0), (0.995, 1)])
def test_epsilon_moves_on_once_all_weights_exceed_the_threshold(least, stage):
    def weigh(epsilon):
        return np.array([1.0, least if epsilon == 0.1 else 0.2])

    found, omega = choose_epsilon([0.1, 1.0], 0, 0.99, weigh)
    assert found == stage
    assert omega[1] == (0.2 if stage else least)


def test_the_last_epsilon_stays():
    assert choose_epsilon([0.1], 0, 0.99, lambda _: np.ones(2))[0] == 0


def test_self_adaptive_weights_climb_the_loss_by_steps_of_the_rate_and_keep_their_mean():
    omega, squares = np.array([1.0, 1.0, 4.0]), np.array([0.0, 2.0, 1.0])
    lam = np.array([1.0, 1.0 + 0.1, 2.0 + 0.1])  # g = (0, 2, 2)
    found = ascend(omega, squares, 0.1)
    assert np.allclose(found, lam**2 / (lam**2).mean(), rtol=1e-14)
    assert found.mean() == pytest.approx(1)
    assert ascend(omega, np.zeros(3), 0.1) is omega


def weighted(problem, omega):
    terms = [replace(problem.terms[0], sample_weights=omega), *problem.terms[1:]]
    return problem.make_share(terms, Holding(CHUNKS, 0, 1, 1))


def test_weights_of_samples_scale_rows_of_residual_jacobian_products_and_sketches():
    problem, objective, _, theta = renewal(None)
    random = torch.Generator().manual_seed(0)
    omega = torch.rand(POINTS, generator=random, dtype=torch.float64)
    plain, found = objective.share, weighted(problem, omega)
    rows = torch.ones(plain.rows, dtype=torch.float64)
    rows[: 2 * POINTS] = omega.sqrt().repeat_interleave(2)
    r = rows * plain.evaluate_residuals(theta)
    assert torch.allclose(found.evaluate_residuals(theta), r, rtol=1e-13)
    assert torch.allclose(found.sum_losses(theta).sum(), r.square().sum(), rtol=1e-12)
    v = torch.rand(len(theta), generator=random, dtype=torch.float64)
    J = torch.cat([term.loss.evaluate_jacobian(theta, 0, CHUNKS)[:, 1:] for term in plain._terms])
    J = rows[:, None] * J
    g = found.sum_losses_and_gradients(theta)[:, 1:].sum(0)
    assert torch.allclose(g, 2 * J.T @ r, rtol=1e-10, atol=1e-10)
    products = found.multiply_gauss_newton_chunks(theta, v).sum(0)
    assert torch.allclose(products, J.T @ (J @ v), rtol=1e-10, atol=1e-10)
    signs = torch.ones(plain.rows, dtype=torch.int8)
    sketch = found.sketch_rows(theta, signs, 1).sum(0)
    expected = torch.cat([r.sum()[None], J.sum(0)])
    assert torch.allclose(sketch, expected, rtol=1e-10, atol=1e-10)
    whole = Objective(found, Communicator(), problem.samples, CHUNKS, objective.counts)
    G = full(whole.residuals.assemble_gauss_newton(theta))
    assert torch.allclose(G, 2 / problem.samples * J.T @ J, rtol=1e-10, atol=1e-12)


def test_weights_by_gradients_make_all_terms_pull_alike():
    problem, objective, renew, theta = renewal(AdaptOptions(weights="gradients", memory=0.0))
    renew.renew(theta, 0)
    leaves = objective.share.compute_gradients_by_term(theta, [term.name for term in problem.terms])
    norms = [norm(each) for each in leaves.sum(0)]
    assert norms == pytest.approx([norms[0]] * 3, rel=1e-10)
    assert problem.terms[0].weight == 1
    total = leaves.sum((0, 1)) / problem.samples
    assert torch.allclose(total, evaluate_point(objective, theta).gradient, rtol=1e-12)


def test_weights_by_the_ntk_make_all_traces_alike():
    _, objective, renew, theta = renewal(AdaptOptions(weights="ntk", memory=0.0))
    renew.renew(theta, 0)
    rows = [term.loss.evaluate_jacobian(theta, 0, CHUNKS)[:, 1:] for term in objective.share._terms]
    traces = [float(J.square().sum()) for J in rows]
    assert traces == pytest.approx([traces[0]] * 3, rel=1e-12)


@pytest.mark.parametrize("weights", ["gradients", "ntk"])
def test_weights_that_balance_terms_are_found_again_under_themselves(weights):
    _, _, renew, theta = renewal(AdaptOptions(weights=weights, memory=0.0))
    renew.renew(theta, 0)
    first = list(renew.state.factors)
    renew.renew(theta, 500)
    assert first[1] != pytest.approx(1, rel=0.01)
    assert renew.state.factors == pytest.approx(first, rel=1e-9)


@pytest.mark.parametrize("sample_weights", ["causal", "self-adaptive"])
def test_renewed_weights_of_samples_are_those_of_the_loss(sample_weights):
    adapt = AdaptOptions(sample_weights=sample_weights, **(
        {"epsilons": [0.5]} if sample_weights == "causal" else {}
    ))  # fmt: skip
    problem, objective, renew, theta = renewal(adapt)
    squares = equation_squares(problem, theta, problem.terms[0].points)
    fixed = evaluate_point(objective, theta).loss - float(squares.mean())
    renew.renew(theta, 0)
    omega = renew.state.sample_weights
    assert float(omega.std()) > 0
    loss = fixed + float((omega * squares).mean())
    assert evaluate_point(objective, theta).loss == pytest.approx(loss, rel=1e-12)


def guarded(adapt, course):
    """What the guard says of renewals, each of (θ, the loss before by the loss on new points)."""
    _, objective, renew, _ = renewal(adapt)
    found = []
    for iteration, (theta, ratio) in enumerate(course, start=1):
        renew.renew(theta, iteration)
        point = evaluate_point(objective, theta)
        found.append(renew.guard(iteration, point.loss * ratio, point))
    return renew, objective, found


def test_a_renewal_that_finds_a_steep_place_is_taken_back_to_the_last_one():
    theta = renewal(None)[-1]
    steep = 10 * theta
    course = (theta, 0.5), (steep, 0.009), (theta, 0.011), (steep, 0.5), (theta, 0.009)
    renew, objective, found = guarded(AdaptOptions(points="fresh"), course)
    losses = [evaluate_point(objective, each).loss for each in (theta, steep)]
    assert losses[0] < losses[1]
    assert [each is None for each in found] == [True, False, True, True, False]
    assert torch.equal(found[1], theta)
    assert torch.equal(found[4], theta)  # the last one is no better: the run stays
    assert (renew.state.thetas == theta).all()
    assert renew.list_values() == {"guarded": 2}


@pytest.mark.parametrize(("steep_from", "back_to"), [(10, 9), (9, 8), (7, 1), (2, 1)])
def test_a_steep_place_that_is_older_than_the_last_renewal_is_gone_back_behind(steep_from, back_to):
    """Found at the tenth renewal, when those of the last, the 8th and the first are known."""
    theta = renewal(None)[-1]
    thetas = [theta * (1 - 0.01 * k if k < steep_from else 10 - 0.01 * k) for k in range(1, 11)]
    course = [*((each, 1.0) for each in thetas[:-1]), (thetas[-1], 1e-3)]
    renew, objective, found = guarded(AdaptOptions(points="fresh", every=1), course)
    losses = [evaluate_point(objective, thetas[k - 1]).loss for k in (1, 8, 9, 10)]
    assert all(each is None for each in found[:-1])
    assert torch.equal(found[-1], thetas[back_to - 1])
    assert evaluate_point(objective, found[-1]).loss == min(losses)
    assert torch.equal(renew.state.thetas[0], found[-1])


def test_a_guard_takes_back_what_is_not_finite_and_may_be_switched_off():
    theta = renewal(None)[-1]
    course = (theta, 1.0), (torch.full_like(theta, torch.nan), 1.0)
    _, _, found = guarded(AdaptOptions(points="fresh"), course)
    assert torch.equal(found[1], theta)
    renew, _, found = guarded(AdaptOptions(points="fresh", guard=0.0), [(theta, 0.0)] * 2)
    assert found == [None, None] and not renew.columns


def test_a_state_that_is_taken_gives_the_loss_that_it_was_written_with():
    adapt = AdaptOptions(points="rad", weights="ntk", sample_weights="causal")
    _, objective, renew, theta = renewal(adapt)
    renew.renew(theta, 500)
    expected = evaluate_point(objective, theta)
    _, again, other, _ = renewal(adapt)
    other.take(renew.state)
    found = evaluate_point(again, theta)
    assert found.loss == expected.loss
    assert torch.equal(found.gradient, expected.gradient)


def test_work_of_a_renewal_is_counted():
    problem, objective, renew, theta = renewal(AdaptOptions(points="rad", candidates=90))
    renew.renew(theta, 500)
    assert objective.counts.loss_evaluations == pytest.approx(90 / problem.samples)
    problem, objective, renew, theta = renewal(AdaptOptions(weights="gradients"))
    renew.renew(theta, 0)
    assert objective.counts.gradient_evaluations == 1
