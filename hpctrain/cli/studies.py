"""The commands that start runs and compare them: `compare` and `scaling`."""

import argparse
from collections.abc import Callable
from typing import Any

from hpctrain.cli import speech
from hpctrain.cli.arguments import FORMATS, add_command, add_overrides


def add_commands(commands: Any) -> None:
    """Adds them to the parser's commands."""
    compare = add_command(commands, "compare", _compare, "run jobs of one problem and compare them")
    compare.add_argument("jobs", metavar="JOB.toml", nargs="+", help="job files of one problem")
    compare.add_argument("--seeds", metavar="0,1,2", default="0,1,2", help="a run for each")
    compare.add_argument("-o", "--output", metavar="FIG.png", help="draw mean and range over seeds")
    compare.add_argument("--ranks", metavar="P", type=int, default=1, help="ranks of each run")
    compare.add_argument("--format", choices=FORMATS, default="text")
    compare.add_argument("--runs", metavar="DIR", help="run files, by default runs/compare-PROBLEM")
    add_overrides(compare)

    scaling = add_command(commands, "scaling", _scaling, "run a job on several rank counts")
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
    add_overrides(scaling)


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
        return speech.write(study())
    except UnfinishedError as error:
        speech.say(str(error))
        return error.status
    except BrokenPipeError:  # of the progress on standard error
        return speech.end_quietly()
