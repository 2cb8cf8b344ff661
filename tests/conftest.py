"""What tests share: jobs of several ranks, started from a serial test."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hpctrain

MPIRUN = Path(sys.executable).parent / "mpirun"
# The ranks import the package that the tests import, installed or not.
PACKAGE = str(Path(hpctrain.__file__).parents[1])
SHARED_MEMORY = Path("/dev/shm")

Run = Callable[..., subprocess.CompletedProcess[str]]


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


@pytest.fixture(scope="session")
def cleared_shared_memory() -> Iterator[None]:
    """Removes, after all tests, the segments that killed ranks have left in shared memory."""
    before = _segments()
    yield
    time.sleep(0.5)  # a killed rank may outlive its mpirun by a moment
    for segment in _segments() - before - _mapped():
        Path(segment).unlink(missing_ok=True)


def _segments() -> set[str]:
    return {str(path) for path in SHARED_MEMORY.glob("mpich_shm_*")}


def _mapped() -> set[str]:
    """The segments in use by any process: other jobs may run beside the tests."""
    mapped = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            lines = maps.read_text().splitlines()
        except OSError:  # the process has ended, or belongs to another user
            continue
        mapped.update(line.split(maxsplit=5)[5] for line in lines if str(SHARED_MEMORY) in line)
    return mapped
