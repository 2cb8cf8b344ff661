"""The logistic loss: its derivatives, its subsets, and what does not depend on how it is cut."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from logistic import CHUNKS, objective_over, random_problem, random_rows

from hpctrain.errors import InputError
from hpctrain.job.settings import JobError, load_job, parse_job
from hpctrain.job.stop import find_criterion
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.data.libsvm import write_libsvm
from hpctrain.problems.logistic import suboptimality
from hpctrain.problems.logistic.problem import LabelledRows, LogisticProblem
from hpctrain.problems.logistic.suboptimality import find_minimum
from hpctrain.run.train import run
from hpctrain.store.run_file import read_run


@pytest.fixture(params=[False, True], ids=["dense", "sparse"])
def problem(request):
    return random_problem(sparse=request.param)


@pytest.fixture
def theta():
    return torch.randn(6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def by_torch(problem, chosen=slice(None)):
    """L over some samples, written down once more."""
    rows = problem._rows if isinstance(problem._rows, np.ndarray) else problem._rows.toarray()
    X, c = torch.from_numpy(rows)[chosen], torch.from_numpy(problem._labels)[chosen]

    def loss(theta):
        data = torch.nn.functional.softplus(-c * (X @ theta)).mean()
        return data + 0.5 * problem.ridge * theta.square().sum()

    return loss


def test_the_ridge_is_one_over_the_samples_by_default(problem):
    assert problem.ridge == 1 / 60


def test_loss_gradient_and_hessian_are_those_of_autograd(problem, theta):
    objective, loss = objective_over(problem), by_torch(problem)
    found = objective.evaluate_with_gradient(theta)
    assert found.loss == pytest.approx(float(loss(theta)), rel=1e-14)
    gradient = torch.func.grad(loss)(theta)
    torch.testing.assert_close(found.evaluate_gradient(), gradient, rtol=1e-12, atol=1e-14)
    v = torch.ones(6, dtype=torch.float64)
    expected = torch.func.hessian(loss)(theta) @ v
    torch.testing.assert_close(objective.multiply_hessian(theta, v), expected, rtol=1e-12, atol=0)


def test_a_share_of_chosen_samples_is_cut_into_chunks_of_these_alone(problem, theta):
    chosen = torch.arange(1, 60, 3)
    shares = [problem.share(CHUNKS, rank, 2, 1, chosen) for rank in range(2)]
    sums = torch.cat([share.sum_losses(theta) for share in shares])
    assert float(sums.sum()) / 20 == pytest.approx(float(by_torch(problem, chosen)(theta)))
    assert sums.min() > 0  # no chunk is empty


def test_a_gradient_takes_one_product_more_than_a_loss(problem):
    share = problem.share(CHUNKS, 0, 1, 1)
    assert share.gradient_cost == 2 * share.loss_cost


def test_samples_gathered_from_two_ranks_stand_where_they_were_chosen(problem, theta):
    chosen, given = torch.tensor([41, 3, 59, 12]), []
    for rank in range(2):
        share = problem.share(CHUNKS, rank, 2, 1)
        share.gather_samples(
            chosen, SimpleNamespace(allgather=lambda own: given.append(own) or [own])
        )
    gathered = share.gather_samples(chosen, SimpleNamespace(allgather=lambda own: given[:2]))
    for place in range(4):
        expected = torch.func.grad(by_torch(problem, chosen[place : place + 1]))(theta)
        found = gathered.evaluate_sample_gradient(place, theta)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_a_point_that_is_changed_in_place_is_another_one(problem, theta):
    found, fresh = (problem.share(CHUNKS, 0, 1, 1) for _ in range(2))
    found.sum_losses(theta)
    theta += 1
    assert torch.equal(found.sum_losses(theta), fresh.sum_losses(theta))


def test_single_precision_stays_single(problem, theta):
    """What NumPy widens would meet single precision in a solver's vectors."""
    single = LogisticProblem(
        LabelledRows(problem._rows, problem._labels), "rows", dtype=torch.float32
    )
    objective, at = objective_over(single), theta.float()
    found = objective.evaluate_with_gradient(at)
    assert (
        found.evaluate_gradient().dtype == objective.multiply_hessian(at, at).dtype == torch.float32
    )
    expected = objective_over(problem).evaluate_with_gradient(theta)
    torch.testing.assert_close(
        found.evaluate_gradient().double(), expected.evaluate_gradient(), rtol=1e-4, atol=1e-6
    )


def test_huge_margins_do_not_overflow(problem):
    far = 1e5 * torch.ones(6, dtype=torch.float64)
    found = objective_over(problem).evaluate_with_gradient(far)
    assert np.isfinite(found.loss) and bool(found.evaluate_gradient().isfinite().all())


def test_a_subset_has_the_ridge_of_the_whole_and_counts_as_its_part(problem, theta):
    objective = objective_over(problem)
    chosen = torch.tensor([0, 7, 8, 31, 59])
    subset = objective.subset(chosen)
    expected = torch.func.grad(by_torch(problem, chosen))(theta)
    torch.testing.assert_close(
        subset.evaluate_with_gradient(theta).evaluate_gradient(), expected, rtol=1e-12, atol=0
    )
    assert objective.counts.gradient_evaluations == pytest.approx(5 / 60)


def test_a_subset_of_a_subset_keeps_the_numbers_of_the_whole(problem, theta):
    objective = objective_over(problem)
    inner = objective.subset(torch.arange(0, 60, 2)).subset(torch.tensor([4, 40]))
    direct = objective.subset(torch.tensor([4, 40]))
    assert inner.evaluate_with_gradient(theta).loss == direct.evaluate_with_gradient(theta).loss


