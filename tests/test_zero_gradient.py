"""A gradient that is zero ends a run, which says so, with every solver; no solver divides by it."""

import math
from functools import partialmethod

import numpy as np
import pytest
import torch
from apts import FREE, VARIANTS, data, solver_of
from apts import quadratic as apts_quadratic
from quadratic import Quadratic, minimum, random_quadratic, setting_of
from trials import BATCHED, FEATURES, LOGISTIC, PINN, SAMPLES, TRIED, Trial, made

from hpctrain.job.stop import ZERO_GRADIENT, find_criterion
from hpctrain.linalg.krylov.steihaug_cg import steihaug_cg
from hpctrain.linalg.vectors import norm
from hpctrain.methods.quasi_newton.inverse_hessian import ssbroyden
from hpctrain.methods.quasi_newton.secant_pairs import SecantPairs
from hpctrain.methods.sampling.epochs import batch
from hpctrain.methods.search.strong_wolfe import choose_first_trial
from hpctrain.methods.trust_region.control import TrustRegionOptions, update_radius
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.classification.problem import ClassificationProblem
from hpctrain.problems.logistic.problem import LogisticProblem
from hpctrain.run.train import resume, run
from hpctrain.solvers import SOLVERS, make_solver
from hpctrain.solvers.apts_parts import APTSPartsOptions
from hpctrain.solvers.gauss_newton import GaussNewtonOptions
from hpctrain.solvers.spqn import SPQNOptions


@pytest.fixture
def trial(tmp_path):
    return Trial(tmp_path).flatten()


@pytest.fixture
def begin(monkeypatch):
    """Makes classifiers and planes begin with all parameters equal to a number, 0 at first."""
    usual = {
        kind: kind.make_initial_parameters for kind in (ClassificationProblem, LogisticProblem)
    }

    def at(value: float) -> None:
        for kind in usual:
            monkeypatch.setattr(kind, "make_initial_parameters", partialmethod(filled, value))

    def filled(problem, value, seed):
        return torch.full_like(usual[type(problem)](problem, seed), value)

    at(0.0)
    return at


@pytest.mark.parametrize("name", SOLVERS)
def test_a_run_that_begins_where_the_gradient_is_zero_ends_there_and_says_so(
    name, trial, begin, capsys
):
    outcome = run(trial.job(name), Communicator())
    assert (outcome.reason, outcome.iterations, outcome.status) == (ZERO_GRADIENT, 0, 0)
    assert "stopped: the gradient is zero\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", SOLVERS)
def test_a_step_from_where_the_gradient_is_zero_leads_nowhere(name, trial, begin):
    solver, state = made(trial.job(name))
    theta, loss = state.point.theta.clone(), state.point.loss
    for _ in range(3):
        state, record = solver.step(state)
        assert torch.equal(state.point.theta, theta)
        assert (record.loss, record.gradient_norm) == (loss, 0)


LATER = {
    **dict.fromkeys(["lbfgs", "ssbroyden", "aspqn", "torch-lbfgs", "trust-region"], PINN),
    **dict.fromkeys(["mlvr", "mlvr-krylov", "astrom", "svrg", "sarah", "ssn", "newton"], LOGISTIC),
}


@pytest.mark.parametrize("name", LATER)
def test_a_run_ends_too_where_the_gradient_becomes_zero(name, trial, begin):
    """No residual is left, or the ridge alone, whose minimum these methods meet exactly."""
    trial.equation("torch.relu(u.value)")
    begin(0.125)
    outcome = run(trial.job(name), Communicator())
    assert outcome.reason is ZERO_GRADIENT and 1 <= outcome.iterations <= 3


BY_SHARES = ("apts-data", "apts-parts")


@pytest.mark.parametrize("name", [name for name in SOLVERS if name not in BY_SHARES])
def test_a_gradient_whose_square_underflows_is_not_zero_and_not_divided_by(name, trial, begin):
    trial.equation("1 + 1e-200 * u.t")
    trial.rows(1e-200 * np.where(np.arange(SAMPLES) % 2, 1, [[-1], [1], [1]]).T)
    tried = TRIED.get(name, (PINN, ""))
    if tried[0] is not PINN:  # images of this size would be scaled
        settings = {"rmtr": "levels = 1\nbatch_size = 16", "apts-weights": "blocks = 1"}
        tried = (LOGISTIC, settings.get(name, tried[1]))
    check_steps_from_a_tiny_gradient(*made(trial.job(name, tried=tried)))


