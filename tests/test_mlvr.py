"""MLVR and its baselines: convergence, the special cases, and what is counted."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from logistic import objective_over, random_problem, setting_over
from pydantic import ValidationError
from quadratic import random_quadratic, setting_of

from hpctrain.errors import InputError
from hpctrain.methods.quasi_newton.secant_pairs import SecantPairs
from hpctrain.methods.sampling.subsets import (
    draw_nested_subsets,
    draw_sample_gradients,
    draw_subset,
    draw_subsets,
    find_level_sizes,
)
from hpctrain.objective import Objective, evaluate_point, make_consistent
from hpctrain.solvers import make_solver
from hpctrain.solvers.mlvr import MLVROptions
from hpctrain.solvers.mlvr_krylov import MLVRKrylovOptions
from hpctrain.solvers.variance_reduction import (
    NewtonOptions,
    SSNOptions,
    SVRGOptions,
)

SAMPLES, N = 60, 6
ALL = [
    MLVROptions(),
    MLVROptions(levels=3),
    MLVROptions(levels=3, cycle="F", coarse_solver="lbfgs", resample="cycle"),
    MLVROptions(smoother="gradient-descent", coarse_solver="gradient-descent"),
    MLVROptions(cascade=True),
    MLVRKrylovOptions(),
    MLVRKrylovOptions(levels=3, coarsening_factor=3.0, cascade_steps=0),
    SVRGOptions(learning_rate=0.1),
    SVRGOptions(name="sarah", learning_rate=0.1),
    SSNOptions(share=0.5, learning_rate=0.7),
    NewtonOptions(),
]


@pytest.fixture(scope="module")
def problem():
    return random_problem(SAMPLES, N)


def iterates(problem, options, steps, seed=3):
    solver = make_solver(setting_over(problem, seed), options)
    state = solver.init(torch.zeros(problem.parameters, dtype=torch.float64))
    thetas = [state.point.theta]
    for _ in range(steps):
        state, _ = solver.step(state)
        thetas.append(state.point.theta)
    return thetas


def assert_same_iterates(problem, options, reference, steps=4):
    pairs = zip(iterates(problem, options, steps), iterates(problem, reference, steps), strict=True)
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("options", ALL, ids=str)
def test_every_method_finds_the_minimum(problem, options):
    theta = iterates(problem, options, 40)[-1]
    assert float(objective_over(problem).evaluate(theta).evaluate_gradient().norm()) < 1e-5


@pytest.mark.parametrize("options", ALL, ids=str)
def test_what_the_state_says_of_its_point_is_true_and_its_costs_are_counted(problem, options):
    solver = make_solver(setting_over(problem), options)
    state = solver.init(torch.zeros(N, dtype=torch.float64))
    before = solver.setting.counts.effective_evaluations
    state, record = solver.step(state)
    there = evaluate_point(objective_over(problem), state.point.theta)
    assert (state.point.loss, record.loss) == (there.loss, there.loss)
    torch.testing.assert_close(state.point.gradient, there.gradient, rtol=1e-13, atol=1e-15)
    spent = solver.setting.counts.effective_evaluations - before
    assert record.nominal_gradient_evaluations == pytest.approx(spent)


def test_one_sample_drawn_anew_in_every_step_of_gradient_descent_is_svrg(problem):
    mlvr = MLVROptions(
        coarse_samples=1, resample="step", coarse_solver="gradient-descent", learning_rate=0.1,
        coarse_steps=30, pre_smoothing=0, post_smoothing=0, control="none",
    )  # fmt: skip
    assert_same_iterates(problem, mlvr, SVRGOptions(learning_rate=0.1, inner_steps=30))


def test_one_newton_step_on_the_coarse_level_without_smoothing_is_ssn(problem):
    mlvr = MLVROptions(
        coarsening_factor=4.0, resample="cycle", coarse_solver="newton", learning_rate=0.8,
        coarse_steps=1, cg_tolerance=1e-8, pre_smoothing=0, post_smoothing=0, control="none",
    )  # fmt: skip
    assert_same_iterates(problem, mlvr, SSNOptions(share=0.25, learning_rate=0.8))


def test_all_samples_on_the_coarse_level_is_newton(problem):
    mlvr = MLVROptions(
        coarsening_factor=1.0, coarse_solver="newton", coarse_steps=1, cg_tolerance=1e-8,
        cg_iterations=1000, pre_smoothing=0, post_smoothing=0, control="line-search",
    )  # fmt: skip
    assert_same_iterates(problem, mlvr, NewtonOptions())


def test_an_svrg_step_is_the_textbooks(problem):
    """θ ← θ - α (∇ℓ_j(θ) - ∇ℓ_j(θ̃) + ∇L(θ̃)), by single samples of the whole objective."""
    L = objective_over(problem)
    anchor = torch.zeros(N, dtype=torch.float64)
    full = L.evaluate(anchor).evaluate_gradient()
    theta = anchor
    for step in range(5):
        sample = L.subset(draw_subset(3, SAMPLES, 1, 0, step))
        change = (
            sample.evaluate(theta).evaluate_gradient() - sample.evaluate(anchor).evaluate_gradient()
        )
        theta = theta - 0.1 * (change + full)
    [_, found] = iterates(problem, SVRGOptions(learning_rate=0.1, inner_steps=5), 1)
    torch.testing.assert_close(found, theta, rtol=1e-13, atol=1e-15)


def test_sarah_follows_its_own_estimate(problem):
    L = objective_over(problem)
    last = torch.zeros(N, dtype=torch.float64)
    v = L.evaluate(last).evaluate_gradient()
    theta = last - 0.1 * v
    for step in range(5):
        sample = L.subset(draw_subset(3, SAMPLES, 1, 0, step))
        v = (
            sample.evaluate(theta).evaluate_gradient()
            - sample.evaluate(last).evaluate_gradient()
            + v
        )
        last, theta = theta, theta - 0.1 * v
    options = SVRGOptions(name="sarah", learning_rate=0.1, inner_steps=5)
    [_, found] = iterates(problem, options, 1)
    torch.testing.assert_close(found, theta, rtol=1e-13, atol=1e-15)


def test_svrg_counts_two_gradients_a_sample_and_one_of_all(problem):
    solver = make_solver(setting_over(problem), SVRGOptions(inner_steps=SAMPLES))
    _, record = solver.step(solver.init(torch.zeros(N, dtype=torch.float64)))
    assert record.nominal_gradient_evaluations == pytest.approx(3)


def test_ssn_counts_its_conjugate_gradients_by_their_samples(problem):
    solver = make_solver(setting_over(problem), SSNOptions(share=0.5, cg_iterations=4))
    _, record = solver.step(solver.init(torch.zeros(N, dtype=torch.float64)))
    assert record.nominal_gradient_evaluations == pytest.approx(1 + 4 * 0.5)


def test_a_coarse_descent_direction_of_samples_is_a_fine_one(problem):
    """∇h¹(θ₀) = ∇L(θ₀): Newton's step on 5 samples descends on all 60."""
    L = objective_over(problem)
    theta = torch.ones(N, dtype=torch.float64)
    g = L.evaluate(theta).evaluate_gradient()
    h, _ = make_consistent(L.subset(draw_subset(0, SAMPLES, 5)), g, theta)
    H = torch.stack([h.multiply_hessian(theta, e) for e in torch.eye(N, dtype=torch.float64)])
    step = -torch.linalg.solve(H, h.evaluate_with_gradient(theta).evaluate_gradient())
    assert float(g @ step) < 0


