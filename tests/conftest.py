"""What tests share: jobs of several ranks, started from a serial test."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import h5py
import processes
import pytest

import hpctrain
from hpctrain import cli
from hpctrain.job.own_code import ANNOUNCED
from hpctrain.problems.equations import equations
from hpctrain.results import style
from hpctrain.run.signals import StopSignals
from hpctrain.study import starts

MPIRUN = Path(sys.executable).parent / "mpirun"
# The ranks import the package that the tests import, installed or not.
PACKAGE = str(Path(hpctrain.__file__).parents[1])

Run = Callable[..., subprocess.CompletedProcess[str]]

# What takes longest: workers that share the tests take these first, so that none is left with one.
LONG = (
    "test_studies.py",
    "test_project_quality.py",
    "test_study_scaling.py",
    "test_docs_pages.py",
    "test_resume.py",
    "test_cli_status.py",
    "test_run_output.py",
    "test_run_faults.py",
    "test_parallel_faults.py",
    "test_results_export.py",
    "test_docs_python.py",
)

# Where there are GPUs, tests and what they start leave them alone: bits are compared that only the
# CPU promises. `test_gpu.py` gives them back to what it starts.
os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest tests first."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(autouse=True, scope="session")
def draw_coarsely() -> None:
    """Lets figures have few dots, which take a third of the time of a figure for print."""
    style.SETTINGS["savefig.dpi"] = style.PRINTED["savefig.dpi"] = 40


@pytest.fixture(autouse=True, scope="session")
def wait_for_no_disk() -> Iterator[None]:
    """Files of tests need not outlive a power failure; a short run waits for it a dozen times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True, scope="module")
def measure_coarsely() -> Iterator[None]:
    """Lets errors be measured on one point of sixty: else half of a short run goes there.

    A module whose numbers are those of the true grids has a fixture of this name that does nothing.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(equations, "_GRIDS", {1: (101,), 2: (25, 50), 3: (11, 11, 11)})
        yield


@pytest.fixture
def python() -> Run:
    """Runs this Python in a process of its own: python(*arguments, timeout=60, VARIABLE="…")."""
    return _python


@pytest.fixture
def mpirun(cleared_shared_memory: None) -> Run:
    """The same on some ranks: mpirun(ranks, *arguments, timeout=60, VARIABLE="…")."""
    if not MPIRUN.exists():
        pytest.skip("needs the mpirun of an MPI installed beside this Python")

    def run(ranks: int, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return _python(*arguments, launcher=(MPIRUN, "-n", str(ranks)), **options)

    return run


def _python(
    *arguments: str | Path,
    launcher: tuple[str | Path, ...] = (),
    timeout: float = 60,
    **environ: str,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*launcher, sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | {"PYTHONPATH": PACKAGE} | environ,
    )


@pytest.fixture
def write_job(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a job's text into a file, and says which."""

    def write(text: str) -> Path:
        path = tmp_path / "job.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command says, in one line, where it ends with status 2: refusal("run", path)."""

    def refuse(*words: str | Path) -> str:
        capsys.readouterr()  # what was said before
        assert cli.main([str(word) for word in words]) == 2
        printed = capsys.readouterr()
        (line,) = printed.err.splitlines()
        said = [each for each in printed.out.splitlines() if not each.startswith(ANNOUNCED)]
        assert said == [] and line.startswith("hpctrain: ")
        return line.removeprefix("hpctrain: ")

    return refuse


@pytest.fixture
def runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a study train in this process, not in one that is started for each run."""

    def start(run: starts.PlannedRun, path: Path, signals: StopSignals) -> None:
        with path.with_suffix(".log").open("w") as log, redirect_stdout(log):
            words = run.make_command(path)
            assert cli.main(words[words.index("hpctrain") + 1 :]) == 0

    monkeypatch.setattr(starts, "start", start)


@pytest.fixture(scope="session")
def cleared_shared_memory() -> Iterator[None]:
    """Removes, after all tests, the segments that killed ranks have left in shared memory."""
    with processes.cleared_shared_memory():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few digits and a few labelled rows."""
    from classifiers import write_mnist
    from logistic import random_rows

    folder = tmp_path_factory.mktemp("data")
    write_mnist(folder / "digits", train=44, test=8)
    rows = random_rows(samples=40)
    with h5py.File(folder / "rows.h5", "w") as file:
        file["features"], file["labels"] = rows.features, rows.labels
    return folder
