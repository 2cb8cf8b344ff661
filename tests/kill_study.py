"""Kills runs of every solver and resumes them: python tests/kill_study.py [CHAINS [SEED [SOLVER…]]]

A run that writes a checkpoint after every iteration is killed by SIGKILL at a random instant, from
its start on, one rank or all of them, and resumed on another number of ranks, one to three times: a
chain, of which each solver has CHAINS (3). After each kill no checkpoint may be lost, nor a record
before it; at the end history and state must be those, bit by bit, of a run on one rank that was
never interrupted.
"""

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from forked_ranks import Server, forking_server
from processes import cleared_shared_memory
from tabulate import tabulate
from trials import TIMES, Trial

from hpctrain.job.settings import load_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.train import resume, run
from hpctrain.solvers import SOLVERS
from hpctrain.store.checkpoint import Checkpoint, CheckpointStore
from hpctrain.store.run_file import holds_no_record, read_run

RANKS = (3, 2, 1)  # in turns
WATCHED = ("output.checkpoint_every=1", "output.error_every=1")
# Full steps of these are for classes that a plane divides.
GENTLE = dict.fromkeys(["ssn", "svrg", "sarah"], ("solver.learning_rate=0.1",))
ENDLESS = 1000000
# Seconds from a part's start, or from its first own checkpoint, to its kill, at most.
STARTING, LONGEST = 2.0, 0.4
ENDING, PATIENCE = 10, 60
WHAT = ("kills", "of one rank", "within start-up", "within a checkpoint", "iterations", "differ")


def main(chains: int, seed: int, names: list[str]) -> int:
    rows = []
    with cleared_shared_memory(), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trial = Trial(folder).pose()
        with forking_server(folder) as server:
            for solver in names or SOLVERS:
                job = folder / f"{solver}.toml"
                job.write_text(trial.text(solver))
                found = Counter[str]()
                for chain in range(chains):
                    choice = random.Random(f"{seed} {solver} {chain}")
                    found += kill_again_and_again(server, job, chain, choice)
                rows.append([solver, chains, *(found[what] for what in WHAT)])
                print(f"\r{solver}: {dict(found)}\033[K", end="", file=sys.stderr, flush=True)
    sums = [sum(column) for column in list(zip(*rows, strict=True))[1:]]
    print("\n" + tabulate([*rows, ["all", *sums]], ["solver", "chains", *WHAT], tablefmt="github"))
    return 1 if sums[-1] else 0


def kill_again_and_again(
    server: Server, job: Path, chain: int, choice: random.Random
) -> Counter[str]:
    """One chain; what happened in it, and whether its end differs from a run without kills."""
    killed = job.with_name(f"{job.stem}-{chain}.h5")
    settings = [*WATCHED, *GENTLE.get(job.stem, ())]
    found, kept = Counter[str](), -1
    for kill in range(choice.randint(1, 3)):
        ranks = RANKS[(chain + kill) % len(RANKS)]
        found.update(kill_part(server, job, killed, settings, ranks, choice))
        kept = assert_nothing_lost(killed, kept)
    if differing := go_on_and_compare(job, killed, settings, kept + 3):
        print(f"\n{killed.stem} differs in {', '.join(differing)}", file=sys.stderr)
    return found + Counter({"iterations": kept + 3, "differ": bool(differing)})


def go_on_and_compare(job: Path, output: Path, settings: Sequence[str], last: int) -> list[str]:
    """Ends a run on one rank; what differs from one that was never interrupted."""
    whole, end = output.with_name(f"{output.stem}-whole.h5"), f"stop.max_iterations={last}"
    with contextlib.redirect_stdout(io.StringIO()):
        if output.exists() and not holds_no_record(output):
            resume(str(output), Communicator(), [end])
        else:
            run(load_job(str(job), [*settings, end]), Communicator(), str(output))
        run(load_job(str(job), [*settings, end]), Communicator(), str(whole))
    return differences(output, whole)


def kill_part(
    server: Server,
    job: Path,
    output: Path,
    settings: list[str],
    ranks: int,
    choice: random.Random,
) -> list[str]:
    """Starts a part of the run on some ranks, and kills it; what was killed, and in what."""
    is_new = not output.exists() or holds_no_record(output)
    words = ["run", job, "-o", output] if is_new else ["resume", output]
    endless = f"stop.max_iterations={ENDLESS}"
    changed = [word for each in (*settings, endless) for word in ("--set", each)]
    before, there = list_names(output), set(server.list_ranks())
    process = subprocess.Popen(
        server.command([*words, *(changed if is_new else changed[-2:])], ranks),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=environment(),
    )
    early, deadline = choice.random() < 1 / 3, time.monotonic() + PATIENCE

    def is_ready() -> bool:
        if early:
            return len(set(server.list_ranks()) - there) == ranks
        return not list_names(output) <= before

    while process.poll() is None and not is_ready():
        assert time.monotonic() < deadline, f"{output}: not ready after {PATIENCE} s"
        time.sleep(0.002)
    time.sleep(choice.uniform(0, STARTING if early else LONGEST))
    found = sorted(set(server.list_ranks()) - there)
    if not found:
        return []  # it has ended by itself
    one = len(found) == ranks > 1 and choice.random() < 0.5
    for pid in [choice.choice(found)] if one else found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    writing = any(find_folder(output).glob(".tmp-*"))
    if server.wait(process, there, ENDING) is None:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"the job outlived a killed rank by {ENDING} seconds")
    told = {"of one rank": one, "within start-up": early, "within a checkpoint": writing}
    return ["kills", *(what for what, happened in told.items() if happened)]


def assert_nothing_lost(output: Path, kept: int) -> int:
    """The iteration of the last checkpoint, not before the one that was there; -1 for none."""
    found = CheckpointStore(find_folder(output), Communicator()).find_latest()
    last = found.iteration if found else -1
    assert last >= kept, f"checkpoint {kept} is gone, the last is {last}"
    if last >= 0:
        iterations = read_run(output).history["iteration"]
        assert (iterations == range(len(iterations))).all()
        assert len(iterations) > last, f"iteration {last} is not in the history"
    return last


def differences(found: Path, expected: Path) -> list[str]:
    """The columns of the history and the leaves of the state that are not equal bit by bit."""
    histories = [read_run(path).history for path in (found, expected)]
    states = [find_latest(path).load() for path in (found, expected)]
    columns = [
        name for name in histories[1].keys() - set(TIMES)
        if histories[0][name].tobytes() != histories[1][name].tobytes()
    ]  # fmt: skip
    leaves = [k for k in states[0].keys() | states[1].keys() if not is_same(states, k)]
    return [*columns, *leaves]


def is_same(states: list[dict], path: str) -> bool:
    one, other = (state.get(path) for state in states)
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    return one == other


def find_latest(output: Path) -> Checkpoint:
    checkpoint = CheckpointStore(find_folder(output), Communicator()).find_latest()
    assert checkpoint is not None, f"{find_folder(output)}: no checkpoint"
    return checkpoint


def list_names(output: Path) -> set[str]:
    return {path.name for path in find_folder(output).glob("[0-9]*")}


def find_folder(output: Path) -> Path:
    return output.with_suffix(".ckpt")


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    chains, seed = map(int, [*sys.argv[1:3], *("3", "0")[len(sys.argv[1:3]) :]])
    sys.exit(main(chains, seed, sys.argv[3:]))
