"""Mini-batches of points: each has its share of every term, and is the loss in the mean."""

from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from job_texts import write_text
from test_equations_terms import everything

from hpctrain.errors import InputError
from hpctrain.job.settings import parse_job
from hpctrain.methods.sampling.epochs import batch, count_batches
from hpctrain.methods.sampling.mini_batches import make_mini_batches
from hpctrain.objective import Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations.holding import Holding
from hpctrain.run.train import resume, run
from hpctrain.store.run_file import read_run

JOB = write_text(
    'name = "kovasznay"\npoints = 300',
    output="checkpoint_every = 2\niterates_every = 1\nerror_every = 3",
    stop="max_iterations = {iterations}",
    chunks=4,
)
ADAM = 'name = "adam"\nlearning_rate = 0.01\nbatch_size = 200'


@given(
    strata=st.lists(st.integers(1, 60), min_size=2, max_size=4),
    size=st.integers(4, 80),
    epoch=st.integers(0, 3),
)
def test_each_batch_has_its_share_of_every_kind_and_each_sample_comes_as_often(strata, size, epoch):
    count = count_batches(sum(strata), size)
    batches = [batch(1, epoch, index, size, *strata) for index in range(count)]
    assert all((each.diff() > 0).all() for each in batches)
    for (first, last), samples in zip(pairwise([0, *accumulate(strata)]), strata, strict=True):
        own = [each[(each >= first) & (each < last)] for each in batches]
        sizes = {len(each) for each in own}
        assert sizes <= {max(1, samples // count), -(-samples // count)}
        seen = torch.bincount(torch.cat(own) - first, minlength=samples)
        assert seen.max() - seen.min() <= (1 if samples < count else 0)


@pytest.fixture(params=["native", "torch"])
def problem(request, monkeypatch):
    """Equations with a term of every kind, some of them left to torch."""
    if request.param == "torch":
        monkeypatch.setenv("HPCTRAIN_KERNELS", "torch")
    return everything()


def pick(term, chosen):
    """The term at some of its samples."""
    places = (term.group * chosen[:, None] + torch.arange(term.group)).flatten()

    def at(rows):
        return None if rows is None else rows[:, places]

    weights = None if term.sample_weights is None else term.sample_weights[chosen]
    return replace(
        term,
        points=at(term.points),
        normals=at(term.normals),
        given=at(term.given),
        sample_weights=weights,
    )


def test_a_batch_is_the_weighted_sum_of_means_over_its_points(problem):
    objective = Objective.of(problem, Communicator(), chunks=4)
    theta = problem.make_initial_parameters(3)
    offsets = [0, *accumulate(objective.strata)]
    for index in range(3):
        chosen = make_mini_batches(objective, 0, 30).choose(index)
        found = objective.subset(chosen).evaluate_with_gradient(theta)
        own = [chosen[(chosen >= a) & (chosen < b)] - a for a, b in pairwise(offsets)]
        terms = [pick(*each) for each in zip(problem.terms, own, strict=True)]
        share = problem.make_share(terms, Holding(1, 0, 1, 1))
        expected = share.sum_losses_and_gradients(theta)[0] / problem.samples
        assert found.loss == pytest.approx(float(expected[0]), rel=1e-12)
        torch.testing.assert_close(found.evaluate_gradient(), expected[1:], rtol=1e-10, atol=1e-12)
        assert objective.subset(chosen).evaluate(theta).loss == pytest.approx(found.loss)


def test_all_samples_are_the_loss(problem):
    objective = Objective.of(problem, Communicator(), chunks=4)
    theta = problem.make_initial_parameters(3)
    found = objective.subset(torch.arange(objective.samples)).evaluate_with_gradient(theta)
    expected = objective.evaluate_with_gradient(theta)
    assert found.loss == pytest.approx(expected.loss, rel=1e-14)


def train(path, solver=ADAM, *overrides, iterations=8):
    job = parse_job(JOB.format(solver=solver, iterations=iterations), "a test", overrides)
    run(job, Communicator(), str(path))
    return read_run(path)


def test_the_mean_over_an_epoch_is_the_loss_and_its_gradient(tmp_path):
    """Where a batch's share of each term is a whole number."""
    from hpctrain.run import assemble

    job = parse_job(JOB.format(solver=ADAM, iterations=1), "a test")
    problem = assemble.make_problem(job)
    objective = assemble.make_objective(problem, Communicator(), job.parallel.chunks, 1)
    batches = make_mini_batches(objective, 0, 200)
    count = count_batches(objective.samples, 200)
    assert all(samples % count == 0 for samples in objective.strata), objective.strata
    theta = problem.make_initial_parameters(0)
    parts = [
        batches.make_objective(objective, k).evaluate_with_gradient(theta) for k in range(count)
    ]
    whole = objective.evaluate_with_gradient(theta)
    assert np.mean([each.loss for each in parts]) == pytest.approx(whole.loss, rel=1e-13)
    mean = torch.stack([each.evaluate_gradient() for each in parts]).mean(0)
    torch.testing.assert_close(mean, whole.evaluate_gradient(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "solver",
    [
        ADAM,
        'name = "sgd"\nlearning_rate = 1e-3\nbatch_size = 200',
        'name = "trust-region"\nbatch_size = 200\nbatch_overlap = 10',
        'name = "apts-weights"\nblocks = 2\nbatch_size = 200',
    ],
)
def test_training_on_batches_lowers_the_loss_of_all_points(tmp_path, solver):
    found = train(tmp_path / "run.h5", solver, iterations=40)
    every = [name for name in found.history if name.startswith("loss.")]
    sums = np.sum([found.history[name] for name in every], axis=0)
    measured = sums[np.isfinite(sums)]
    assert measured[-1] < 0.9 * measured[0]
    # 40 batches of 200 of 800 points, and a tenth of the other 600 where they overlap.
    drawn = 260 if "overlap" in solver else 200
    assert found.history["epoch"][-1] == pytest.approx(40 * drawn / 800)


def test_an_interrupted_run_on_batches_goes_on_with_the_same_bits(tmp_path):
    whole = train(tmp_path / "whole.h5")
    train(tmp_path / "part.h5", iterations=5)
    resume(str(tmp_path / "part.h5"), Communicator(), ["stop.max_iterations=8"])
    found = read_run(tmp_path / "part.h5")
    assert np.array_equal(found.iterates.theta, whole.iterates.theta)
    assert np.array_equal(found.history["loss"], whole.history["loss"])


def test_a_gradient_counts_as_the_part_of_the_points_that_its_batch_has(tmp_path):
    evaluations = train(tmp_path / "run.h5").history["gradient_evaluations"]
    assert np.diff(evaluations) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("solver", "line"),
    [
        (
            ADAM.replace("200", "801"),
            "solver.batch_size = 801 is not allowed: at most 800, the",
        ),
        (ADAM.replace("200", "2"), "solver.batch_size = 2 is not allowed: at least 3, a sample of"),
        ('name = "svrg"', 'solver.name = "svrg" is not allowed: this problem\'s loss cannot be'),
        (
            'name = "trust-region"\nsampling = "growing"\nsample_size = 5',
            'solver.sampling = "growing": this problem\'s loss cannot be taken over some',
        ),
        (
            'name = "trust-region"\nmodel = "hessian"\nbatch_size = 200',
            'solver.model = "hessian": this problem\'s loss has no Hessian products',
        ),
    ],
)
def test_what_batches_of_points_cannot_be_is_refused_in_one_line(tmp_path, solver, line):
    with pytest.raises(InputError) as caught:
        train(tmp_path / "run.h5", solver)
    assert str(caught.value).startswith(line)
    assert not (tmp_path / "run.h5").exists()
