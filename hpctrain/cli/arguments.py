"""What several commands take alike."""

import argparse
from collections.abc import Callable
from typing import Any

FORMATS = ("text", "markdown", "csv")


def add_command(
    commands: Any, name: str, function: Callable[[argparse.Namespace], int], summary: str
) -> argparse.ArgumentParser:
    """Adds a command that a function does; the parser of its arguments."""
    description = f"{summary[0].upper()}{summary[1:]}."
    parser = commands.add_parser(name, help=summary, description=description, allow_abbrev=False)
    parser.set_defaults(command=function)
    return parser


def add_overrides(parser: argparse.ArgumentParser, example: str = "solver.blocks=4") -> None:
    """Adds `--set`."""
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help=f"a setting instead of the job's, such as {example}; may be repeated",
    )


def add_changed_code(parser: argparse.ArgumentParser) -> None:
    """Adds `--changed-code`."""
    parser.add_argument(
        "--changed-code",
        action="store_true",
        help="run Python files that the job names also where they have changed since",
    )
