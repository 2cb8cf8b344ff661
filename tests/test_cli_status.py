"""What the commands print and the status they end with, alone and on several ranks."""

import pytest

from hpctrain import cli

JOB = """
[problem]
name = "burgers"
[network]
depth = 8
width = 20
[solver]
name = "aspqn"
blocks = 12
"""
NO_JOB = "none.toml: cannot read the job file: No such file or directory"
TOO_MANY_BLOCKS = "solver.blocks = 12 is not allowed: at most 8, the number of the network's layers"


@pytest.fixture
def bad_job(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(JOB)
    return path


def test_bad_job_is_one_line_and_status_2(refusal, bad_job):
    assert refusal("run", bad_job) == f"{bad_job}: {TOO_MANY_BLOCKS}"


def test_bad_job_ends_a_program_of_several_ranks_with_one_line_and_status_2(mpirun, bad_job):
    """Of other bad input, on the ranks of the tests themselves: tests/mpi/test_refusals.py."""
    job = mpirun(2, "-m", "hpctrain", "run", bad_job)
    assert job.stderr == f"hpctrain: {bad_job}: {TOO_MANY_BLOCKS}\n"
    assert (job.returncode, job.stdout) == (2, "")


@pytest.mark.filterwarnings("ignore:suspicious MPI execution environment")
def test_ranks_that_do_not_find_each_other_say_so_in_one_line(refusal, bad_job, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    bad_job.write_text(JOB.replace("12", "2"))
    assert refusal("run", bad_job).startswith("the launcher started 4 ranks (OMPI_COMM_WORLD_SIZE)")


def test_missing_job_is_one_line_and_status_2(refusal):
    assert refusal("run", "none.toml") == NO_JOB


def test_bad_override_is_one_line_and_status_2(refusal, bad_job):
    line = refusal("run", bad_job, "--set", "solver.blocks=two")
    said = 'with --set: solver.blocks = "two" is not allowed: an integer, at least 1'
    assert line == f"{bad_job} {said}"


@pytest.mark.parametrize("arguments", [[], ["rum"], ["run"], ["run", "a.toml", "--sets=a=1"]])
def test_wrong_usage_is_status_2_without_a_traceback(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: hpctrain")


@pytest.mark.parametrize("command", [["report"], ["plot", "-o", "figure.png"]])
def test_missing_run_file_is_one_line_and_status_2(refusal, command, tmp_path):
    missing = tmp_path / "none.h5"
    assert str(missing) in refusal(*command, missing)


HELP = """
import sys
from hpctrain import cli
try:
    cli.main(["--help"])
finally:
    print(*sorted({"torch", "numpy", "mpi4py", "h5py", "matplotlib"} & set(sys.modules)))
"""


def test_help_comes_at_once_for_it_imports_nothing_that_takes_time(python):
    asked = python("-c", HELP)
    assert asked.returncode == 0 and asked.stdout.endswith("\n\n")


def test_info_names_every_version_and_what_carries_tensors_and_needs_no_launcher(
    monkeypatch, capsys
):
    # As inside a job step: a rank of a job of two, whose other rank never comes.
    for name, value in {"PMI_SIZE": "2", "PMI_RANK": "0", "PMI_FD": "7"}.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["info", "--probe-gpu"]) == 0
    cells = [line.split("  ", 1) for line in capsys.readouterr().out.splitlines()]
    rows = {name: value.strip() for name, value in cells}
    assert {"hpctrain", "Python", "torch", "numpy", "h5py", "mpi4py", "MPI"} <= set(rows)
    assert {"cores visible", "threads by default", "device", "kernels"} <= set(rows)
    assert "does not start" not in rows["MPI"]
    assert rows["MPI takes CUDA buffers"] in ("no", "yes", "not reported")
    # Tests are shown no GPU.
    assert rows["transports"] == "mpi, gloo"
    assert rows["GPUs"].startswith("none")
    assert rows["MPI with GPU buffers"] == "not tried: torch sees no GPU on this node"


def test_info_tells_of_a_library_that_does_not_start(monkeypatch):
    from hpctrain.run import info

    for question in ("ASK_MPI_CUDA", "ASK_CUDA_DEVICES", "ASK_TRANSPORTS"):
        monkeypatch.setattr(info, question, "print()")
    monkeypatch.setattr(info, "ASK_MPI", "raise RuntimeError('cannot load MPI library')")
    monkeypatch.setattr(info, "ASK_HDF5", "import os; os.abort()")
    table = info.describe_installation()
    assert "does not start (RuntimeError: cannot load MPI library)" in table
    assert "(HDF5 does not start (status -6))" in table
