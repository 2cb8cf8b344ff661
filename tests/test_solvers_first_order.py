"""Adam, gradient descent and torch's L-BFGS against the papers' formulas and torch.optim."""

import math

import pytest
import torch
from quadratic import minimum, objective_of, random_quadratic, setting_of

from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.sampling.epochs import batch
from hpctrain.objective import evaluate_point
from hpctrain.solvers import make_solver
from hpctrain.solvers.first_order import AdamOptions, SGDOptions
from hpctrain.solvers.torch_lbfgs import TorchLBFGSOptions
from hpctrain.store.state import flatten, unflatten

N = 20
START = torch.ones(N, dtype=torch.float64)
SOLVERS = [
    AdamOptions(learning_rate=0.05),
    SGDOptions(learning_rate=0.01, momentum=0.8),
    TorchLBFGSOptions(history_size=5),
]


def run(options, loss, steps, start=START):
    """The states after each step, the records, and what was counted."""
    setting = setting_of(loss, [loss.parameters])
    solver = make_solver(setting, options)
    states, records = [solver.init(start)], []
    for _ in range(steps):
        state, record = solver.step(states[-1])
        states.append(state)
        records.append(record)
    return states, records, setting.counts


def run_torch(make, loss, steps):
    """The same by an optimizer of torch.optim; every point that its closure was called at."""
    objective = objective_of(loss)
    theta = START.clone().requires_grad_()
    optimizer, seen = make([theta]), []

    def closure():
        seen.append(theta.detach().clone())
        evaluation = objective.evaluate_with_gradient(theta.detach())
        theta.grad = evaluation.evaluate_gradient()
        return evaluation.loss

    for _ in range(steps):
        optimizer.step(closure)
    return theta.detach(), seen


def test_first_step_of_adam_is_the_learning_rate_along_the_signs_of_the_gradient():
    """m̂ = g and v̂ = g² after the correction of the bias, whatever β₁ and β₂ are."""
    loss = random_quadratic(N)
    options = AdamOptions(learning_rate=0.03, beta1=0.7, beta2=0.9, epsilon=1e-14)
    (before, after), _, _ = run(options, loss, 1)
    expected = START - 0.03 * before.point.gradient.sign()
    torch.testing.assert_close(after.point.theta, expected, rtol=0, atol=1e-12)


def test_second_step_of_adam_is_that_of_the_paper_by_hand():
    loss = random_quadratic(1)
    states, _, _ = run(AdamOptions(learning_rate=0.1, beta1=0.5, beta2=0.75), loss, 2, START[:1])
    g1, g2 = (float(state.point.gradient) for state in states[:2])
    m_hat = (0.25 * g1 + 0.5 * g2) / 0.75
    v_hat = (0.75 * 0.25 * g1**2 + 0.25 * g2**2) / (1 - 0.75**2)
    step = float(states[2].point.theta - states[1].point.theta)
    assert step == pytest.approx(-0.1 * m_hat / (math.sqrt(v_hat) + 1e-8), rel=1e-12)


