"""Where a run is written, when that is refused, and what it says while it goes on."""

import os
import re
import signal
import subprocess
import sys
import time
import warnings
from types import SimpleNamespace

import pytest
from job_texts import write_text
from processes import processes_of

from hpctrain import cli
from hpctrain.errors import InputError
from hpctrain.job.settings import parse_job
from hpctrain.run import assemble as build
from hpctrain.store.run_file import read_run

JOB = write_text(
    'name = "{problem}"\npoints = 64',
    network="depth = 3\nwidth = 4",
    solver='name = "lbfgs"',
    output="checkpoint_every = 1\nerror_every = 2",
    stop="max_iterations = 3",
    chunks=2,
)
HEAT = """
from hpctrain.problems.equations import Box, Equations

class Heat(Equations):
    geometry, test_grid = Box(t=(0.0, 1.0), x=(0.0, 1.0)), (5, 6)

    def ansatz(self, at):
        return {"u": (at.x * (1 - at.x), at.t * at.x * (1 - at.x))}

    def residuals(self, at, u):
        return u.t - u.xx
"""


@pytest.fixture
def job(write_job):
    return write_job(JOB.format(problem="burgers"))


@pytest.fixture
def heat(write_job, tmp_path):
    """A job with an equation whose solution nobody knows."""
    (tmp_path / "heat.py").write_text(HEAT)
    return write_job(JOB.format(problem=f"{tmp_path}/heat.py:Heat"))