def test_subsets_are_nested_random_and_a_function_of_seed_and_index():
    inner = [draw_nested_subsets(seed, 100, [50, 20, 5], index) for seed, index in ((0, 0), (0, 1))]
    for middle, smaller in zip(inner[0], inner[0][1:], strict=False):
        assert set(smaller.tolist()) < set(middle.tolist())
        assert torch.equal(smaller, smaller.sort().values)
    assert not torch.equal(inner[0][0], inner[1][0])
    assert torch.equal(inner[0][2], draw_nested_subsets(0, 100, [50, 20, 5], 0)[2])
    counts = np.bincount(
        torch.cat([draw_subset(0, 10, 3, k) for k in range(500)]).numpy(), minlength=10
    )
    assert counts.min() > 100


@pytest.mark.parametrize("size", [1, 7])
def test_fresh_subsets_are_those_of_the_whole_objective(problem, size):
    L = objective_over(problem)
    theta = torch.ones(N, dtype=torch.float64)
    for step, subset in enumerate(draw_subsets(L, size, 600 // size, 5, 2)):
        expected = (
            L.subset(draw_subset(5, SAMPLES, size, 2, step)).evaluate(theta).evaluate_gradient()
        )
        torch.testing.assert_close(
            subset.evaluate(theta).evaluate_gradient(), expected, rtol=1e-13, atol=1e-15
        )


@pytest.mark.parametrize("portable", [True, False])
def test_sample_gradients_are_those_of_fresh_subsets_of_one_sample(problem, portable, monkeypatch):
    """With the same work, whether or not samples can travel."""
    L, single = objective_over(problem), objective_over(problem)
    monkeypatch.setattr(Objective, "is_portable", property(lambda _: portable))
    theta = torch.linspace(-1, 1, N, dtype=torch.float64)
    drawn = draw_sample_gradients(L, 600, 5, 2)
    for gradient, sample in zip(drawn, draw_subsets(single, 1, 600, 5, 2), strict=True):
        expected = sample.evaluate_with_gradient(theta).evaluate_gradient()
        torch.testing.assert_close(gradient(theta), expected, rtol=1e-13, atol=1e-15)
    assert L.counts.gradient_evaluations == pytest.approx(600 / SAMPLES)
    assert single.counts.gradient_evaluations == pytest.approx(600 / SAMPLES)


def test_level_sizes_fall_by_the_factor_and_bad_ones_are_refused():
    assert find_level_sizes(MLVROptions(levels=3, coarsening_factor=4.0), 160) == [40, 10]
    assert find_level_sizes(MLVROptions(levels=3, coarse_samples=1), 160) == [80, 1]
    with pytest.raises(InputError, match="a level of 0 samples below one of 1 is not possible"):
        find_level_sizes(MLVROptions(levels=4, coarsening_factor=10.0), 100)
    with pytest.raises(InputError, match="a level of 200 samples below one of 100"):
        find_level_sizes(MLVROptions(coarse_samples=200), 100)


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 0.1, "coarse_solver": "lbfgs"},
        {"resample": "step", "coarse_solver": "newton"},
        {"levels": 1},
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings):
    with pytest.raises(ValidationError):
        MLVROptions(**settings)


