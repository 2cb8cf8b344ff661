"""Kills runs of several ranks and resumes them: python tests/kill_study.py [KILLS [SEED]]

A run that writes a checkpoint after every iteration is killed by SIGKILL at a random instant, one
rank or all of them, and resumed on another number of ranks, KILLS times over (50). After each kill
no checkpoint may be lost, nor a record before it; at the end history and state must be those, bit
by bit, of a run on one rank that was never interrupted.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from processes import cleared_shared_memory, processes_of

from hpctrain.parallel.communicator import Communicator
from hpctrain.store.checkpoint import Checkpoint, CheckpointStore
from hpctrain.store.run_file import read_run

MPIRUN = Path(sys.executable).parent / "mpirun"
JOB = """
problem = { name = "klein-gordon", points = 200 }
network = { depth = 4, width = 8 }
solver = { name = "ssbroyden" }
parallel = { threads = 1, chunks = 16 }
output = { checkpoint_every = 1, error_every = 1 }
stop = { max_iterations = 1000000 }
"""
RANKS = (2, 3)  # in turns
TIMES = ("seconds", "wall_seconds")
# Seconds from a part's first own checkpoint to its kill, at most; some parts are killed within so
# many seconds after their processes have started.
LONGEST = 0.4
EARLY, STARTING = 0.1, 2.0
PATIENCE = 60


def main(kills: int, seed: int) -> int:
    choice = random.Random(seed)
    with cleared_shared_memory(), tempfile.TemporaryDirectory() as folder:
        job, killed, whole = (Path(folder) / name for name in ("job.toml", "killed.h5", "whole.h5"))
        job.write_text(JOB)
        found: Counter[str] = Counter()
        kept = -1
        for kill in range(kills):
            ranks = RANKS[kill % len(RANKS)]
            found.update(killed_part(job, killed, ranks, choice))
            kept = nothing_lost(killed, kept)
            print(f"\r{kill + 1} kills, at iteration {kept}", end="", file=sys.stderr, flush=True)
        end = f"stop.max_iterations={kept + 3}"
        train(["resume", killed, "--set", end], ranks=1).check_returncode()
        fast = "output.checkpoint_every=0"
        train(["run", job, "-o", whole, "--set", end, "--set", fast], 1).check_returncode()
        differing = differences(killed, whole)
    told = ", ".join(f"{count} {what}" for what, count in sorted(found.items()))
    print(f"\n{kills} kills ({told}); {kept + 3} iterations;", end=" ")
    print(f"differ in {', '.join(differing)}" if differing else "the bits of a run without any")
    return 1 if differing else 0


def killed_part(job: Path, output: Path, ranks: int, choice: random.Random) -> list[str]:
    """Starts a part of the run on some ranks, and kills it; what was killed, and in what."""
    words = ["resume", output] if output.exists() else ["run", job, "-o", output]
    before = names(output)
    process = subprocess.Popen(
        command(words, ranks),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=environment(),
    )
    early = bool(before) and choice.random() < EARLY
    if early:
        awaited(process, lambda: len(processes_of(output)) == ranks)
    else:
        awaited(process, lambda: not names(output) <= before)
    time.sleep(choice.uniform(0, STARTING if early else LONGEST))
    there = processes_of(output)
    one = len(there) == ranks and choice.random() < 0.5
    for pid in [choice.choice(there)] if one else there:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    ended_soon(process)
    writing = any(folder(output).glob(".tmp-*"))
    instant = "within a checkpoint's write" if writing else "between them"
    return ["of one rank" if one else "of all ranks", "within start-up" if early else instant]


def awaited(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not ready():
        assert process.poll() is None, f"a part ended by itself ({process.returncode})"
        assert time.monotonic() < end, f"a part is not ready after {PATIENCE} s"
        time.sleep(0.002)


def ended_soon(process: subprocess.Popen[bytes]) -> None:
    """mpirun sees that a rank is gone, and ends the others."""
    try:
        status = process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError("the job outlived a killed rank by ten seconds") from None
    assert status != 0, "a killed job ended with status 0"


def nothing_lost(output: Path, kept: int) -> int:
    """The iteration of the last checkpoint, not before the one that was there."""
    iterations = read_run(output).history["iteration"]
    assert (iterations == range(len(iterations))).all()
    found = find_latest(output).iteration
    assert found >= kept, f"checkpoint {kept} is gone, the last is {found}"
    assert len(iterations) > found, f"iteration {found} is not in the history"
    return found


def differences(found: Path, expected: Path) -> list[str]:
    """The columns of the history and the leaves of the state that are not equal bit by bit."""
    histories = [read_run(path).history for path in (found, expected)]
    states = [find_latest(path).load() for path in (found, expected)]
    columns = [
        name for name in histories[1].keys() - set(TIMES)
        if histories[0][name].tobytes() != histories[1][name].tobytes()
    ]  # fmt: skip
    leaves = [k for k in states[0].keys() | states[1].keys() if not same(states, k)]
    return [*columns, *leaves]


def same(states: list[dict], path: str) -> bool:
    one, other = (state.get(path) for state in states)
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    return one == other


def find_latest(output: Path) -> Checkpoint:
    checkpoint = CheckpointStore(folder(output), Communicator()).find_latest()
    assert checkpoint is not None, f"{folder(output)}: no checkpoint"
    return checkpoint


def names(output: Path) -> set[str]:
    return {path.name for path in folder(output).glob("[0-9]*")}


def folder(output: Path) -> Path:
    return output.with_suffix(".ckpt")


def train(words: list, ranks: int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command(words, ranks), stdout=subprocess.DEVNULL, env=environment())


def command(words: list, ranks: int) -> list:
    return [MPIRUN, "-n", str(ranks), sys.executable, "-m", "hpctrain", *words]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    sys.exit(main(*map(int, [*sys.argv[1:], *("50", "0")[len(sys.argv) - 1 :]])))
