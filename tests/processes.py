"""The processes of runs, found by their command lines, and what killed ones leave behind."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")


def processes_of(output: Path) -> list[int]:
    """The ranks that write a run file."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = line.read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if b"python" in words[0] and str(output).encode() in words:
            found.append(int(line.parent.name))
    return sorted(found)


@contextmanager
def cleared_shared_memory() -> Iterator[None]:
    """Removes, at its end, the segments that ranks killed within have left in shared memory."""
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
