"""The command that writes what completes words in a shell, by shtab: `completion`."""

import argparse
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from hpctrain.cli import speech
from hpctrain.cli.arguments import add_command
from hpctrain.errors import InputError

SHELLS = ("bash", "zsh")
# Words of `--help` for arguments that are files or folders.
FILES = re.compile(r".*\.\w+|DIR|POINTS")


def add_commands(commands: Any, parser: argparse.ArgumentParser) -> None:
    """Adds it to the parser's commands; it completes all that the parser has by then."""
    completion = add_command(
        commands, "completion", partial(_complete, parser), "write a script that completes words"
    )
    completion.add_argument("shell", choices=SHELLS)


def _complete(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    try:
        import shtab
    except ModuleNotFoundError as error:
        line = "completion needs shtab: pip install 'hpctrain[completion]'"
        raise InputError(line) from error
    for action in _list_actions(parser):
        if isinstance(action.metavar, str) and FILES.fullmatch(action.metavar):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return speech.write(shtab.complete(parser, shell=options.shell) + "\n")


def _list_actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _list_actions(inner)