@pytest.mark.parametrize("options", [{}, {"beta1": 0.6, "beta2": 0.95, "epsilon": 1e-3}])
def test_adam_is_that_of_torch(options):
    loss = random_quadratic(N, spread=2)
    betas = (options.get("beta1", 0.9), options.get("beta2", 0.999))
    eps = options.get("epsilon", 1e-8)
    states, _, _ = run(AdamOptions(learning_rate=0.02, **options), loss, 100)
    theta, _ = run_torch(lambda p: torch.optim.Adam(p, lr=0.02, betas=betas, eps=eps), loss, 100)
    torch.testing.assert_close(states[-1].point.theta, theta, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_gradient_descent_is_that_of_torch(momentum):
    loss = random_quadratic(N)
    states, _, _ = run(SGDOptions(learning_rate=0.01, momentum=momentum), loss, 100)
    theta, _ = run_torch(lambda p: torch.optim.SGD(p, lr=0.01, momentum=momentum), loss, 100)
    torch.testing.assert_close(states[-1].point.theta, theta, rtol=1e-12, atol=1e-12)


def test_gradient_descent_without_momentum_goes_down_the_gradient():
    (before, after), _, _ = run(
        SGDOptions(learning_rate=0.125, momentum=0.0), random_quadratic(N), 1
    )
    torch.testing.assert_close(after.point.theta, START - 0.125 * before.point.gradient)


@pytest.mark.parametrize("history_size", [3, 100])
def test_torch_lbfgs_is_one_long_call_of_torch_with_the_same_evaluations(history_size):
    loss, steps = random_quadratic(N, spread=2), 20
    states, records, counts = run(TorchLBFGSOptions(history_size=history_size), loss, steps)
    theta, seen = run_torch(
        lambda p: torch.optim.LBFGS(
            p, max_iter=steps, max_eval=1000, tolerance_grad=0, tolerance_change=0,
            history_size=history_size, line_search_fn="strong_wolfe",
        ), loss, 1,
    )  # fmt: skip
    assert torch.equal(states[-1].point.theta, theta)
    assert counts.gradient_evaluations == len(seen)
    assert counts.loss_evaluations == 0
    assert not any(record.outcome.is_final for record in records)
    assert states[-1].memory.func_evals == len(seen) + steps - 1  # torch counts known ones too


BATCHED = [AdamOptions(learning_rate=0.05, batch_size=3), SGDOptions(batch_size=2)]


@pytest.mark.parametrize("options", BATCHED, ids=str)
def test_a_step_goes_along_the_gradient_of_its_mini_batch_and_evaluates_the_next(options):
    """8 samples: 3 batches of 2, 3 and 3, or 4 of 2."""
    loss, size = random_quadratic(N, samples=8), options.batch_size
    states, records, counts = run(options, loss, 9)
    batches = -(-8 // size)
    for t, state in enumerate(states):
        chosen = batch(0, t // batches, t % batches, size, 8)
        part = objective_of(loss).subset(chosen).evaluate_with_gradient(state.point.theta)
        assert state.point.loss == part.loss and torch.equal(
            state.point.gradient, part.evaluate_gradient()
        )
    epochs = [record.epoch for record in records]
    assert epochs == pytest.approx([t / batches for t in range(1, 10)], rel=1e-14)
    assert counts.gradient_evaluations == pytest.approx(10 / batches, abs=0.2)


@pytest.mark.parametrize("steps", [0, 1, 7])
@pytest.mark.parametrize("options", SOLVERS + BATCHED, ids=str)
def test_a_run_goes_on_from_the_leaves_of_its_state_with_the_same_bits(options, steps):
    loss = random_quadratic(N, spread=2)
    states, _, _ = run(options, loss, 12)
    stored = {leaf.path: leaf.value for leaf in flatten(states[steps])}
    state = unflatten(type(states[0]), stored)
    solver = make_solver(setting_of(loss, [N]), options)
    for _ in range(12 - steps):
        state, _ = solver.step(state)
    assert torch.equal(state.point.theta, states[-1].point.theta)


@pytest.mark.parametrize("options", SOLVERS + BATCHED, ids=str)
def test_a_step_leaves_the_state_before_it_as_it_was(options):
    loss = random_quadratic(N, spread=2)
    solver = make_solver(setting_of(loss, [N]), options)
    state = solver.init(START)
    for _ in range(7):
        state, _ = solver.step(state)
    before = {
        leaf.path: leaf.value.clone() if isinstance(leaf.value, torch.Tensor) else leaf.value
        for leaf in flatten(state)
    }
    solver.step(state)
    after = {leaf.path: leaf.value for leaf in flatten(state)}
    assert before.keys() == after.keys()
    assert all(torch.equal(torch.as_tensor(before[k]), torch.as_tensor(after[k])) for k in before)


@pytest.mark.parametrize("options", SOLVERS, ids=str)
def test_a_quadratic_is_minimised(options):
    loss = random_quadratic(N, spread=1)
    states, _, _ = run(options, loss, 1500)
    torch.testing.assert_close(states[-1].point.theta, minimum(loss), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", SOLVERS, ids=str)
def test_what_the_state_says_of_its_point_is_true(options):
    loss = random_quadratic(N)
    state = run(options, loss, 3)[0][-1]
    there = evaluate_point(objective_of(loss), state.point.theta)
    assert state.point.loss == pytest.approx(there.loss, rel=1e-12)
    torch.testing.assert_close(state.point.gradient, there.gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", SOLVERS[:2], ids=str)
def test_a_first_order_step_costs_one_gradient(options):
    _, records, counts = run(options, random_quadratic(N), 9)
    assert counts.gradient_evaluations == 10 and counts.loss_evaluations == 0
    assert all(record.nominal_gradient_evaluations == 1 for record in records)
    assert all(record.step_length == options.learning_rate for record in records)


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_torch_lbfgs_shows_a_loss_that_is_not_finite(factor):
    """torch's search takes such a trial for its best: the runner is to see it."""
    loss = random_quadratic(N)
    solver = make_solver(setting_of(loss, [N]), TorchLBFGSOptions())
    state = solver.init(START)
    loss.b = loss.b * factor
    state, record = solver.step(state)
    assert record.outcome.is_final or not math.isfinite(record.loss)
    state, record = solver.step(state)
    assert not math.isfinite(record.loss) or record.step_length == 0


@pytest.mark.parametrize("form", ["linear", "cosine"])
@pytest.mark.parametrize("options", SOLVERS[:2])
def test_a_decay_is_the_schedule_of_torch_and_ends_the_run_at_its_end(options, form):
    steps, loss = 6, random_quadratic(N)
    o = type(options)(**options.model_dump() | {"decay": form, "decay_steps": steps})
    states, records, _ = run(o, loss, steps + 1)

    def factor(t):
        return 1 - t / steps if form == "linear" else (1 + math.cos(math.pi * t / steps)) / 2

    theta = START.clone().requires_grad_()
    kind = torch.optim.Adam if o.name == "adam" else torch.optim.SGD
    momentum = {} if o.name == "adam" else {"momentum": o.momentum}
    peer = kind([theta], lr=o.learning_rate, **momentum)
    schedule = torch.optim.lr_scheduler.LambdaLR(peer, factor)
    for t in range(steps):
        assert records[t].step_length == pytest.approx(o.learning_rate * factor(t))
        there = objective_of(loss).evaluate_with_gradient(theta.detach())
        theta.grad = there.evaluate_gradient()
        peer.step()
        schedule.step()
    torch.testing.assert_close(states[steps].point.theta, theta.detach(), rtol=1e-10, atol=1e-10)
    assert torch.equal(states[steps + 1].point.theta, states[steps].point.theta)
    assert records[steps].outcome is Outcome.DECAYED
    assert all(record.outcome is Outcome.ACCEPTED for record in records[:steps])
