"""The command line: parses, hands over to the part that does the work, returns the exit status.

Status 0: a stop criterion was met; 1: an error; 2: bad input; 75: stopped by a signal or a time
limit, to be resumed. A file here has the commands of one kind. The parts are imported when their
command runs, which keeps `--help` quick and MPI out of commands that need none.
"""

import argparse
import warnings
from collections.abc import Sequence
from typing import Any

from hpctrain.cli import completion, installation, results, speech, studies, training, watching
from hpctrain.errors import InputError
from hpctrain.run import streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the words after `hpctrain`; by default those of this process.

    Returns:
        the exit status.
    """
    streams.show_every_letter()
    options = make_parser().parse_args(arguments)
    warnings.showwarning = speech.warn
    # torch says so of what fails, or is refused as a lost derivative, a moment later.
    warnings.filterwarnings("ignore", "Converting a tensor with requires_grad=True to a scalar")
    try:
        return options.command(options)
    except InputError as error:
        return speech.refuse(error)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands, each with the function that does it as `command`."""
    parser = argparse.ArgumentParser(
        prog="hpctrain",
        description="Trains neural networks by domain decomposition and multilevel optimisation.",
        epilog="Under MPI: mpirun -n 8 hpctrain run JOB.toml, or srun hpctrain run JOB.toml.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for group in (training, watching, results, studies, installation):  # in the order of `--help`
        group.add_commands(commands)
    completion.add_commands(commands, parser)
    return parser


class _ShowVersion(argparse.Action):
    """Asks for the version only where it is wanted: the question takes time."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from hpctrain.store.version import find_version

        parser.exit(speech.write(f"hpctrain {find_version()}\n"))
