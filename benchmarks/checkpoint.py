"""Checkpoints of a dense inverse Hessian: `python -m benchmarks.checkpoint [RANKS…]`, a minute.

The state of self-scaled Broyden with n = 10,401 (866 MB in float64) goes through the store, in
turns with a plain write of as many bytes, both up to their fsync. It tells the time of both, their
ratio, how much the memory of a rank grows meanwhile, and the time to find, verify and restore it.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.runs import MPIRUN
from hpctrain.methods.quasi_newton.inverse_hessian import InverseHessian
from hpctrain.parallel import Communicator, finish, start
from hpctrain.parallel.rows import find_row_ranges
from hpctrain.store import files
from hpctrain.store.checkpoint import CheckpointStore
from hpctrain.store.state import RowBlock, Share

PARAMETERS = 10_401
REPEATS = 5
PIECE = 16 * 2**20
MB = 1e6


@dataclass
class State:
    """What a checkpoint of self-scaled Broyden holds, but for a few vectors more."""

    theta: torch.Tensor
    H: InverseHessian


def main(ranks: list[str]) -> None:
    for P in ranks or ["1", "2"]:
        words = [sys.executable, "-m", "benchmarks.checkpoint", "rank"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([MPIRUN, "-n", P, *words], env=environment, check=True)


def rank() -> int:
    """One of the ranks; the first prints."""
    communicator = start()
    with tempfile.TemporaryDirectory(dir=".", prefix="checkpoint-") as own:
        folder = Path(communicator.broadcast(own))
        report = measured(communicator, folder)
    if communicator.is_root:
        print(report, flush=True)
    return finish(communicator)


def measured(communicator: Communicator, folder: Path) -> str:
    first, last = find_row_ranges(PARAMETERS, communicator.size)[communicator.rank]
    rows = torch.rand(last - first, PARAMETERS, dtype=torch.float64)
    state = State(rows[0].clone(), InverseHessian(rows=RowBlock(rows, first, PARAMETERS)))
    store = CheckpointStore(folder / "run.ckpt", communicator, keep=1)
    plain, stored, growth = [], [], 0
    for repeat in range(REPEATS):
        path = folder / f"plain-{communicator.rank}"
        plain.append(seconds(communicator, write_plain, path, rows))
        path.unlink()
        before = reset_peak()
        stored.append(seconds(communicator, store.write, repeat, state))
        growth = max(growth, peak() - before)
    del state, rows
    restoring = [seconds(communicator, restore, communicator, store) for _ in range(3)]
    (most,) = communicator.find_maximum([growth])
    ratio = median(s / p for s, p in zip(stored, plain, strict=True))
    return (
        f"{communicator.size} ranks, n = {PARAMETERS}, {8 * PARAMETERS**2 / MB:.0f} MB:"
        f" checkpoint {median(stored):.2f} s, plain write {median(plain):.2f} s,"
        f" median ratio {ratio:.2f}; memory of a rank grows by {most / MB:.0f} MB;"
        f" found, verified and restored in {median(restoring):.2f} s"
    )


def seconds(communicator: Communicator, work: Callable[..., object], *arguments: Any) -> float:
    """Of the slowest rank, from a common start."""
    os.sync()
    communicator.barrier()
    began = time.perf_counter()
    work(*arguments)
    communicator.barrier()
    return time.perf_counter() - began


def write_plain(path: Path, rows: torch.Tensor) -> None:
    content = memoryview(rows.numpy()).cast("B")
    with path.open("wb", buffering=0) as file:
        for begin in range(0, len(content), PIECE):
            file.write(content[begin : begin + PIECE])
    files.sync(path)


def restore(communicator: Communicator, store: CheckpointStore) -> None:
    checkpoint = store.find_latest()
    assert checkpoint is not None
    rank, size = communicator.rank, communicator.size
    share = Share(None, lambda total, _: find_row_ranges(total, size)[rank])
    example = State(torch.zeros(PARAMETERS, dtype=torch.float64), InverseHessian())
    checkpoint.restore(example, share)


def reset_peak() -> int:
    """Bytes in use; what Linux knows as the peak begins from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def peak() -> int:
    return memory("VmHWM")


def memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    sys.exit(rank() if sys.argv[1:] == ["rank"] else main(sys.argv[1:]))
