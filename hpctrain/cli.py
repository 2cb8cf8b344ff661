"""The command line: parses, hands over to the part that does the work, returns the exit status.

Status 0: a stop criterion was met; 1: an error; 2: bad input; 75: stopped by a signal or a time
limit, to be resumed. The parts are imported when their command runs, which keeps `--help` quick
and MPI out of commands that need none.
"""

import argparse
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from hpctrain.errors import BAD_INPUT, InputError, RunError, UserCodeError
from hpctrain.run import streams
from hpctrain.run.signals import StopSignals

FAILED = 1
FORMATS = ("text", "markdown", "csv")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the words after `hpctrain`; by default those of this process.

    Returns:
        the exit status.
    """
    streams.show_every_letter()
    options = _make_parser().parse_args(arguments)
    warnings.showwarning = _warn
    # torch says so of what fails, or is refused as a lost derivative, a moment later.
    warnings.filterwarnings("ignore", "Converting a tensor with requires_grad=True to a scalar")
    try:
        return options.command(options)
    except InputError as error:
        return _refuse(error)


def _run(options: argparse.Namespace) -> int:
    def train(communicator: Any, signals: StopSignals) -> Any:
        from hpctrain.job.settings import load_job
        from hpctrain.run import train as runner

        job = communicator.run_on_root(lambda: load_job(options.job, options.overrides))
        return runner.run(job, communicator, options.output or job.output.path, signals)

    return _train_on_all_ranks(train)


def _resume(options: argparse.Namespace) -> int:
    def go_on(communicator: Any, signals: StopSignals) -> Any:
        from hpctrain.run import train as runner

        return runner.resume(
            options.run, communicator, options.overrides, signals, options.changed_code
        )

    return _train_on_all_ranks(go_on)


def _train_on_all_ranks(train: Callable[[Any, StopSignals], Any]) -> int:
    """Runs what gives a run's outcome on the ranks of this job."""
    with StopSignals() as signals:  # one that comes while the parts are imported counts too
        from hpctrain.parallel import launch

        communicator = launch.start()  # from here on a rank that fails ends the whole job
        try:
            status = train(communicator, signals).status
        except (InputError, RunError) as error:  # raised by all ranks alike
            status = BAD_INPUT if isinstance(error, InputError) else FAILED
            _trace(error)
            if isinstance(error, UserCodeError) and communicator.size > 1:  # but this one
                launch.end_job(communicator, f"hpctrain: {error}\n", status)
            if communicator.is_root:
                _say(str(error))
        return launch.finish(communicator, status)


def _report(options: argparse.Namespace) -> int:
    from hpctrain.results import report as tables

    return _print(tables.report(options.runs, options.format) + "\n")


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
    return _print(done + "\n")


def _compare(options: argparse.Namespace) -> int:
    from hpctrain.study import compare

    study = compare.Study(
        options.jobs,
        compare.parse_seeds(options.seeds),
        options.overrides,
        options.ranks,
        options.runs,
    )
    return _print_study(lambda: compare.compare(study, options.format, options.output))


def _scaling(options: argparse.Namespace) -> int:
    from hpctrain.study import scaling

    study = scaling.ScalingStudy(
        job=options.job,
        ranks=scaling.parse_ranks(options.ranks),
        weak=options.weak,
        launcher=options.launcher,
        iterations=options.iterations,
        repeats=options.repeats,
        network=options.network,
        overrides=options.overrides,
        folder=options.runs,
    )
    return _print_study(lambda: scaling.scaling(study, options.format, options.output))


def _print_study(study: Callable[[], str]) -> int:
    """Makes a study and prints its tables; the status of one that could not be finished."""
    from hpctrain.study.starts import UnfinishedError

    try:
        return _print(study())
    except UnfinishedError as error:
        _say(str(error))
        return error.status
    except BrokenPipeError:  # of the progress on standard error
        return _end_quietly()


def _info(options: argparse.Namespace) -> int:
    from hpctrain.run import info

    return _print(info.describe_installation(options.probe_gpu) + "\n")


def _print(text: str) -> int:
    """What a command has to say; the status of one whose reader, or whose disk, takes no more."""
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        return _end_quietly()
    except OSError as error:
        streams.drop_unwritten(sys.stdout)
        _say(f"standard output cannot be written: {error.strerror}")
        return FAILED
    return 0


def _end_quietly() -> int:
    """Ends quietly, as other commands do: `hpctrain report RUN.h5 | head`."""
    for stream in (sys.stdout, sys.stderr):
        streams.drop_unwritten(stream)
    return streams.CLOSED_PIPE


def _refuse(error: InputError) -> int:
    _trace(error)
    _say(str(error))
    return BAD_INPUT


def _trace(error: Exception) -> None:
    """With HPCTRAIN_DEBUG=1 the calls that led to an error which was made one line of."""
    if error.__cause__ is None:
        return
    from hpctrain.parallel.guard import is_wanted

    if is_wanted():
        traceback.print_exception(error.__cause__)


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as one line, in place of Python's two with the place in the source."""
    _say(f"warning: {' '.join(str(message).split())}")


