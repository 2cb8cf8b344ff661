"""Damages the files of runs and goes on with them: python tests/fuzz_study.py [TRIALS [SEED]]

Each of TRIALS (500) copies a run with its checkpoints, of one that has ended or was killed, damages
one or two of the files at random, and resumes it. It must end in one line, or in the bits of a run
that nothing ever happened to, but for snapshots of which it says that they are damaged. The table
says how often what came of which damage.
"""

import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from forked_ranks import Server, forking_server
from kill_study import differences, environment, find_latest
from processes import cleared_shared_memory
from tabulate import tabulate

from hpctrain.errors import InputError
from hpctrain.job.settings import load_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.train import resume
from hpctrain.run.train import run as train
from hpctrain.store.run_file import read_run

JOB = """
problem = {{ name = "klein-gordon", points = 64 }}
network = {{ depth = 4, width = 6 }}
solver = {{ {solver} }}
parallel = {{ threads = 1, chunks = 8 }}
output = {{ checkpoint_every = 1, error_every = 2, iterates_every = 2 }}
stop = {{ max_iterations = {end} }}
"""
SOLVERS = {
    "ssbroyden": 'name = "ssbroyden"',
    "aspqn": 'name = "aspqn", blocks = 3, local_steps = 2, keep_local_memory = true',
}
LAST, ENDLESS, MORE = 6, 1000000, 2
PATIENCE = 60
EQUAL, EARLIER, REFUSED = "accepted, equal bits", "earlier checkpoint, equal bits", "refused"
FEWER = "equal bits, snapshots left out with a warning"
FAULTS = OTHER, CRASH, HANG = "accepted, other bits", "no single line", "hangs"
OUTCOMES = (REFUSED, EARLIER, EQUAL, FEWER, *FAULTS)
Choice = random.Random


@dataclass(frozen=True)
class Victim:
    """A run to be damaged, another one of its job, and what it must end as."""

    run: Path
    other: Path
    whole: Path
    end: int


def main(trials: int, seed: int) -> int:
    choice, found = Choice(seed), Counter[tuple[str, str]]()
    with cleared_shared_memory(), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with forking_server(folder) as server:
            victims = make_victims(server, folder)
        for trial in range(trials):
            what, outcome, told = try_damage(folder / "trial", choice.choice(victims), choice)
            found[what, outcome] += 1
            if outcome in FAULTS:
                print(f"\n{what}: {outcome}: {told}", file=sys.stderr)
            print(f"\r{trial + 1} trials", end="", file=sys.stderr, flush=True)
    print(f"\n{make_table(found)}")
    return 1 if any(outcome in FAULTS for _, outcome in found) else 0


def make_table(found: Counter[tuple[str, str]]) -> str:
    kinds = sorted({what for what, _ in found})
    rows = [[what, *(found[what, outcome] or "" for outcome in OUTCOMES)] for what in kinds]
    sums = [sum(found[what, outcome] for what in kinds) for outcome in OUTCOMES]
    return tabulate([*rows, ["all", *sums]], ["damage", *OUTCOMES], tablefmt="github")


def make_victims(server: Server, folder: Path, ranks: int = 3) -> list[Victim]:
    """One of each solver that has ended, and one that was killed; on some ranks."""
    made = []
    for name, solver in SOLVERS.items():
        place = folder / name
        place.mkdir()
        job, other, ended, killed = (
            place / n for n in ("job.toml", "b.h5", "ended.h5", "killed.h5")
        )
        job.write_text(JOB.format(solver=solver, end=LAST))
        for run in (other, ended):
            start(server, ["run", job, "-o", run], ranks).wait()
            assert read_run(run).history["iteration"][-1] == LAST
        kill(server, job, killed, ranks)
        for run in (ended, killed):
            end, whole = find_latest(run).iteration + MORE, place / f"whole-{run.name}"
            longer = load_job(str(job), [f"stop.max_iterations={end}"])
            with contextlib.redirect_stdout(io.StringIO()):
                train(longer, Communicator(), str(whole))
            made.append(Victim(run, other, whole, end))
    return made


def start(server: Server, words: list, ranks: int) -> subprocess.Popen[bytes]:
    null = subprocess.DEVNULL
    return subprocess.Popen(
        server.command(words, ranks), stdout=null, stderr=null, env=environment()
    )


def kill(server: Server, job: Path, run: Path, ranks: int) -> None:
    """Starts a run, and kills all its ranks after some checkpoints."""
    endless = ["--set", f"stop.max_iterations={ENDLESS}"]
    process = start(server, ["run", job, "-o", run, *endless], ranks)
    deadline = time.monotonic() + PATIENCE
    while not any(run.with_suffix(".ckpt").glob("0*[3-9]")):
        assert time.monotonic() < deadline and process.poll() is None, "the victim does not run"
        time.sleep(0.01)
    for pid in server.list_ranks():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.wait(process, set(), PATIENCE)