@pytest.mark.parametrize("options", [data(region=FREE), APTSPartsOptions(batch_size=8, parts=2)])
def test_nor_is_that_of_shares_of_the_samples(options):
    loss = apts_quadratic()
    loss.A, loss.b = 1e-200 * loss.A, 1e-200 * loss.b
    solver = solver_of(options, loss)
    check_steps_from_a_tiny_gradient(solver, solver.init(torch.zeros(loss.parameters).double()))


def check_steps_from_a_tiny_gradient(solver, state):
    assert 0 < norm(state.point.gradient) < 1e-199
    for _ in range(3):
        state, record = solver.step(state)
        assert math.isfinite(record.loss + record.gradient_norm)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_norm_is_zero_for_zero_only(dtype):
    tiny = torch.finfo(dtype).tiny
    assert norm(torch.zeros(3, dtype=dtype)) == 0
    for size in (1.0, tiny**0.5, 2 * tiny, tiny / 8):
        v = torch.tensor([3.0, 0.0, -4.0], dtype=dtype) * size
        assert norm(v) == pytest.approx(5 * size, rel=1e-6)
    assert math.isnan(norm(torch.tensor([math.nan, tiny], dtype=dtype)))


@pytest.mark.parametrize("name", BATCHED)
@pytest.mark.parametrize("bound", [None, "stop.gradient_norm=1e-12"])
def test_a_mini_batch_without_a_gradient_ends_no_run(name, bound, trial, begin):
    """At θ = 0 only the features have a gradient, and the first mini-batch has none of them."""
    features = np.ones((SAMPLES, FEATURES))
    features[batch(0, 0, 0, 4, SAMPLES).numpy()] = 0
    features[1::2] *= 0.5  # the classes do not balance each other
    trial.rows(features)
    job = trial.job(name, *([bound] if bound else []), tried=(LOGISTIC, BATCHED[name]))
    _, state = made(job)
    outcome = run(job, Communicator())
    assert (outcome.reason, outcome.iterations) == (find_criterion("max_iterations"), 8)
    if name in ("sgd", "adam"):
        assert norm(state.point.gradient) == 0


@pytest.mark.parametrize("name", BATCHED)
def test_mini_batches_that_all_have_no_gradient_end_it(name, trial, begin):
    outcome = run(trial.job(name, tried=(LOGISTIC, BATCHED[name])), Communicator())
    assert (outcome.reason, outcome.iterations) == (ZERO_GRADIENT, 0)


def test_all_samples_are_asked_where_an_epoch_ends(trial, begin, tmp_path):
    """One step leads to the minimum of the ridge; three batches later all have been seen."""
    begin(0.125)
    path = str(tmp_path / "run.h5")
    job = trial.job("sgd", tried=(LOGISTIC, BATCHED["sgd"]))
    outcome = run(job, Communicator(), path)
    assert (outcome.reason, outcome.iterations) == (ZERO_GRADIENT, 4)
    assert resume(path, Communicator()) == outcome


@pytest.mark.parametrize("ratio", [-math.inf, 1.0])
def test_no_step_says_nothing_of_the_radius(ratio):
    assert update_radius(0.3, ratio, 0.0, TrustRegionOptions()) == 0.3


def test_a_radius_outlives_mini_batches_without_a_gradient(trial, begin):
    for name in ("trust-region", "apts-weights", "rmtr"):
        solver, state = made(trial.job(name, tried=(LOGISTIC, BATCHED[name])))
        before = radii(state)
        for _ in range(3):
            state, _ = solver.step(state)
        assert radii(state) == before


def radii(state):
    if hasattr(state, "levels"):
        return [(each.radius, each.reach) for each in state.levels]
    return state.radius, getattr(state, "global_radius", None)


