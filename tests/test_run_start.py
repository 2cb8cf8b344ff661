"""A run that begins where another one ended."""

import numpy as np
import pytest

from hpctrain.errors import InputError
from hpctrain.job.settings import load_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.train import resume, run
from hpctrain.store.run_file import read_run

SHORT = (
    "problem.points=50",
    "network.depth=3",
    "network.width=6",
    "parallel.chunks=4",
    "parallel.threads=1",
    "output.iterates_every=1",
)


def train(path, *settings):
    job = load_job("jobs/burgers.toml", [*SHORT, *settings])
    run(job, Communicator(), output=str(path))
    return read_run(path)


def test_a_run_begins_with_the_final_parameters_of_another(tmp_path):
    first = train(tmp_path / "a.h5", "stop.max_iterations=5", 'solver={name="adam"}')
    assert np.array_equal(first.parameters, first.iterates.theta[-1])
    second = train(tmp_path / "b.h5", "stop.max_iterations=1", f"start={tmp_path}/a.h5")
    assert np.array_equal(second.iterates.theta[0], first.parameters)
    assert second.history["loss"][0] == first.history["loss"][-1]


def test_a_run_goes_on_without_the_file_that_it_began_with(tmp_path):
    train(tmp_path / "a.h5", "stop.max_iterations=1")
    train(tmp_path / "b.h5", "stop.max_iterations=2", f"start={tmp_path}/a.h5")
    whole = train(tmp_path / "c.h5", "stop.max_iterations=4", f"start={tmp_path}/a.h5")
    (tmp_path / "a.h5").unlink()
    resume(str(tmp_path / "b.h5"), Communicator(), ["stop.max_iterations=4"])
    assert np.array_equal(read_run(tmp_path / "b.h5").parameters, whole.parameters)


def test_a_run_that_does_not_fit_is_named_with_the_numbers_of_parameters(tmp_path):
    train(tmp_path / "a.h5", "stop.max_iterations=1")
    with pytest.raises(InputError, match=r"a\.h5' is not allowed: it has 67 parameters, .* has 85"):
        train(tmp_path / "b.h5", "network.width=7", f"start={tmp_path}/a.h5")
    with pytest.raises(InputError, match=r"none\.h5: no such file"):
        train(tmp_path / "c.h5", f"start={tmp_path}/none.h5")
