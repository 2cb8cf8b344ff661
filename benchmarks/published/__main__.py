"""Makes the published studies, a while at a time: `make published`, or
`python -m benchmarks.published`.

Parts: table (SPQN's), sweep (blocks and local steps), apts, astrom, mlvr, rmtr. First it says how
long each takes on one quiet core, roughly. Runs lie in a folder; those that ended are used, those
that were interrupted go on from their checkpoints, so that a study may be made over many sittings.
At the end, and when it is stopped by a signal or the time, it writes one page with all cells of the
published tables beside those of ours; what is not there yet is marked.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from benchmarks.published import apts, astrom, mlvr, rmtr, spqn_sweep, spqn_table
from benchmarks.published.parts import Task
from hpctrain.errors import InputError
from hpctrain.run.signals import StopSignals

PARTS: dict[str, ModuleType] = {
    "table": spqn_table,
    "sweep": spqn_sweep,
    "apts": apts,
    "astrom": astrom,
    "mlvr": mlvr,
    "rmtr": rmtr,
}
HEAD = """\
# The published studies

`make published` (`python -m benchmarks.published`) makes this page from runs of the jobs in
`jobs/`, over as many sittings as it takes: runs that ended are kept, interrupted ones go on, and
`--parts`, `--seeds`, `--seconds` and `--slice` say what is made. Published figures stand beside
ours; what says "not run yet" is left. Counts and accuracies do not depend on the machine; minutes
do."""


def estimate(folder: Path, seeds: int | None, parts: Sequence[str]) -> str:
    """Hours on one quiet core, and what is left of them, a line a part."""
    lines = []
    for name in parts:
        tasks = plan(name, seeds)
        left = [each for each in tasks if not each.has_ended(folder)]
        hours, rest = (sum(each.seconds for each in its) / 3600 for its in (tasks, left))
        lines.append(
            f"{name}: {len(tasks)} runs, about {hours:.1f} hours on one core; left are"
            f" {len(left)} runs, {rest:.1f} hours"
        )
    return "\n".join(lines)


def plan(name: str, seeds: int | None) -> Sequence[Task]:
    """The runs of a part."""
    part = PARTS[name]
    tasks: Sequence[Task] = part.plan(seeds or part.SEEDS)
    return tasks


def advance(
    folder: Path, tasks: Sequence[Task], signals: StopSignals, seconds: float, at_once: float
) -> None:
    """Runs what has not ended, each for a while at a time, until the time is over.

    Args:
        folder: of the runs.
        tasks: the runs, in order.
        signals: by which it is stopped.
        seconds: for all of them.
        at_once: for one before the next has its turn.
    """
    deadline = time.monotonic() + seconds
    for task in _take_turns(folder, tasks):
        left = deadline - time.monotonic()
        if left <= 0 or signals.received:
            return
        print(task.name, file=sys.stderr, flush=True)
        task.advance(folder, signals, min(left, at_once))


def _take_turns(folder: Path, tasks: Sequence[Task]) -> Iterator[Task]:
    """Each that has not ended, again and again until all have."""
    waiting = [each for each in tasks if not each.has_ended(folder)]
    while waiting:
        yield from waiting
        waiting = [each for each in waiting if not each.has_ended(folder)]


def write_page(folder: Path, seeds: int | None, output: Path) -> None:
    """Writes all parts, whether they were asked for or not."""
    sections = [
        f"## {part.TITLE}\n\n{part.write(folder, seeds or part.SEEDS)}" for part in PARTS.values()
    ]
    output.write_text("\n\n".join([HEAD, *sections]) + "\n", encoding="utf-8")


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.published", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, help="seeds 0, 1, …; by default 3, or 10")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for all of it")
    parser.add_argument("--slice", type=float, default=float("inf"), help="seconds of a run's turn")
    parser.add_argument("--folder", type=Path, default=Path("runs/published"))
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/published.md"))
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Makes what is asked for; the exit status."""
    asked = _parse(words)
    try:
        print(estimate(asked.folder, asked.seeds, asked.parts), flush=True)
        tasks = [each for name in asked.parts for each in plan(name, asked.seeds)]
        with StopSignals() as signals:
            advance(asked.folder, tasks, signals, asked.seconds, asked.slice)
        write_page(asked.folder, asked.seeds, asked.output)
    except InputError as error:
        print(f"benchmarks.published: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
