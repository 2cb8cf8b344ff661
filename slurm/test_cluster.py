"""The scripts of this folder, on a SLURM cluster of four pretended nodes: make slurm-test.

Needs root and Debian's slurm-wlm and munge; skipped, with a line that says so, where they are not.
"""

import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import throw_away

from hpctrain.store.run_file import RunFileError, read_run
from hpctrain.store.table_file import read_table

SLURM = Path(__file__).parent
BIN = Path(sys.executable).parent
JOB = """
[problem]
name = "klein-gordon"
points = 2000
[network]
depth = 4
width = 10
[solver]
name = "ssbroyden"
[parallel]
threads = 1
[output]
checkpoint_every = 20
[stop]
max_iterations = {iterations}
"""
SHORT, LONG = 10, 400
TIMES = ("seconds", "wall_seconds")
PATIENCE = 90

pytestmark = pytest.mark.skipif(
    throw_away.obstacle() is not None, reason=str(throw_away.obstacle())
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The environment of SLURM's commands, with this environment's hpctrain on PATH.

    With HPCTRAIN_CLUSTER_OPTIONAL a machine that cannot have the cluster skips what needs it.
    """
    with ExitStack() as stack:
        try:
            folder = tmp_path_factory.mktemp("cluster")
            environ = stack.enter_context(throw_away.cluster(folder))
        except throw_away.ClusterError as error:
            if os.environ.get("HPCTRAIN_CLUSTER_OPTIONAL"):
                pytest.skip(f"SLURM does not start here: {error}")
            raise
        yield environ


@pytest.fixture
def slurm(cluster, tmp_path):
    return Slurm(cluster, tmp_path)


class Slurm:
    """Submits scripts in a folder, and asks what became of them."""

    def __init__(self, environ, folder):
        self.environ, self.folder = environ, folder

    def call(self, *words):
        done = subprocess.run(
            [str(word) for word in words],
            env=self.environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def submit(self, script, *words, nodes=1, tasks=2, more=()):
        """The number of a job of so many nodes and of tasks on each."""
        shape = [f"--nodes={nodes}", f"--ntasks-per-node={tasks}", "--cpus-per-task=1"]
        limits = ["--time=3", "--signal=B:USR1@10", "--output=log-%j"]
        return self.call("sbatch", "--parsable", *shape, *limits, *more, SLURM / script, *words)

    def field(self, job, name):
        shown = self.call("scontrol", "--oneliner", "show", "job", job)
        return re.findall(rf"\b{name}=(\S*)", shown)[0]

    def ends(self, job):
        """How a job ends."""
        going = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "NODE_FAIL")
        return self.wait(lambda: (self.field(job, "JobState"),), lambda state: state not in going)

    def wait(self, ask, suits):
        """What `ask` says once it suits."""
        end = time.monotonic() + PATIENCE
        while not suits(*(answer := ask())):
            assert time.monotonic() < end, f"still {answer} after {PATIENCE} s\n{self.logs()}"
            time.sleep(0.1)
        return answer[0]

    def recorded(self, run, count):
        """Waits until a run has so many records."""
        self.wait(lambda: (records(run),), lambda found: found >= count)

    def logs(self):
        return "\n".join(log.read_text() for log in sorted(self.folder.glob("log-*")))


def records(run):
    try:
        return len(read_run(run).history["loss"])
    except RunFileError:  # not there yet
        return 0


def job_file(folder, iterations):
    path = folder / "job.toml"
    path.write_text(JOB.format(iterations=iterations))
    return path


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Runs of a job, by their number of iterations, on one rank without SLURM."""
    folder, runs = tmp_path_factory.mktemp("alone"), {}

    def run(iterations):
        if iterations not in runs:
            path = folder / f"{iterations}.h5"
            words = ["run", job_file(folder, iterations), "-o", path]
            subprocess.run([BIN / "hpctrain", *words], check=True, stdout=subprocess.DEVNULL)
            runs[iterations] = read_run(path)
        return runs[iterations]

    return run


def assert_same_history(found, expected):
    for name in expected.history.keys() - set(TIMES):
        assert np.array_equal(found.history[name], expected.history[name], equal_nan=True), name


@pytest.mark.parametrize("script, nodes", [("one-node.sbatch", 1), ("many-nodes.sbatch", 4)])
def test_a_run_on_nodes_has_the_bits_of_one_rank(slurm, tmp_path, alone, script, nodes):
    job = slurm.submit(script, job_file(tmp_path, SHORT), "run.h5", nodes=nodes, tasks=2)
    assert slurm.ends(job) == "COMPLETED", slurm.logs()
    found = read_run(tmp_path / "run.h5")
    assert found.attributes["ranks"] == 2 * nodes
    assert_same_history(found, alone(SHORT))


def test_each_task_of_an_array_has_a_seed(slurm, tmp_path):
    array = ["--array=0-1"]
    job = slurm.submit("seeds.sbatch", job_file(tmp_path, SHORT), "runs", more=array)
    slurm.wait(lambda: (slurm.call("squeue", "--noheader", "--jobs", job),), lambda left: not left)
    first, second = (read_run(tmp_path / f"runs/seed-{seed}.h5").history["loss"] for seed in (0, 1))
    assert len(first) == len(second) == 1 + SHORT
    assert first[0] != second[0]


def test_a_scaling_study_runs_on_one_two_and_four_ranks(slurm, tmp_path):
    options = ["--iterations", "8", "--repeats", "1"]
    words = [job_file(tmp_path, SHORT), "study", *options]
    job = slurm.submit("scaling.sbatch", *words, nodes=2, tasks=2)
    assert slurm.ends(job) == "COMPLETED", slurm.logs()
    table, facts = read_table(tmp_path / "study/scaling.h5")
    assert table["ranks"].tolist() == [1, 2, 4] and set(table["how"]) == {"measured"}
    assert facts["kind"] == "strong" and (tmp_path / "study/scaling.png").exists()
    alone, *others = (read_run(tmp_path / f"study/ranks-{P}-run-1.h5") for P in (1, 2, 4))
    for run in others:
        assert_same_history(run, alone)


def test_a_run_near_its_time_limit_is_requeued_and_goes_on_to_the_same_bits(slurm, tmp_path, alone):
    run = tmp_path / "run.h5"
    job = slurm.submit("requeue.sbatch", job_file(tmp_path, LONG), run, nodes=2, tasks=2)
    slurm.recorded(run, 30)
    slurm.call("scancel", "--batch", "--signal=USR1", job)  # as its --signal= does
    assert slurm.ends(job) == "COMPLETED", slurm.logs()
    assert slurm.field(job, "Restarts") == "1"
    assert "back into the queue, restart 1" in slurm.logs()
    found = read_run(run)
    assert found.attributes["resumes"] == 1
    assert_same_history(found, alone(LONG))


def test_a_run_whose_node_fails_goes_on_to_the_same_bits(slurm, tmp_path, alone):
    run = tmp_path / "run.h5"
    job = slurm.submit("requeue.sbatch", job_file(tmp_path, LONG), run, nodes=2, tasks=1)
    slurm.recorded(run, 30)
    nodes = slurm.call("scontrol", "show", "hostnames", slurm.field(job, "NodeList")).split()
    # It comes back into service by itself, as the cluster is configured.
    slurm.call("scontrol", "update", f"NodeName={nodes[-1]}", "State=DOWN", "Reason=test")
    assert slurm.ends(job) == "COMPLETED", slurm.logs()
    assert slurm.field(job, "Restarts") == "1"
    found = read_run(run)
    assert found.attributes["resumes"] == 1
    assert_same_history(found, alone(LONG))


def test_ranks_that_do_not_find_each_other_are_told(slurm, tmp_path):
    command = f"srun --mpi=none hpctrain run {job_file(tmp_path, SHORT)}"
    shape = ("--parsable", "--nodes=2", "--ntasks=2", "--output=log-%j")
    job = slurm.call("sbatch", *shape, f"--wrap={command}")
    assert slurm.ends(job) == "FAILED"
    assert "the launcher started 2 ranks (SLURM_STEP_NUM_TASKS), but MPI" in slurm.logs()
