"""The commands that show what runs have come to: `report`, `plot` and `predict`."""

import argparse
from typing import Any

from hpctrain.cli import speech
from hpctrain.cli.arguments import FORMATS, add_changed_code, add_command


def add_commands(commands: Any) -> None:
    """Adds them to the parser's commands."""
    report = add_command(commands, "report", _report, "print tables of finished or running runs")
    report.add_argument("runs", metavar="RUN.h5", nargs="+", help="run files")
    report.add_argument("--format", choices=FORMATS, default="text")

    plot = add_command(commands, "plot", _plot, "draw the convergence of runs")
    plot.add_argument("runs", metavar="RUN.h5", nargs="+", help="run files")
    plot.add_argument("-o", "--output", metavar="FIG.png", required=True, help="the figure")

    predict = add_command(commands, "predict", _predict, "evaluate a trained solution at points")
    predict.add_argument("run", metavar="RUN.h5", help="a finished run of equations")
    predict.add_argument("points", metavar="POINTS", help="a table, or t=0:1:101,x=-1:1:201,c=1")
    predict.add_argument("-o", "--output", metavar="OUT.csv", required=True, help="the table")
    predict.add_argument("--fields", metavar="u,u.x", help="by default all fields")
    predict.add_argument("--threads", metavar="T", type=int, help="by default all cores")
    add_changed_code(predict)


def _report(options: argparse.Namespace) -> int:
    from hpctrain.results import report as tables

    return speech.write(tables.report(options.runs, options.format) + "\n")


def _plot(options: argparse.Namespace) -> int:
    from hpctrain.results import figures

    figures.plot(options.runs, options.output)
    return 0


def _predict(options: argparse.Namespace) -> int:
    from hpctrain.parallel.threads import find_visible_cores
    from hpctrain.results import predict

    threads = options.threads or len(find_visible_cores())
    done = predict.predict(
        options.run,
        options.points,
        options.output,
        options.fields,
        threads,
        options.changed_code,
    )
    return speech.write(done + "\n")
