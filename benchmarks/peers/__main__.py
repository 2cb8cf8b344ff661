"""`python -m benchmarks.peers`: tells the time it takes, runs what is missing, writes the table
and the figure.

It can be interrupted at any time: runs that have ended are not made again. Programs run one after
the other, so the machine should have nothing else to do.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.peers.cases import CASES
from benchmarks.peers.figure import draw
from benchmarks.peers.programs import PROGRAMS
from benchmarks.peers.runs import Plan
from benchmarks.peers.table import write_table
from benchmarks.tasks import describe_duration, run_missing
from hpctrain.run.signals import StopSignals


def main() -> int:
    """Makes what is asked for; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=[*PROGRAMS])
    parser.add_argument("--problems", nargs="+", choices=CASES, default=[*CASES])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=300, help="of training, for each run")
    parser.add_argument("--threads", type=int, default=2, help="of each run, and its cores")
    parser.add_argument("--folder", type=Path, default=Path("runs/peers"))
    parser.add_argument("--table", action="store_true", help="table and figure alone, no run")
    options = parser.parse_args()
    plan = Plan(
        options.folder,
        options.programs,
        options.problems,
        options.seeds,
        options.seconds,
        options.threads,
    )
    failed: list[str] = []
    if not options.table:
        print(describe_duration(plan.folder, plan.tasks), file=sys.stderr, flush=True)
        with StopSignals() as signals:
            failed = run_missing(plan.folder, plan.tasks, signals)
    table = write_table(plan)
    plan.folder.mkdir(parents=True, exist_ok=True)
    (plan.folder / "table.md").write_text(table + "\n")
    draw(plan, plan.folder / "errors.png")
    print(table)
    return 1 if failed else 0


sys.exit(main())
