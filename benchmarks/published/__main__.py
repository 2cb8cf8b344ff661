"""Makes the published studies, a while at a time: `make published`, or
`python -m benchmarks.published`.

Parts: table (SPQN's), sweep (blocks and local steps), details (one changed at a time), apts,
astrom, mlvr, rmtr. First it says how long each takes on one quiet core, roughly. Runs lie in a
folder; those that ended are used, those that were interrupted go on from their checkpoints, so that
a study may be made over many sittings.
At the end, and when it is stopped by a signal or the time, it writes one page with all cells of the
published tables beside those of ours; what is not there yet is marked, or stays as the page has it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from benchmarks.published import apts, astrom, mlvr, rmtr, spqn_details, spqn_sweep, spqn_table
from benchmarks.published.earlier import keep_earlier
from benchmarks.tasks import Task, describe_duration, run_missing
from hpctrain.errors import InputError
from hpctrain.run.signals import StopSignals

PARTS: dict[str, ModuleType] = {
    "table": spqn_table,
    "sweep": spqn_sweep,
    "details": spqn_details,
    "apts": apts,
    "astrom": astrom,
    "mlvr": mlvr,
    "rmtr": rmtr,
}
HEAD = """\
# The published studies

`make published` (`python -m benchmarks.published`) makes this page from runs of the jobs in
`jobs/`, over as many sittings as it takes: runs that ended are kept, interrupted ones go on, and
`--parts`, `--seeds`, `--seconds` and `--slice` say what is made. Rows of which there is no run in
the folder, as they were made on another machine, keep what the page has of them. Published figures
stand beside ours; what says "not run yet" is left. Counts and accuracies do not depend on the
machine; minutes do."""


def plan(name: str, seeds: int | None) -> Sequence[Task]:
    """The runs of a part."""
    part = PARTS[name]
    tasks: Sequence[Task] = part.plan(seeds or part.SEEDS)
    return tasks


def write_page(folder: Path, seeds: int | None, output: Path) -> None:
    """Writes all parts, whether they were asked for or not, and the figure of the sweep.

    What was not run here stays as it is on the page.
    """
    sections = [
        f"## {part.TITLE}\n\n{part.write(folder, seeds or part.SEEDS)}" for part in PARTS.values()
    ]
    page = "\n\n".join([HEAD, *sections]) + "\n"
    if output.exists():
        page = keep_earlier(page, output.read_text(encoding="utf-8"))
    output.write_text(page, encoding="utf-8")
    figure = output.parent / "figures" / spqn_sweep.FIGURE
    if spqn_sweep.has_begun(folder) or not figure.exists():
        spqn_sweep.draw(folder, figure)


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
        plans = {name: plan(name, asked.seeds) for name in asked.parts}
        for name, tasks in plans.items():
            print(f"{name}: {describe_duration(asked.folder, tasks)}", flush=True)
        tasks = [each for its in plans.values() for each in its]
        with StopSignals() as signals:
            failed = run_missing(asked.folder, tasks, signals, asked.seconds, asked.slice)
        write_page(asked.folder, asked.seeds, asked.output)
    except InputError as error:
        print(f"benchmarks.published: {error}", file=sys.stderr)
        return 2
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
