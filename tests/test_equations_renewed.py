"""Jobs whose points and weights are renewed: their solvers, and what is refused in them."""

import math

import pytest
import torch

from hpctrain.job.settings import parse_job
from hpctrain.methods.sampling.mini_batches import make_mini_batches
from hpctrain.objective import evaluate_point
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations.terms import EQUATION
from hpctrain.run import assemble as build

# Every solver that takes equations, with settings under which it has something to remember.
SOLVERS = {
    "adam": "",
    "sgd": "learning_rate = 1e-6",
    "lbfgs": "",
    "torch-lbfgs": "",
    "ssbfgs": "",
    "ssbroyden": "",
    "gauss-newton": "",
    "spring": "",
    "newton-krylov-schwarz": "blocks = 2\nsketch = 10",
    "trust-region": 'model = "lsr1"\nwindow = 3',
    "aspqn": "blocks = 2\nlocal_steps = 2\nkeep_local_memory = true",
    "mspqn": 'blocks = 2\nlocal_steps = 2\nglobal_solver = "ssbroyden"',
    "apts-weights": "blocks = 2\nwindow = 3",
}
JOB = """
[problem]
name = "burgers"
points = 40
constraints = "soft"
condition_points = 16
[problem.adapt]
every = 3
points = "r3"
weights = "gradients"
memory = 0.0
[network]
depth = 3
width = 4
[parallel]
chunks = 4
threads = 1
[solver]
name = "{name}"
{settings}
"""


def job(name, settings=""):
    return parse_job(JOB.format(name=name, settings=settings), "a test")


def assemble(name):
    """The problem and the loss of a solver's job, and the solver."""
    made = job(name, SOLVERS[name])
    problem = build.make_problem(made)
    objective = build.make_objective(problem, Communicator(), made.parallel.chunks, 1)
    return problem, objective, build.make_job_solver(made, objective)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_renewed_solver_goes_on_from_its_point_under_the_new_loss(name):
    problem, objective, solver = assemble(name)
    renew = problem.make_renewal(objective, 0)
    state = solver.init(problem.make_initial_parameters(0))
    for _ in range(3):
        state, _ = solver.step(state)
    theta = state.point.theta
    renew.renew(theta, 3)
    renewed = solver.renew(state)
    expected = evaluate_point(objective.copy_uncounted(), theta)
    assert torch.equal(renewed.point.theta, theta)
    assert renewed.point.loss == expected.loss != state.point.loss
    # SPRING has it from the rows of J, which its next step takes.
    rtol = 1e-12 if name == "spring" else 0
    torch.testing.assert_close(renewed.point.gradient, expected.gradient, rtol=rtol, atol=rtol)
    for _ in range(10):  # a trust region may have to shrink first
        renewed, _ = solver.step(renewed)
    assert math.isfinite(renewed.point.loss)
    assert not torch.equal(renewed.point.theta, theta)


QUASI_NEWTON = {"lbfgs", "torch-lbfgs", "ssbfgs", "ssbroyden", "aspqn", "mspqn"}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_goes_back_to_an_earlier_point_and_searches_along_its_gradient(name):
    problem, _, solver = assemble(name)
    theta = problem.make_initial_parameters(0)
    state = start = solver.init(theta)
    for _ in range(3):
        state, _ = solver.step(state)
    back = solver.go_back(state, theta)
    assert torch.equal(back.point.theta, theta)
    assert back.point.loss == pytest.approx(start.point.loss, rel=1e-14)
    if name in QUASI_NEWTON:  # as if nothing had been learnt
        again, expected = solver.step(back)[0], solver.step(start)[0]
        assert torch.equal(again.point.theta, expected.point.theta)


def test_observations_stay_where_fresh_points_are_drawn():
    text = JOB.format(name="adam", settings="").replace('"burgers"', '"burgers-inverse"')
    text = text.replace('"r3"\nweights = "gradients"\nmemory = 0.0', '"fresh"')
    made = parse_job(text.replace('constraints = "soft"\n', ""), "a test")
    problem = build.make_problem(made)
    objective = build.make_objective(problem, Communicator(), made.parallel.chunks, 1)
    before = problem.terms
    problem.make_renewal(objective, 0).renew(problem.make_initial_parameters(0), 3)
    moved = {
        old.name: not torch.equal(old.points, new.points)
        for old, new in zip(before, problem.terms, strict=True)
    }
    assert moved.pop(EQUATION) and moved and not any(moved.values())


