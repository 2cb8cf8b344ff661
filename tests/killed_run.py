"""Kills a run by SIGKILL again and again, and resumes it: killed_run.py FOLDER JOB KILLS SEED.

One process that has imported everything starts each part of the run by a fork, which costs none of
the seconds that an import takes. It prints the iteration that each part is known to have reached.
"""

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from hpctrain.job.settings import load_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.run import train as runner
from hpctrain.store.checkpoint import CheckpointStore
from hpctrain.store.run_file import read_run

LONGEST = 4  # parts last up to so many times what a run of one iteration takes on this machine


def part(train: Callable[[], object]) -> int:
    """Starts a part of the run; the process that does it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            train()
            status = 0
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    return child


def status(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def reached(output: Path) -> tuple[int, int]:
    """The last iteration recorded, and that of the last checkpoint; -1 for none."""
    iterations = read_run(output).history["iteration"]
    latest = CheckpointStore(output.with_suffix(".ckpt"), Communicator()).find_latest()
    assert (iterations == range(len(iterations))).all()
    return len(iterations) - 1, latest.iteration if latest else -1


def main(folder: Path, job: str, kills: int, seed: int) -> None:
    killed, whole = folder / "killed.h5", folder / "whole.h5"
    alone, instants, kept = Communicator(), random.Random(seed), -1

    def start(output: Path, *settings: str) -> object:
        return runner.run(load_job(job, settings), alone, str(output))

    def resume(*settings: str) -> object:
        return runner.resume(str(killed), alone, settings)

    began = time.perf_counter()
    assert status(part(lambda: start(folder / "first.h5", "stop.max_iterations=1"))) == 0
    longest = LONGEST * (time.perf_counter() - began)
    for _ in range(kills):
        child = part(resume if killed.exists() else lambda: start(killed))
        time.sleep(instants.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        assert status(child) == -signal.SIGKILL, "the part ended by itself"
        if killed.exists():
            last, checkpoint = reached(killed)
            print(f"killed at {last}, checkpoint {checkpoint}", flush=True)
            assert checkpoint >= kept and last >= checkpoint, "something was lost"
            kept = checkpoint
    assert killed.exists(), "each part was killed before it began"
    end = f"stop.max_iterations={max(kept, 0) + 3}"
    assert status(part(lambda: resume(end))) == 0
    assert status(part(lambda: start(whole, end))) == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
