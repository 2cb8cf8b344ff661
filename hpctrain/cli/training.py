"""The commands that train: `run` and `resume`."""

import argparse
from collections.abc import Callable
from typing import Any

from hpctrain.cli.arguments import add_changed_code, add_command, add_overrides
from hpctrain.cli.ranks import run_on_ranks
from hpctrain.run.signals import StopSignals


def add_commands(commands: Any) -> None:
    """Adds them to the parser's commands."""
    run = add_command(commands, "run", _run, "train as a job file says, alone or as ranks of MPI")
    run.add_argument("job", metavar="JOB.toml", help="the job file")
    run.add_argument("-o", "--output", metavar="RUN.h5", help="the run file, instead of the job's")
    add_overrides(run)

    resume = add_command(commands, "resume", _resume, "go on with a run, on any number of ranks")
    resume.add_argument("run", metavar="RUN.h5", help="its run file; RUN.ckpt lies beside it")
    add_overrides(resume, "stop.max_iterations=2000")
    add_changed_code(resume)


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
        return run_on_ranks(lambda communicator: train(communicator, signals).status)
