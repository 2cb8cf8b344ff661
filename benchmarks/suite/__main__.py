"""`python -m benchmarks.suite`: tells the time it takes, runs what is missing, writes the table.

It can be interrupted at any time: runs that have ended are not made again. Runs follow each other,
so the machine should have nothing else to do.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.suite.plan import Plan, make_case
from benchmarks.suite.results import collect
from benchmarks.suite.rows import read_rows
from benchmarks.suite.table import write_tables
from benchmarks.tasks import describe_duration, run_missing
from hpctrain.run.signals import StopSignals


def main() -> int:
    """Makes what is asked for; the exit status."""
    rows = {row.name: row for row in read_rows()}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=rows, metavar="ROW", default=[*rows])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--seconds",
        nargs="+",
        type=float,
        default=[60, 300],
        help="of each run at most: rows that are lost in the first run again for the second, …",
    )
    parser.add_argument("--ranks", type=int, default=2, help="of each run, a core each")
    parser.add_argument("--folder", type=Path, default=Path("runs/suite"))
    parser.add_argument("--list", action="store_true", help="the names of the rows, and no run")
    parser.add_argument("--table", action="store_true", help="the table of what is there, no run")
    options = parser.parse_args()
    if options.list:
        print("\n".join(options.rows))
        return 0
    cases = [make_case(rows[name]) for name in options.rows]
    folder, failed = options.folder, list[str]()
    plans = [
        Plan(folder, options.seeds, seconds, options.ranks) for seconds in sorted(options.seconds)
    ]
    if not options.table:
        with StopSignals() as signals:
            left = cases
            for plan in plans:
                if signals.received:
                    break
                tasks = plan.list_tasks(left)
                print(
                    f"{plan.seconds:g} s each: {describe_duration(folder, tasks)}", file=sys.stderr
                )
                failed += run_missing(folder, tasks, signals)
                left = [each.case for each in collect([plan], left) if each.is_lost]
    tables = write_tables(plans, cases)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(tables + "\n", encoding="utf-8")
    print(tables)
    return 1 if failed else 0


sys.exit(main())
