"""Jobs that train by RMTR: what a run records, goes on with, and refuses."""

from pathlib import Path

import numpy as np
import pytest
from classifiers import write_mnist
from job_texts import DIGITS, write_text

from hpctrain.errors import InputError
from hpctrain.job.settings import load_job, parse_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.train import resume, run
from hpctrain.solvers.rmtr import RMTROptions
from hpctrain.store.run_file import read_run

ROOT = Path(__file__).parents[1]
JOB = write_text(
    DIGITS,
    network='kind = "dense-resnet"\nwidth = 6\nblocks = 4',
    solver='name = "rmtr"\nbatch_size = 32\ncoarse_steps = 2\n{solver}',
    stop="max_iterations = {iterations}",
    chunks=4,
    first='precision = "float32"',
)
TIMES = ("seconds", "wall_seconds")


@pytest.fixture
def job(tmp_path):
    folder = write_mnist(tmp_path / "digits")

    def make(iterations=5, solver="", overrides=()):
        text = JOB.format(folder=folder, iterations=iterations, solver=solver)
        return parse_job(text, "a test", overrides)

    return make


STEPS = "cascade = [{level = 1, epochs = 1.5, steps = 2}, {level = 2, epochs = 0.5, steps = 2}]"


@pytest.mark.parametrize(
    "solver", ["", STEPS, "cascade = [{level = 1, epochs = 1.0}, {level = 2, epochs = 1.0}]"]
)
def test_a_run_that_is_resumed_is_the_run_that_was_not_interrupted(job, tmp_path, solver):
    whole, cut = str(tmp_path / "whole.h5"), str(tmp_path / "cut.h5")
    run(job(5, solver), Communicator(), whole)
    run(job(3, solver), Communicator(), cut)
    resume(cut, Communicator(), ["stop.max_iterations=5"])
    found, expected = read_run(cut).history, read_run(whole).history
    assert {"batch_size", "radius", "reach", "level", "epoch"} <= expected.keys()
    for name in expected.keys() - set(TIMES):
        # What is asked at the end only stands in the last row.
        rows = slice(None) if name not in ("test_accuracy", "test_loss") else slice(-1, None)
        assert np.array_equal(found[name][rows], expected[name][rows], equal_nan=True), name


REFUSED = {
    ("network.blocks=6",): r"solver.levels = 3 is not allowed: dense-resnet .* 3 blocks: no ",
    ('solver.transfer="linear"',): "an odd number, 2 K - 1",
    ("network={kind='fcnn'}",): r"fcnn 36-32-32-10 \(relu\) is no residual network, whose depth",
    ("solver.cascade=[{level=1,epochs=1.0,batch_size=65}]",): (
        "solver.cascade: batch_size = 65 is not allowed: at most 64, the number"
    ),
    ("solver.batch_size=65",): "solver.batch_size = 65 is not allowed: at most 64, the number of",
    ("problem={name='burgers',points=64}", "network={depth=3,width=4}"): (
        'solver.name = "rmtr" is not allowed: this problem\'s loss cannot be taken over some of'
    ),
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_levels_that_cannot_be_are_refused_in_one_line(job, overrides):
    with pytest.raises(InputError, match=REFUSED[overrides]) as caught:
        run(job(overrides=overrides), Communicator())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", sorted((ROOT / "jobs/rmtr").glob("*.toml")), ids=lambda p: p.stem)
def test_committed_jobs_have_depths_that_halve_and_a_run_file_of_their_own(path):
    job = load_job(path)
    assert isinstance(job.solver[0], RMTROptions)
    assert job.network.blocks % 2 ** (job.solver[0].levels - 1) == 0
    assert job.output.path == f"runs/rmtr/{path.stem}.h5"