def test_a_loss_without_subsets_is_refused():
    setting = setting_of(random_quadratic(4), [4])
    setting.objective._share = object()
    with pytest.raises(
        InputError, match=r'solver.name = "mlvr" is not allowed: this problem\'s loss'
    ):
        make_solver(setting, MLVROptions())


@pytest.mark.parametrize("name", ["svrg", "sarah"])
def test_steps_of_one_sample_are_twice_as_many_as_there_are_samples(problem, name):
    """Two gradients a step, and one of all samples."""
    solver = make_solver(setting_over(problem), SVRGOptions(name=name, learning_rate=1e-3))
    _, record = solver.step(solver.init(torch.zeros(N, dtype=torch.float64)))
    assert record.nominal_gradient_evaluations == pytest.approx(2 * 2 + 1)


def test_every_level_goes_on_from_its_own_secant_pairs(problem):
    solver = make_solver(
        setting_over(problem), MLVROptions(coarse_solver="lbfgs", coarse_steps=2, memory=3)
    )
    state = solver.init(torch.zeros(N, dtype=torch.float64))
    for _ in range(2):
        state, _ = solver.step(state)
    fine, coarse = state.pairs
    assert fine.s and coarse.s and not torch.equal(fine.s[-1], coarse.s[-1])
    kept = solver.step(state)[0].point.theta
    for pairs in ([SecantPairs(), coarse], [fine, SecantPairs()], [coarse, fine]):
        other = solver.step(replace(state, pairs=pairs))[0].point.theta
        assert not torch.equal(other, kept)


@pytest.mark.parametrize(("resample", "kept"), [("never", True), ("cycle", False)])
def test_pairs_of_other_samples_are_forgotten_with_them(problem, resample, kept):
    options = MLVROptions(levels=3, coarse_solver="lbfgs", resample=resample)
    solver = make_solver(setting_over(problem), options)
    state, _ = solver.step(solver.init(torch.zeros(N, dtype=torch.float64)))
    _, coarser = solver._make_levels(state)
    assert [bool(level.memory and level.memory.s) for level in coarser] == [kept] * 2