@pytest.mark.parametrize("name", ["trust-region", "apts-weights"])
def test_the_window_of_last_losses_is_emptied_where_the_loss_is_renewed(name):
    problem, _, solver = assemble(name)
    state = solver.init(problem.make_initial_parameters(0))
    for _ in range(3):
        state, _ = solver.step(state)
    assert state.window and not solver.renew(state).window


def test_the_secant_pair_that_torch_has_still_to_make_is_of_the_new_loss_alone():
    problem, objective, solver = assemble("torch-lbfgs")
    state = solver.init(problem.make_initial_parameters(0))
    for _ in range(3):
        before, (state, _) = state.point.theta, solver.step(state)
    problem.make_renewal(objective, 0).renew(state.point.theta, 3)
    memory, expected = solver.renew(state).memory, evaluate_point(objective, before)
    torch.testing.assert_close(memory.prev_flat_grad, expected.gradient, rtol=1e-9, atol=1e-12)
    assert memory.prev_loss == pytest.approx(expected.loss, rel=1e-9)


def test_a_method_on_mini_batches_is_renewed_on_the_one_that_it_goes_on_with():
    made = job("adam", "batch_size = 20")
    problem = build.make_problem(made)
    objective = build.make_objective(problem, Communicator(), made.parallel.chunks, 1)
    solver = build.make_job_solver(made, objective)
    state, _ = solver.step(solver.init(problem.make_initial_parameters(0)))
    problem.make_renewal(objective, 0).renew(state.point.theta, 3)
    batch = make_mini_batches(objective, 0, 20).make_objective(objective, 1)
    expected = evaluate_point(batch, state.point.theta)
    found = solver.renew(state).point
    assert found.loss == expected.loss and torch.equal(found.gradient, expected.gradient)


def with_adapt(adapt, problem="burgers", soft=True):
    text = JOB.format(name="ssbroyden", settings="").replace('"burgers"', f'"{problem}"')
    start, end = text.index("[problem.adapt]"), text.index("[network]")
    text = text[:start] + f"[problem.adapt]\n{adapt}\n" + text[end:]
    return text if soft else text.replace('"soft"', '"hard"')


REFUSED = {
    "problem.adapt": ("every = 3", "needs points, weights or sample_weights"),
    "power": ('points = "r3"\npower = 2.0', 'power has no effect without points = "rad"'),
    "memory": ('points = "r3"\nmemory = 0.5', "memory has no effect without weights"),
    "bins": ('points = "r3"\nbins = 4', 'bins has no effect without sample_weights = "causal"'),
    "guard": ('weights = "ntk"\nguard = 9.0', "guard has no effect without points"),
    "no guard": ('points = "r3"\nguard = 0.5', "0, or above 1"),
    "rate": ('points = "r3"\nrate = 0.5', "rate has no effect"),
    "both": ('points = "rad"\nsample_weights = "self-adaptive"', "belong to points that stay"),
    "few": ('points = "rad"\ncandidates = 39', "adapt.candidates = 39 is not allowed"),
    "epsilons": ('sample_weights = "causal"\nepsilons = [1.0, 0.1]', "in ascending order"),
    "unknown": ('points = "rar"', "problem.adapt.points"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_contradict_each_other_or_have_no_effect_are_refused(
    case, write_job, refusal
):
    adapt, message = REFUSED[case]
    assert message in refusal("run", write_job(with_adapt(adapt)))


def test_weights_are_refused_where_the_equation_is_the_only_term(write_job, refusal):
    job = write_job(with_adapt('weights = "ntk"', soft=False))
    assert "has no conditions in its loss that weights" in refusal("run", job)


def test_causal_weights_are_refused_without_time(write_job, refusal):
    job = write_job(with_adapt('sample_weights = "causal"', problem="poisson-2d"))
    assert 'has no coordinate t for sample_weights = "causal": it has x, y' in refusal("run", job)
