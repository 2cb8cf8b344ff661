"""What holds of every solver of the registry, on any number of ranks."""

import pytest
import torch
from trials import Trial

from hpctrain.job.stop import SIGNAL, ZERO_GRADIENT
from hpctrain.objective.division import Division
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.loop import NonFiniteError
from hpctrain.run.signals import StopSignals
from hpctrain.run.train import resume, run
from hpctrain.solvers import SOLVERS
from hpctrain.store.checkpoint import CheckpointStore
from hpctrain.store.run_file import read_run

ITERATIONS, STOPPED = 4, 2
# Full steps of these are for classes that a plane divides.
GENTLE = dict.fromkeys(["ssn", "svrg", "sarah"], ("solver.learning_rate=0.1",))
WATCHED = ("output.error_every=1", "output.iterates_every=1", "output.checkpoint_every=3")


@pytest.fixture(scope="module")
def folder(comm, tmp_path_factory):
    """One folder for all ranks, with the problems of the trials."""

    def make():
        folder = tmp_path_factory.mktemp("solvers")
        Trial(folder).pose()
        return folder

    return comm.run_on_root(make)


def job_of(folder, name, *overrides):
    settings = (f"stop.max_iterations={ITERATIONS}", *WATCHED, *GENTLE.get(name, ()), *overrides)
    return Trial(folder).job(name, *settings)


class SignalInStep(StopSignals):
    """Signals of a rank that gets one in its step number `at`."""

    def __init__(self, at):
        super().__init__()
        self.at, self.asked = at, -1  # the loop asks once before the first step

    received = property(lambda self: self.ask(), lambda self, value: None)

    def ask(self):
        self.asked += 1
        return self.asked >= self.at


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("name", SOLVERS)
def test_a_run_has_the_bits_of_one_rank_though_a_signal_ends_it_and_other_ranks_go_on(
    name, comm, folder, assert_everywhere, assert_same_run
):
    """All ranks begin, rank 0 takes a step alone, all end; and the loss descends."""
    alone, path = Communicator(), folder / f"{name}.h5"
    whole = folder / f"whole-{name}.h5"
    comm.run_on_root(lambda: run(job_of(folder, name), alone, str(whole)) and None)
    is_last = comm.rank == comm.size - 1
    with SignalInStep(STOPPED) if is_last else StopSignals() as signals:
        outcome = run(job_of(folder, name), comm, str(path), signals)
    expected = (SIGNAL, STOPPED, 75)
    assert_everywhere((outcome.reason, outcome.iterations, outcome.status) == expected, "it stops")
    store = CheckpointStore(path.with_suffix(".ckpt"), alone)
    assert store.find_latest().iteration == STOPPED
    comm.barrier()
    one_more = [f"stop.max_iterations={STOPPED + 1}"]
    comm.run_on_root(lambda: resume(str(path), alone, one_more) and None)
    outcome = resume(str(path), comm, [f"stop.max_iterations={ITERATIONS}"])
    assert_everywhere(outcome.iterations == ITERATIONS, "it goes on")
    found = read_run(path)
    assert_same_run(found, read_run(whole))
    loss = found.history["loss"]
    assert len(loss) == 1 + ITERATIONS
    assert loss[-1] < 0.999 * loss[0]


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("name", SOLVERS)
def test_a_loss_that_becomes_nan_on_one_rank_ends_all_with_the_error_that_names_it(
    name, comm, folder, monkeypatch
):
    """From the second step on: steps into NaN are refused until none is left to try."""
    solver, steps = SOLVERS[name], 0
    step, add = solver.step, Division.sum

    def counted(self, state):
        nonlocal steps
        steps += 1
        return step(self, state)

    def spoilt(self, leaves):
        is_spoilt = steps > 1 and comm.rank == comm.size - 1
        return add(self, torch.full_like(leaves, torch.nan) if is_spoilt else leaves)

    monkeypatch.setattr(solver, "step", counted)
    monkeypatch.setattr(Division, "sum", spoilt)
    with pytest.raises(NonFiniteError, match="the loss or its gradient became NaN or infinite"):
        run(job_of(folder, name, "stop.max_iterations=400"), comm)


def test_all_ranks_end_where_the_gradient_becomes_zero(comm, folder, assert_everywhere):
    """No residual is left after a step, which goes beyond the zero of a concave one."""
    trial = Trial(folder / "zero")
    if comm.is_root:
        trial.folder.mkdir()
        trial.flatten().equation("torch.log1p(50 * torch.relu(u.value))")
    comm.barrier()
    outcome = run(trial.job("newton-krylov-schwarz"), comm)
    assert_everywhere(outcome.reason is ZERO_GRADIENT and outcome.iterations > 0, "it ends")