def _say(line: str) -> None:
    try:
        print(f"hpctrain: {line}", file=sys.stderr, flush=True)
    except OSError:  # nobody reads on
        streams.drop_unwritten(sys.stderr)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hpctrain",
        description="Trains neural networks by domain decomposition and multilevel optimisation.",
        epilog="Under MPI: mpirun -n 8 hpctrain run JOB.toml, or srun hpctrain run JOB.toml.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = _add_command(commands, "run", _run, "train as a job file says, alone or as ranks of MPI")
    run.add_argument("job", metavar="JOB.toml", help="the job file")
    run.add_argument("-o", "--output", metavar="RUN.h5", help="the run file, instead of the job's")
    _add_overrides(run)

    resume = _add_command(commands, "resume", _resume, "go on with a run, on any number of ranks")
    resume.add_argument("run", metavar="RUN.h5", help="its run file; RUN.ckpt lies beside it")
    _add_overrides(resume, "stop.max_iterations=2000")
    _add_changed_code(resume)

    report = _add_command(commands, "report", _report, "print tables of finished or running runs")
    report.add_argument("runs", metavar="RUN.h5", nargs="+", help="run files")
    report.add_argument("--format", choices=FORMATS, default="text")

    plot = _add_command(commands, "plot", _plot, "draw the convergence of runs")
    plot.add_argument("runs", metavar="RUN.h5", nargs="+", help="run files")
    plot.add_argument("-o", "--output", metavar="FIG.png", required=True, help="the figure")

    predict = _add_command(commands, "predict", _predict, "evaluate a trained solution at points")
    predict.add_argument("run", metavar="RUN.h5", help="a finished run of equations")
    predict.add_argument("points", metavar="POINTS", help="a table, or t=0:1:101,x=-1:1:201,c=1")
    predict.add_argument("-o", "--output", metavar="OUT.csv", required=True, help="the table")
    predict.add_argument("--fields", metavar="u,u.x", help="by default all fields")
    predict.add_argument("--threads", metavar="T", type=int, help="by default all cores")
    _add_changed_code(predict)

    compare = _add_command(
        commands, "compare", _compare, "run jobs of one problem and compare them"
    )
    compare.add_argument("jobs", metavar="JOB.toml", nargs="+", help="job files of one problem")
    compare.add_argument("--seeds", metavar="0,1,2", default="0,1,2", help="a run for each")
    compare.add_argument("-o", "--output", metavar="FIG.png", help="draw mean and range over seeds")
    compare.add_argument("--ranks", metavar="P", type=int, default=1, help="ranks of each run")
    compare.add_argument("--format", choices=FORMATS, default="text")
    compare.add_argument("--runs", metavar="DIR", help="run files, by default runs/compare-PROBLEM")
    _add_overrides(compare)

    scaling = _add_command(commands, "scaling", _scaling, "run a job on several rank counts")
    scaling.add_argument("job", metavar="JOB.toml", help="the job file")
    scaling.add_argument("--ranks", metavar="1,2,4", default="1,2,4", help="the rank counts")
    scaling.add_argument(
        "--weak", action="store_true", help="P times the samples on P ranks, not the same job"
    )
    scaling.add_argument("--launcher", choices=("mpirun", "slurm"), default="mpirun")
    scaling.add_argument(
        "--iterations", metavar="K", type=int, help="to be timed; by default to the job's end"
    )
    scaling.add_argument("--repeats", metavar="R", type=int, default=5, help="runs of each")
    scaling.add_argument(
        "--network", metavar="NAME", help="project for this one, such as infiniband-hdr"
    )
    scaling.add_argument("-o", "--output", metavar="OUT.h5", help="the table; figure beside it")
    scaling.add_argument("--format", choices=FORMATS, default="text")
    scaling.add_argument("--runs", metavar="DIR", help="run files, by default runs/scaling-…")
    _add_overrides(scaling)

    info = _add_command(commands, "info", _info, "print versions, MPI, threads, device and kernels")
    info.add_argument(
        "--probe-gpu", action="store_true", help="try MPI with GPU buffers, in a job of its own"
    )
    return parser


def _add_overrides(parser: argparse.ArgumentParser, example: str = "solver.blocks=4") -> None:
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help=f"a setting instead of the job's, such as {example}; may be repeated",
    )


def _add_changed_code(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--changed-code",
        action="store_true",
        help="run Python files that the job names also where they have changed since",
    )


def _add_command(
    commands: Any, name: str, function: Callable[[argparse.Namespace], int], summary: str
) -> argparse.ArgumentParser:
    description = f"{summary[0].upper()}{summary[1:]}."
    parser = commands.add_parser(name, help=summary, description=description, allow_abbrev=False)
    parser.set_defaults(command=function)
    return parser