def test_gathered_samples_are_a_loss_of_their_own_in_the_order_asked_for(problem, theta):
    objective = objective_over(problem)
    chosen = torch.tensor([31, 2, 31, 50])
    gathered = objective.gather_samples(chosen)
    for place, sample in enumerate(chosen.tolist()):
        one = gathered.subset(torch.tensor([place])).evaluate_with_gradient(theta)
        same = objective.subset(torch.tensor([sample])).evaluate_with_gradient(theta)
        assert one.loss == pytest.approx(same.loss, rel=1e-15)
        torch.testing.assert_close(
            one.evaluate_gradient(), same.evaluate_gradient(), rtol=1e-14, atol=1e-16
        )
    assert objective.counts.gradient_evaluations == pytest.approx(8 / 60)


def test_a_kept_margin_is_not_taken_for_another_theta(problem, theta):
    objective = objective_over(problem)
    first = objective.evaluate(theta).loss
    moved = theta.clone()
    objective.evaluate(moved)
    moved += 1.0
    assert objective.evaluate(moved).loss == pytest.approx(
        float(by_torch(problem)(moved)), rel=1e-14
    )
    assert objective.evaluate(theta).loss == first


def test_chunk_sums_have_the_same_bits_however_ranks_cut_them(problem, theta):
    whole = problem.share(CHUNKS, 0, 1, 1)
    for ranks in (2, 3, 4):
        shares = [problem.share(CHUNKS, rank, ranks, 1) for rank in range(ranks)]
        found = torch.cat([share.sum_losses_and_gradients(theta) for share in shares])
        assert torch.equal(found, whole.sum_losses_and_gradients(theta))
        products = torch.cat([share.multiply_hessians(theta, theta) for share in shares])
        assert torch.equal(products, whole.multiply_hessians(theta, theta))


def test_the_monitor_measures_the_distance_to_the_minimum(problem):
    monitor = problem.make_monitor(Communicator(), CHUNKS, 1)
    theta = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([theta], max_iter=500, tolerance_grad=1e-12, tolerance_change=0)
    loss = by_torch(problem)

    def closure():
        optimiser.zero_grad()
        value = loss(theta)
        value.backward()
        return value

    optimiser.step(closure)
    assert monitor.minimum == pytest.approx(float(loss(theta.detach())), abs=1e-12)
    found = monitor.measure(torch.zeros(6, dtype=torch.float64))
    assert found["suboptimality"] == pytest.approx(np.log(2) - monitor.minimum, rel=1e-12)


def test_two_labels_of_any_value_become_signs():
    data = random_rows()
    renamed = LabelledRows(data.features, np.where(data.labels > 0, 2.0, 1.0))
    assert (LogisticProblem(renamed, "x")._labels == data.labels).all()


@pytest.mark.parametrize("labels", [[0, 1, 2], [1, 1, 1]])
def test_other_numbers_of_labels_are_refused(labels):
    data = LabelledRows(np.ones((3, 2)), np.array(labels, dtype=float))
    with pytest.raises(InputError, match=f"my.libsvm: {len(set(labels))} different labels"):
        LogisticProblem(data, "my.libsvm")


def test_a_feature_that_is_not_finite_is_refused():
    data = LabelledRows(np.array([[1.0], [np.nan]]), np.array([1.0, -1.0]))
    with pytest.raises(InputError, match="not finite"):
        LogisticProblem(data, "my.libsvm")


ROOT = Path(__file__).parents[1]
JOB = """
[problem]
name = "logistic"
data = "{data}"

[solver]
{solver}

[parallel]
chunks = 8

[output]
error_every = 1

[stop]
{stop}
"""


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "set.libsvm"
    write_libsvm(path, random_rows())
    return path


@pytest.mark.parametrize(
    "path", sorted((ROOT / "jobs" / "logistic").glob("*.toml")), ids=lambda path: path.stem
)
def test_shipped_jobs_are_jobs(path):
    assert load_job(path).problem.name == "logistic"


def test_the_minimum_is_found_to_the_gap_allowed_also_where_gradients_are_small(monkeypatch):
    """L - L* ≤ ‖∇L‖² / (2 λ); at θ₀ it is 0.45 with ‖∇L‖² = 0.0013."""
    rows = random_rows()
    small = LabelledRows(0.1 * rows.features, rows.labels)
    objective = objective_over(LogisticProblem(small, "rows", 1e-4))
    start = torch.zeros(6, dtype=torch.float64)
    best = find_minimum(objective, 1e-4, start)
    monkeypatch.setattr(suboptimality, "LARGEST_GAP", 0.01)
    assert best <= find_minimum(objective, 1e-4, start) <= best + 0.01


def test_a_run_ends_at_the_suboptimality_it_was_asked_for(data, tmp_path):
    job = JOB.format(data=data, solver='name = "astrom"', stop="suboptimality = 1e-9")
    outcome = run(parse_job(job, "job"), Communicator(), str(tmp_path / "run.h5"))
    assert outcome.reason is find_criterion("suboptimality")
    history = read_run(tmp_path / "run.h5").history
    assert history["suboptimality"][-1] <= 1e-9 < history["suboptimality"][-2]
    assert np.isnan(history["cg_iterations"][0])
    products = 0.5 * history["hvp_evaluations"][-1]
    assert history["shared_cg_iterations"][-1] == pytest.approx(products)


def test_what_logistic_regression_has_not_is_refused(data):
    mlvr = 'name = "mlvr"'
    with pytest.raises(JobError, match=r"stop.error = 0.1 is not allowed: not measured"):
        parse_job(JOB.format(data=data, solver=mlvr, stop="error = 0.1"), "job")
    network = '[network]\nkind = "mlp"\ndepth = 2\nwidth = 2\n'
    with pytest.raises(JobError, match=r"network.kind"):
        parse_job(JOB.format(data=data, solver=mlvr, stop="") + network, "job")