def try_damage(place: Path, victim: Victim, choice: Choice) -> tuple[str, str, str]:
    """What was damaged, what came of it, and what was said."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    run = place / "run.h5"
    shutil.copy(victim.run, run)
    shutil.copytree(victim.run.with_suffix(".ckpt"), run.with_suffix(".ckpt"))
    what = choice.choice(list(DAMAGES))
    DAMAGES[what](run, victim, choice)
    return what, *attempt(lambda: go_on(run, victim), place / "said")


def go_on(run: Path, victim: Victim) -> tuple[str, str]:
    """Resumes a run to its end; what came of it, and what was said."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            resume(str(run), Communicator(), [f"stop.max_iterations={victim.end}"])
        except InputError as error:
            return (CRASH if "\n" in str(error) else REFUSED), str(error)
    said = [str(each.message) for each in caught]
    if differing := [*differences(run, victim.whole), *differing_iterates(run, victim.whole)]:
        if differing == ["iterates"] and any("damaged, /iterates/" in each for each in said):
            return FEWER, ""
        return OTHER, f"{', '.join(differing)}; {said}"
    return (EARLIER if any("damaged" in each for each in said) else EQUAL), ""


def differing_iterates(run: Path, whole: Path) -> list[str]:
    one, other = (read_run(path).iterates for path in (run, whole))
    same = one and other and one.theta.tobytes() == other.theta.tobytes()
    return [] if same else ["iterates"]


def attempt(function: Callable[[], tuple[str, str]], said: Path) -> tuple[str, str]:
    """What a function returns in a process of its own, which may crash or hang."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            try:
                found = function()
            except BaseException as error:
                found = CRASH, f"{type(error).__name__}: {error}"
            said.write_text(json.dumps(found))
        os._exit(0)
    deadline = time.monotonic() + PATIENCE
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return HANG, ""
        time.sleep(0.005)
    return tuple(json.loads(said.read_text())) if said.exists() else (CRASH, "it is gone")


def list_parts(run: Path) -> list[Path]:
    return [path for folder in list_checkpoints(run) for path in sorted(folder.iterdir())]


def list_checkpoints(run: Path) -> list[Path]:
    """The older one, and the newer one."""
    return sorted(run.with_suffix(".ckpt").glob("[0-9]*[0-9]"))


def choose(run: Path, choice: Choice) -> Path:
    """The run file, every third time, or a file of a checkpoint."""
    return run if choice.random() < 1 / 3 else choice.choice(list_parts(run))


def truncate(run: Path, victim: Victim, choice: Choice) -> None:
    path = choose(run, choice)
    os.truncate(path, choice.randrange(path.stat().st_size))


def flip(run: Path, victim: Victim, choice: Choice) -> None:
    path = choose(run, choice)
    content = bytearray(path.read_bytes())
    for _ in range(choice.choice([1, 1, 2, 8])):
        content[choice.randrange(len(content))] ^= 1 << choice.randrange(8)
    path.write_bytes(content)


def erase(run: Path, victim: Victim, choice: Choice) -> None:
    """Zeros over some bytes, as of a page that never reached the disk."""
    path = choose(run, choice)
    content = bytearray(path.read_bytes())
    start = choice.randrange(len(content))
    stop = min(start + choice.choice([16, 512, 4096]), len(content))
    content[start:stop] = bytes(stop - start)
    path.write_bytes(content)


def delete(run: Path, victim: Victim, choice: Choice) -> None:
    choose(run, choice).unlink()


def replace_by_junk(run: Path, victim: Victim, choice: Choice) -> None:
    path = choose(run, choice)
    path.unlink()
    match choice.randrange(4):
        case 0:
            path.touch()
        case 1:
            path.write_bytes(choice.randbytes(5000))
        case 2:
            path.mkdir()
        case 3:
            path.symlink_to(path)


def take_of_another_run(run: Path, victim: Victim, choice: Choice) -> None:
    """A part, a table, or the run file, of another run of the job."""
    if choice.random() < 1 / 4:
        shutil.copy(victim.other, run)
    else:
        path = choice.choice(list_parts(run))
        others = victim.other.with_suffix(".ckpt").glob(f"*/{path.name}")
        shutil.copy(choice.choice(sorted(others)), path)


def swap(run: Path, victim: Victim, choice: Choice) -> None:
    one, other = choice.sample(list_parts(run), 2)
    exchange(one, other)


def swap_between_checkpoints(run: Path, victim: Victim, choice: Choice) -> None:
    """The same part of both, or both whole."""
    early, late = list_checkpoints(run)[-2:]  # one more of a run killed as it wrote
    if choice.random() < 1 / 4:
        exchange(early, late)
    else:
        name = choice.choice(sorted(early.iterdir())).name
        exchange(early / name, late / name)


def swap_and_mend_the_tables(run: Path, victim: Victim, choice: Choice) -> None:
    """The same part of both checkpoints, whose tables take it for theirs."""
    folders = list_checkpoints(run)[-2:]
    name = choice.choice([path.name for path in folders[0].glob("part-*")])
    exchange(folders[0] / name, folders[1] / name)
    for folder in folders:
        table = json.loads((folder / "manifest.json").read_text())["content"]
        content = (folder / name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        table["parts"][name] = {"size": len(content), "sha256": digest}
        mended = hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()
        (folder / "manifest.json").write_text(json.dumps({"sha256": mended, "content": table}))


def exchange(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


DAMAGES = {
    "truncated": truncate,
    "bits flipped": flip,
    "zeros over a part": erase,
    "deleted": delete,
    "replaced by junk": replace_by_junk,
    "of another run": take_of_another_run,
    "two files swapped": swap,
    "swapped between checkpoints": swap_between_checkpoints,
    "swapped, tables mended": swap_and_mend_the_tables,
}


if __name__ == "__main__":
    sys.exit(main(*map(int, [*sys.argv[1:], *("500", "0")[len(sys.argv) - 1 :]])))
