"""Runs in windows of time: solved one after the other, interrupted, predicted, refused."""

import h5py
import numpy as np
import pytest
from job_texts import write_text
from trials import assert_same_history

from hpctrain import cli
from hpctrain.errors import InputError
from hpctrain.job.settings import JobError, parse_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.results.predict import predict
from hpctrain.results.report import make_stage_rows
from hpctrain.run.train import resume, run
from hpctrain.store.run_file import read_run

DECAY = """
import torch
from hpctrain.problems.equations import Box, Equations, Initial

class Decay(Equations):
    geometry, test_grid = Box(t=(0, 2)), (41,)
    conditions = (Initial({"u": 1.0}, exact=True),)

    def residuals(self, at, u):
        return u.t + u.value

    def reference(self, at):
        return torch.exp(-at.t)
"""
JOB = write_text(
    'name = "{folder}/decay.py:Decay"\npoints = 20\nslabs = [0.5, 1.0, 2.0]',
    solver="""[[solver]]
name = "adam"
learning_rate = 0.01
batch_size = 10
stop.max_iterations = 2
[[solver]]
name = "gauss-newton"
stop.max_iterations = 6""",
    output="checkpoint_every = 3\niterates_every = 1\nerror_every = 2",
    stop="max_iterations = {iterations}",
    chunks=4,
)


@pytest.fixture
def train(tmp_path):
    """Runs the job into a file of this name, and reads it."""
    (tmp_path / "decay.py").write_text(DECAY)

    def train_to(name, *overrides, iterations=100):
        text = JOB.format(folder=tmp_path, iterations=iterations)
        run(parse_job(text, "a test", overrides), Communicator(), str(tmp_path / name))
        return read_run(tmp_path / name)

    return train_to


def test_all_of_time_is_solved_and_predicted(train, tmp_path, capsys):
    found = train("run.h5")
    assert found.history["slab"].tolist() == [1] * 9 + [2] * 8 + [3] * 8
    assert (
        found.history["stage"].tolist() == [1] * 3 + [2] * 6 + [3] * 2 + [4] * 6 + [5] * 2 + [6] * 6
    )
    out = capsys.readouterr().out
    assert "stage 1 of 2 in each of 3 windows, until solver.1.stop.max_iterations = 2" in out
    assert "stage 3 (adam, window 2) begins" in out and "over all windows error" in out
    assert found.solution["prediction"] == pytest.approx(np.exp(-found.solution["t"]), abs=2e-4)
    predict(str(tmp_path / "run.h5"), "t=0:2:33", str(tmp_path / "out.npz"), "u,u.t", 1)
    table = np.load(tmp_path / "out.npz")
    assert table["u"] == pytest.approx(np.exp(-table["t"]), abs=2e-4)
    assert table["u.t"] == pytest.approx(-np.exp(-table["t"]), abs=5e-3)
    assert [row["window"] for row in make_stage_rows(found)] == [1, 1, 2, 2, 3, 3]


def test_training_goes_on_from_the_parameters_of_the_window_before(train):
    found = train("run.h5", "solver.1=", "solver.1.stop.max_iterations=1")
    thetas = found.parameters.reshape(3, -1)
    assert np.array_equal(found.iterates.theta[1], thetas[0])
    assert np.array_equal(found.iterates.theta[3], thetas[2])


def test_an_error_that_the_window_before_has_reached_does_not_end_a_window(train):
    asked = ["solver.1=", "solver.1.stop={error=0.01, max_iterations=9}", "output.error_every=1"]
    found = train("run.h5", *asked)
    assert found.stage_reasons[0] == "solver.stop.error reached"
    assert set(found.history["slab"]) == {1, 2, 3}


@pytest.mark.parametrize("interrupted", [1, 5, 8, 9, 13, 16, 20])
@pytest.mark.filterwarnings("ignore:stage")
def test_a_run_interrupted_in_any_window_goes_on_with_the_same_bits(train, tmp_path, interrupted):
    """At 8 and 16 a window and the run end at once."""
    whole = train("whole.h5")
    train("part.h5", iterations=interrupted)
    resume(str(tmp_path / "part.h5"), Communicator(), ["stop.max_iterations=100"])
    found = read_run(tmp_path / "part.h5")
    assert_same_history(found.history, whole.history)
    assert np.array_equal(found.iterates.theta, whole.iterates.theta)
    assert np.array_equal(found.parameters, whole.parameters)
    for name, values in whole.solution.items():
        assert np.array_equal(found.solution[name], values), name


@pytest.mark.filterwarnings("ignore:stage")
def test_a_time_that_the_run_has_not_come_to_is_not_predicted(train, tmp_path, capsys):
    train("run.h5", iterations=12)
    with h5py.File(tmp_path / "run.h5") as file:
        finite = np.isfinite(file["parameters"][:].reshape(3, -1)).all(axis=1)
    assert finite.tolist() == [True, True, False]
    out = str(tmp_path / "out.csv")
    assert cli.main(["predict", str(tmp_path / "run.h5"), "t=0:1:3", "-o", out]) == 0
    assert cli.main(["predict", str(tmp_path / "run.h5"), "t=0:1.5:4", "-o", out]) == 2
    assert "the run has not come to the window of t from 1 to 2" in capsys.readouterr().err


# An override of the job, and the line it leads to.
REFUSED = {
    "problem.slabs=1": "problem.slabs = 1 is not allowed: an integer of at least 2, or at least 2",
    "problem.slabs=[1.0]": "problem.slabs = [1.0] is not allowed: an integer of at least 2, or",
    "problem.slabs=[1.0, 0.5]": "problem.slabs = [1.0, 0.5] is not allowed: an integer of at",
    'problem.slabs="x"': 'problem.slabs = "x" is not allowed: an integer or a list of numbers',
    "solver.2.stop=": "solver.2.stop is missing: when each of the 3 windows ends",
    "problem.adapt={points='rad'}": "problem is not allowed: adapt is not allowed with slabs",
}


@pytest.mark.parametrize("override", REFUSED)
def test_settings_of_windows_that_cannot_be_are_refused_in_one_line(train, override):
    with pytest.raises(JobError) as caught:
        train("run.h5", override)
    assert str(caught.value).partition(": ")[2].startswith(REFUSED[override])


@pytest.mark.parametrize("slabs", ["[0.5, 1.0]", "[-1.0, 2.0]", "[0.5, 2.5]"])
def test_windows_that_are_not_those_of_the_time_are_refused(train, tmp_path, slabs):
    with pytest.raises(InputError, match=r"is not allowed: times above 0, the last one 2$"):
        train("run.h5", f"problem.slabs={slabs}")
    assert not (tmp_path / "run.h5").exists()
