"""Makes the map, a while at a time: `make map`, or `python -m benchmarks.map`.

First it says how long the runs of each size take on one quiet core, roughly. Runs lie in a folder;
those that ended are used, those that were interrupted go on from their checkpoints. At the end, and
when it is stopped by a signal or the time, it writes the page and the figure; what is not there yet
is marked, and sizes of which no run is here stay on the page as they are. Short runs that time
iterations are best made again on a quiet machine: their files, with "ranks=" in their names, and
those of products are to be moved away for that.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.map import page
from benchmarks.map.measured import Products
from benchmarks.map.methods import GRADIENT, METHODS, count_parameters
from benchmarks.tasks import Task, describe_duration, run_missing
from hpctrain.errors import InputError
from hpctrain.run.signals import StopSignals

SEEDS = 3


def plan(width: int, seeds: int) -> list[Task]:
    """The runs of a size: what times it first, then all methods seed by seed."""
    short = [run for method in METHODS for run in method.list_runs(width, seeds=0)]
    counts = [method.plan_count(width, seed) for seed in range(seeds) for method in METHODS]
    return [Products(width), *short, *counts]


def estimate(folder: Path, widths: Sequence[int], seeds: int) -> str:
    """How long the runs take on one quiet core, and what is left of it, a line a size."""
    return "\n".join(
        f"n = {count_parameters(width):,} (width {width}):"
        f" {describe_duration(folder, plan(width, seeds))}"
        for width in widths
    )


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.map", description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", choices=GRADIENT, default=list(GRADIENT))
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds 0, 1, …")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for all of it")
    parser.add_argument("--slice", type=float, default=float("inf"), help="seconds of a run's turn")
    parser.add_argument("--folder", type=Path, default=Path("runs/map"))
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/map.md"))
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Makes what is asked for; the exit status."""
    asked = _parse(words)
    figure = asked.output.parent / "figures" / "map.png"
    try:
        print(estimate(asked.folder, asked.widths, asked.seeds), flush=True)
        tasks = [each for width in asked.widths for each in plan(width, asked.seeds)]
        with StopSignals() as signals:
            failed = run_missing(asked.folder, tasks, signals, asked.seconds, asked.slice)
        earlier = asked.output.read_text(encoding="utf-8") if asked.output.exists() else ""
        text = page.write_page(
            list(GRADIENT), asked.seeds, asked.folder, "figures/map.png", earlier
        )
        asked.output.write_text(text, encoding="utf-8")
        begun = [page.has_begun(width, asked.seeds, asked.folder) for width in GRADIENT]
        if all(begun) or not figure.exists():
            page.draw(asked.seeds, asked.folder, figure)
    except InputError as error:
        print(f"benchmarks.map: {error}", file=sys.stderr)
        return 2
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