@pytest.mark.parametrize("name", ["aspqn", "mspqn"])
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("local", ["lbfgs", "ssbroyden", "trust-region"])
@pytest.mark.parametrize("outer", ["lbfgs", "ssbroyden"])
def test_a_block_at_its_minimum_does_not_hold_up_the_others(name, kept, local, outer):
    loss, theta = separable_quadratic()
    options = SPQNOptions(
        name=name, blocks=3, local_steps=4, local_solver=local, global_solver=outer,
        keep_local_memory=kept,
    )  # fmt: skip
    check_all_but_the_middle_block_move(make_solver(setting_of(loss, [4, 4, 4]), options), theta)


@pytest.mark.parametrize("synchronisation", ["block-wise", "subspace"])
def test_nor_the_search_for_their_step_lengths(synchronisation):
    loss, theta = separable_quadratic()
    options = SPQNOptions(blocks=3, local_steps=4, synchronisation=synchronisation)
    check_all_but_the_middle_block_move(make_solver(setting_of(loss, [4, 4, 4]), options), theta)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name.startswith("weights")])
def test_nor_a_trust_region_in_weights(variant):
    loss, theta = separable_quadratic()
    options = VARIANTS[variant].model_copy(update={"blocks": 3})
    check_all_but_the_middle_block_move(solver_of(options, loss), theta, most=0.6)


def check_all_but_the_middle_block_move(solver, theta, most=1e-3):
    state = solver.init(theta)
    first = state.point.loss
    for _ in range(12):
        state, _ = solver.step(state)
    assert torch.equal(state.point.theta[4:8], theta[4:8])
    assert state.point.loss < most * first


def separable_quadratic():
    """Blocks that do not couple, L* = 0, and a θ where the middle one is at its minimum."""
    random = random_quadratic(12, samples=8)
    blocks = torch.block_diag(torch.ones(4, 4), 2 * torch.eye(4), torch.ones(4, 4)).double()
    A = random.A * blocks
    A[:, 4:8, 4:8] = 2 * torch.eye(4)
    b = random.b.clone()
    b[:, 4:8] = 1
    loss = Quadratic(A, b)
    loss.c = torch.full((8,), -float(loss.sum_losses(minimum(loss)).mean())).double()
    return loss, torch.full((12,), 0.5).double()


@pytest.mark.parametrize("corrected", [True, False])
def test_a_share_without_a_gradient_does_not_hold_up_the_others(corrected):
    loss = apts_quadratic()
    options = data(model="lsr1", subdomains=4, first_order_correction=corrected, region=FREE)
    flat = solver_of(options, loss).subdomains.work.own[1].samples
    loss.A[flat], loss.b[flat] = 0, 0
    solver = solver_of(options, loss)
    state = solver.init(torch.ones(loss.parameters).double())
    first, best = state.point.loss, float(loss.sum_losses(minimum(loss)).mean())
    for _ in range(20):
        state, _ = solver.step(state)
    assert state.point.loss - best < 0.1 * (first - best)


def test_no_first_trial_is_taken_from_a_slope_of_zero():
    assert choose_first_trial(1.0, 2.0, -0.0) == 1.0
    assert choose_first_trial(1.0, 2.0, -4.0) == 0.5


def test_a_decrease_far_beyond_the_model_s_eases_the_damping_the_most():
    most, one = (GaussNewtonOptions().ease(3.0, rho, 0.5) for rho in (1e300, 1.0))
    assert most == one == 1.0


def test_a_pair_is_not_learnt_from_if_its_products_underflow():
    """sᵀy is positive in either case, yᵀy or sᵀy is nothing to divide by."""
    one = torch.ones(2).double()
    for s, y in ((one, 1e-170 * one), (1e-155 * one, 1e-155 * one)):
        assert not SecantPairs().store(s, y, 3)
    assert SecantPairs().store(one, 1e-150 * one, 3)


def test_truncated_conjugate_gradients_reach_a_boundary_however_near_and_flat():
    g = torch.tensor([3e-130, 4e-130], dtype=torch.float64)
    found = steihaug_cg(lambda v: 0 * v, g, 1e-100, 0.1, 5)
    torch.testing.assert_close(found.step, -2e29 * g, atol=0, rtol=1e-12)


@pytest.mark.parametrize("h, b", [(1e9, 1e9), (1e-9, 1e26), (1e26, 1e-9)])
def test_the_scaling_of_a_pair_all_but_without_curvature_is_finite(h, b):
    found = ssbroyden(h, b, 20)
    assert found.tau > 0 and math.isfinite(found.phi)
