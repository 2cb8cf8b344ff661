"""Signals, stopped ranks and full disks: python tests/signal_study.py [TRIALS [SEED [SECONDS]]]

TRIALS (10) of each kind, at random instants: a signal to one rank, to all, or to mpirun, of a run
on three ranks; a rank that is stopped for 20 seconds (SIGSTOP); files that may not grow beyond a
size (RLIMIT_FSIZE); a disk that is full, where one can be mounted. Each run must end within a
minute, and go on to the bits of one that nothing ever happened to.
"""

import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from forked_ranks import Server, forking_server
from fuzz_study import attempt
from kill_study import assert_nothing_lost, environment, go_on_and_compare
from processes import cleared_shared_memory
from tabulate import tabulate

from hpctrain.errors import HpctrainError
from hpctrain.job.settings import load_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.train import run as train

JOB = """
problem = { name = "klein-gordon", points = 64 }
network = { depth = 4, width = 6 }
solver = { name = "ssbroyden" }
parallel = { threads = 1, chunks = 8 }
output = { checkpoint_every = 1, error_every = 1, iterates_every = 1 }
stop = { max_iterations = 1000000 }
"""
RANKS = 3
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
LATEST, PATIENCE = 4.0, 60
DISK_BYTES = 2**20
Outcome = tuple[Path, str]
Choice = random.Random


def main(trials: int, seed: int, stopped: float) -> int:
    found = Counter[tuple[str, str]]()
    with cleared_shared_memory(), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = folder / "job.toml"
        job.write_text(JOB)
        with forking_server(folder) as server:
            kinds: dict[str, Callable[[Path, Choice], str]] = {
                "a signal to one rank": lambda run, c: send(server, job, run, c, "rank"),
                "a signal to all ranks": lambda run, c: send(server, job, run, c, "all"),
                "a signal to mpirun": lambda run, c: send(server, job, run, c, "mpirun"),
                "a rank stopped": lambda run, c: stop_rank(server, job, run, c, stopped),
                "a limit of file size": lambda run, c: limit_files(job, run, c),
                "a full disk": lambda run, c: fill_disk(job, run, c),
            }
            for number, (kind, happen) in enumerate(kinds.items()):
                for trial in range(trials):
                    run = folder / f"{number}-{trial}" / "run.h5"
                    run.parent.mkdir()
                    ended = happen(run, Choice(f"{seed} {kind} {trial}"))
                    found[kind, ended] += 1
                    if ended != "not tried" and (differing := finish(job, run)):
                        found[kind, "other bits"] += 1
                        print(f"\n{kind} {trial}: {', '.join(differing)}", file=sys.stderr)
                    if os.path.ismount(run.parent):
                        subprocess.run(["umount", run.parent], check=True)
                    print(f"\r{kind} {trial + 1}\033[K", end="", file=sys.stderr, flush=True)
    ends = sorted({end for _, end in found} - {"other bits"})
    rows = [[kind, *(found[kind, end] or "" for end in (*ends, "other bits"))] for kind in kinds]
    print("\n" + tabulate(rows, ["what", *ends, "other bits"], tablefmt="github"))
    return 1 if any(end in ("other bits", "hangs") for _, end in found) else 0


def finish(job: Path, run: Path) -> list[str]:
    """Goes on; what differs from a run that nothing happened to."""
    return go_on_and_compare(job, run, (), max(assert_nothing_lost(run, -1), 0) + 3)


def send(server: Server, job: Path, run: Path, choice: Choice, target: str) -> str:
    """One of the signals at a random instant; how the run ended."""
    process, there = start(server, job, run)
    time.sleep(choice.uniform(0, LATEST))
    ranks, number = sorted(set(server.list_ranks()) - there), choice.choice(SIGNALS)
    receivers = {"rank": ranks and [choice.choice(ranks)], "all": ranks, "mpirun": [process.pid]}
    for pid in receivers[target]:
        os.kill(pid, number)
    if not receivers[target]:
        process.terminate()
    return wait(process, server, there)


def stop_rank(server: Server, job: Path, run: Path, choice: Choice, seconds: float) -> str:
    """A rank that does nothing for some seconds, and then a signal."""
    process, there = start(server, job, run)
    while len(ranks := sorted(set(server.list_ranks()) - there)) < RANKS:
        time.sleep(0.01)
    time.sleep(choice.uniform(0, LATEST))
    pid = choice.choice(ranks)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    assert process.poll() is None, "the run ended while a rank was stopped"
    os.kill(pid, signal.SIGCONT)
    time.sleep(1)
    os.kill(pid, signal.SIGTERM)
    return wait(process, server, there)


def start(server: Server, job: Path, run: Path) -> tuple[subprocess.Popen[bytes], set[int]]:
    """A run on three ranks, and the ranks that were there before."""
    there, null = set(server.list_ranks()), subprocess.DEVNULL
    words = server.command(["run", job, "-o", run], RANKS)
    return subprocess.Popen(words, stdout=null, stderr=null, env=environment()), there


def wait(process: subprocess.Popen[bytes], server: Server, before: set[int]) -> str:
    """How the run ended."""
    status = server.wait(process, before, PATIENCE)
    if status is None:
        process.kill()
        return "hangs"
    return "status 75" if status == 75 else "another status" if status else "status 0"


def limit_files(job: Path, run: Path, choice: Choice) -> str:
    most = int(2 ** choice.uniform(10, 19))

    def limited() -> tuple[str, str]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        return end_in_one_line(job, run)

    return attempt(limited, run.with_name("said"))[0]


def fill_disk(job: Path, run: Path, choice: Choice) -> str:
    """The run's folder is a file system of one megabyte, which is larger afterwards."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(run.parent)]
    if subprocess.run(mount, capture_output=True).returncode:
        return "not tried"
    filler = run.with_name("filler")
    filler.write_bytes(bytes(choice.randrange(DISK_BYTES - 2**16)))
    ended = attempt(lambda: end_in_one_line(job, run), run.parent.with_suffix(".said"))[0]
    larger = ["mount", "-o", f"remount,size={64 * DISK_BYTES}", str(run.parent)]
    subprocess.run(larger, check=True)
    return ended


def end_in_one_line(job: Path, run: Path) -> tuple[str, str]:
    """Trains until nothing can be written any more."""
    try:
        train(load_job(str(job)), Communicator(), str(run))
    except HpctrainError as error:
        return ("many lines" if "\n" in str(error) else "an error in one line"), str(error)
    return "status 0", ""


if __name__ == "__main__":
    given = [*sys.argv[1:], *("10", "0", "20")[len(sys.argv) - 1 :]]
    sys.exit(main(int(given[0]), int(given[1]), float(given[2])))
