"""Event files for TensorBoard hold the history, through an interruption too."""

import numpy as np
import pytest
from job_texts import write_text
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hpctrain.errors import InputError
from hpctrain.job.settings import parse_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.observers import tensorboard
from hpctrain.run.train import resume, run
from hpctrain.store.run_file import read_run

JOB = write_text(
    'name = "burgers"\npoints = 40',
    network="depth = 2\nwidth = 4",
    solver='name = "ssbroyden"',
    output="""path = "{folder}/small.h5"
error_every = 5
checkpoint_every = 4
tensorboard = "{folder}/events\"""",
    stop="max_iterations = 7",
    chunks=4,
)


def read_curve(folder, name):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    found = events.Scalars(name)
    return [each.step for each in found], np.array([each.value for each in found])


def test_curves_are_the_columns_of_the_history(tmp_path):
    job = parse_job(JOB.format(folder=tmp_path), "job")
    run(job, Communicator())
    resume(job.output.path, Communicator(), ["stop.max_iterations=11"])
    history = read_run(job.output.path).history
    for name in ("loss", "gradient_norm", "error"):
        steps, values = read_curve(tmp_path / "events" / "small", name)
        known = np.isfinite(history[name])
        assert steps == history["iteration"][known].tolist()
        np.testing.assert_allclose(values, history[name][known], rtol=1e-6)  # in float32
    assert history["iteration"][-1] == 11


def test_without_its_package_a_run_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    job = parse_job(JOB.format(folder=tmp_path), "job")
    with pytest.raises(InputError, match="needs the package tensorboard"):
        run(job, Communicator())
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_refused_before_any_work(tmp_path):
    (tmp_path / "events").touch()
    job = parse_job(JOB.format(folder=tmp_path), "job")
    with pytest.raises(InputError) as caught:
        run(job, Communicator())
    asked = f"output.tensorboard = '{tmp_path}/events'"
    assert str(caught.value) == f"{asked} cannot be written: Not a directory"
    assert [each.name for each in tmp_path.iterdir()] == ["events"]
