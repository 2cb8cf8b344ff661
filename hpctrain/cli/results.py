"""The commands that show what runs have come to: `report`, `plot` and `predict`."""

import argparse
from typing import Any

from hpctrain.cli import speech
from hpctrain.cli.arguments import FORMATS, add_changed_code, add_command
from hpctrain.cli.ranks import run_on_ranks, set_kernel_threads


def add_commands(commands: Any) -> None:
    """Adds them to the parser's commands."""
    report = add_command(commands, "report", _report, "print tables of finished or running runs")
    report.add_argument("runs", metavar="RUN.h5", nargs="+", help="run files")
    report.add_argument("--format", choices=FORMATS, default="text")
    report.add_argument("--html", metavar="OUT.html", help="write one page with figures instead")

    plot = add_command(commands, "plot", _plot, "draw the convergence of runs, or a run's fields")
    plot.add_argument("runs", metavar="RUN.h5", nargs="+", help="run files")
    plot.add_argument("-o", "--output", metavar="FIG.png", required=True, help="the figure")
    plot.add_argument("--fields", metavar="u,u.x", help="draw a run's fields, errors, residuals, …")
    plot.add_argument("--at", metavar="z=0.5", help="coordinates of the fields that do not vary")
    plot.add_argument("--width", choices=("single", "double"), help="a journal's column, or two")
    add_changed_code(plot)

    predict = add_command(commands, "predict", _predict, "evaluate a trained solution at points")
    predict.add_argument("run", metavar="RUN.h5", help="a finished run")
    predict.add_argument(
        "points", metavar="POINTS", help="a table, a mesh, or t=0:1:101,x=-1:1:201,c=1; samples"
    )
    predict.add_argument(
        "-o",
        "--output",
        metavar="OUT.csv",
        required=True,
        help="csv, npy, npz, h5, vtu, vts or xdmf",
    )
    predict.add_argument("--fields", metavar="u,u.x", help="by default all fields")
    predict.add_argument("--at", metavar="t=0.5", help="coordinates that the points lack")
    predict.add_argument("--threads", metavar="T", type=int, help="by default all cores")
    add_changed_code(predict)

    export = add_command(commands, "export", _export, "write a trained network for other programs")
    export.add_argument("run", metavar="RUN.h5", help="a finished run")
    export.add_argument(
        "-o",
        "--output",
        metavar="MODEL.onnx",
        required=True,
        help="model.pt2, model.pt or model.onnx",
    )
    add_changed_code(export)


def _report(options: argparse.Namespace) -> int:
    if options.html is not None:
        from hpctrain.results import page

        return speech.write(page.write_page(options.runs, options.html) + "\n")
    from hpctrain.results import report as tables

    return speech.write(tables.report(options.runs, options.format) + "\n")


def _plot(options: argparse.Namespace) -> int:
    from hpctrain.errors import InputError
    from hpctrain.parallel.threads import find_visible_cores
    from hpctrain.results import figures

    if options.fields is None:
        if options.at is not None:
            raise InputError(f"--at {options.at} is not allowed without --fields")
        figures.plot(options.runs, options.output, options.width)
        return 0
    if len(options.runs) > 1:
        raise InputError(f"--fields {options.fields} takes one run, not {len(options.runs)}")
    figures.plot_fields(
        options.runs[0],
        options.output,
        options.fields,
        options.at,
        options.width,
        len(find_visible_cores()),
        options.changed_code,
    )
    return 0


def _predict(options: argparse.Namespace) -> int:
    def predict_on(communicator: Any) -> int:
        from hpctrain.results import predict

        done = predict.predict(
            options.run,
            options.points,
            options.output,
            options.fields,
            set_kernel_threads(communicator, options.threads),
            options.changed_code,
            options.at,
            communicator,
        )
        return speech.write(done + "\n") if communicator.is_root else 0

    return run_on_ranks(predict_on)


def _export(options: argparse.Namespace) -> int:
    from hpctrain.results import export

    done = export.export(options.run, options.output, options.changed_code)
    return speech.write(done + "\n")