def test_a_run_that_failed_before_its_first_record_can_be_tried_again(
    job, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "run.h5"

    def fail(*_):
        raise InputError("no start")

    with monkeypatch.context() as patch:
        patch.setattr("hpctrain.solvers.quasi_newton.LBFGS.init", fail)
        assert cli.main(["run", str(job), "-o", str(output)]) == 2
    assert cli.main(["run", str(job), "-o", str(output)]) == 0
    assert "run.h5: replaced, as it holds no record" in capsys.readouterr().err
    assert len(read_run(output).history["loss"]) == 4


def test_a_run_with_records_is_never_replaced(job, tmp_path, refusal):
    output = tmp_path / "run.h5"
    assert cli.main(["run", str(job), "-o", str(output)]) == 0
    before = output.read_bytes()
    line = refusal("run", job, "-o", output)
    assert line == f"-o {output}: {output} exists already: name another, or remove it"
    assert output.read_bytes() == before


def test_the_job_is_checked_before_its_output_and_leaves_no_file(heat, tmp_path, refusal):
    output = tmp_path / "new" / "run.h5"
    line = refusal("run", heat, "-o", output, "--set", "stop.error=0.1")
    assert line.startswith("stop.error = 0.1 is not allowed: problem.name =")
    assert line.endswith("has no reference to measure it by")
    assert not output.parent.exists()


def test_a_run_file_that_cannot_be_made_is_one_line(job, refusal):
    line = refusal("run", job, "-o", "/proc/none/a.h5")
    assert line == "-o /proc/none/a.h5: the run file cannot be made: No such file or directory"
    assert "File name too long" in refusal("run", job, "-o", f"{'x' * 300}.h5")
    line = refusal("run", job, "--set", "output.path=/proc/none/a.h5")
    assert line.startswith("output.path = '/proc/none/a.h5': the run file cannot be made: ")


@pytest.mark.parametrize("name", ["rate0.1", "run.hdf5", "run"])
def test_a_run_file_without_its_ending_is_refused_as_others_would_share_its_checkpoints(
    job, tmp_path, refusal, name
):
    line = refusal("run", job, "-o", tmp_path / name)
    assert line == f"-o {tmp_path / name} is not allowed: the name of a run file ends in .h5"
    line = refusal("run", job, "--set", f"output.path={tmp_path / name}")
    assert line.endswith("' is not allowed: the name of a run file ends in .h5")
    assert sorted(tmp_path.iterdir()) == [job]


def test_more_ranks_than_chunks_are_refused():
    job = parse_job(JOB.format(problem="burgers"), "x.toml")
    with pytest.raises(InputError) as refused:
        build.check_ranks(job.parallel.chunks, 3, resumed=False)
    assert str(refused.value) == (
        "parallel.chunks = 2 is not allowed on 3 ranks: start at most 2 ranks, or --set"
        " parallel.chunks=4 (a power of two; other chunks change the results by round-off)"
    )


def test_few_samples_are_cut_into_fewer_chunks_and_want_no_more_ranks():
    few = SimpleNamespace(samples=13)
    assert [build.choose_chunks(asked, few, 2) for asked in (4, 8, 64)] == [4, 8, 8]
    with pytest.raises(InputError, match=r"^13 samples are cut into 8 chunks: start at most 8"):
        build.choose_chunks(64, few, 9)


def test_a_run_that_goes_on_on_more_ranks_than_chunks_is_told_that_it_keeps_them():
    job = parse_job(JOB.format(problem="burgers"), "x.toml")
    build.check_ranks(job.parallel.chunks, 2, resumed=True)
    with pytest.raises(InputError, match="start at most 2 ranks, as a run that goes on keeps its"):
        build.check_ranks(job.parallel.chunks, 3, resumed=True)


def test_a_running_run_cannot_be_resumed_until_it_is_killed(job, tmp_path, refusal):
    output = tmp_path / "run.h5"
    words = ["run", job, "-o", output, "--set", "stop.max_iterations=1000000"]
    launched = [sys.executable, "-m", "hpctrain", *words]
    with subprocess.Popen(launched, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        deadline = time.time() + 60
        while not (output.exists() and len(read_run(output).history["loss"]) > 3):
            assert time.time() < deadline
            time.sleep(0.05)
        assert refusal("resume", output) == f"{output}: another process writes this run file"
        line = refusal("run", job, "-o", output)
        assert line == f"-o {output}: another process writes this run file; name another"
        for rank in processes_of(output):
            os.kill(rank, signal.SIGKILL)
        run.wait()
    reached = read_run(output).history["iteration"][-1]
    end = f"stop.max_iterations={reached + 1}"
    assert cli.main(["resume", str(output), "--set", end]) == 0
    assert read_run(output).history["iteration"][-1] == reached + 1
    assert sorted(os.listdir(tmp_path)) == ["job.toml", "run.ckpt", "run.h5"]


def test_a_row_of_progress_shows_the_error_of_its_own_iteration_only(job, monkeypatch, capsys):
    monkeypatch.setattr("hpctrain.run.observers.progress.LINE_INTERVAL", 0.0)
    assert cli.main(["run", str(job)]) == 0
    rows = re.findall(r"^ +(\d)  .* step [\d.e-]+(.*)$", capsys.readouterr().out, re.MULTILINE)
    assert [number for number, _ in rows] == ["0", "1", "2", "3"]
    assert ["error" in text for _, text in rows] == [True, False, True, False]
    assert rows[0][1] != rows[2][1]


def test_where_no_reference_is_known_no_error_is_shown(heat, tmp_path, capsys):
    assert cli.main(["run", str(heat), "-o", str(tmp_path / "run.h5")]) == 0
    assert cli.main(["report", str(tmp_path / "run.h5")]) == 0
    printed = capsys.readouterr().out
    assert "nan" not in printed and "relative error" not in printed
    assert "error" not in read_run(tmp_path / "run.h5").history


def test_a_warning_of_several_lines_is_shown_as_one(refusal, capsys):
    refusal("run", "none.toml")
    warnings.warn("torch says\n  two things", stacklevel=1)
    assert capsys.readouterr().err == "hpctrain: warning: torch says two things\n"


def closed_pipe(*words):
    """The status of a command, and what it says, where nobody reads its output."""
    command = [sys.executable, "-m", "hpctrain", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        return process.wait(), process.stderr.read()


def test_without_a_reader_a_report_ends_quietly_and_a_run_goes_on(job, tmp_path):
    output = tmp_path / "run.h5"
    assert closed_pipe("run", job, "-o", output) == (0, b"")
    assert read_run(output).stop_reason == "stop.max_iterations reached"
    assert closed_pipe("report", output) == (141, b"")


TWO_RUNS = """
import sys
from hpctrain import cli
job, output, other = sys.argv[1:]
print(cli.main(["run", job, "-o", output]), cli.main(["run", other]))
"""


def test_names_beyond_the_locale_work_or_are_one_line(job, tmp_path, python):
    other = tmp_path / "other.toml"
    other.write_text(JOB.format(problem="wärme.py:Heat"), encoding="utf-8")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0"}
    ended = python("-c", TWO_RUNS, job, tmp_path / "ö.h5", other, **plain)
    assert ended.stdout.endswith("\n0 2\n"), ended.stderr
    (line,) = ended.stderr.splitlines()
    assert "problem.name = 'w\\xe4rme.py:Heat' is not allowed: a text in the encoding of" in line
    assert sorted(os.listdir(tmp_path)) == ["job.toml", "other.toml", "ö.ckpt", "ö.h5"]
