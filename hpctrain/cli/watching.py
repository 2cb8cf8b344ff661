"""The command that follows a run while another process trains: `watch`."""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from hpctrain.cli import speech
from hpctrain.cli.arguments import add_command

CLEAR_LINE = "\r\033[K"


def add_commands(commands: Any) -> None:
    """Adds it to the parser's commands."""
    watch = add_command(commands, "watch", _watch, "follow a run that goes on elsewhere")
    watch.add_argument("run", metavar="RUN.h5", help="its run file")
    watch.add_argument("--once", action="store_true", help="one line, and end")
    watch.add_argument(
        "--every", metavar="SECONDS", type=_read_seconds, default=2.0, help="by default 2"
    )


def _read_seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not allowed: at least 0.1 seconds")
    return seconds


def _watch(options: argparse.Namespace) -> int:
    from hpctrain.results import watch

    if options.once:
        return speech.write(watch.look_at(Path(options.run)).describe() + "\n")
    try:
        end = watch.watch(Path(options.run), options.every, _show)
    except KeyboardInterrupt:
        return speech.write("\n")
    except BrokenPipeError:
        return speech.end_quietly()
    return speech.write(f"{chr(10) if sys.stdout.isatty() else ''}{end}\n")


def _show(line: str) -> None:
    """Replaces the last line of a terminal; in a log, one line after the other."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f"{CLEAR_LINE}{line[:width]}", end="", flush=True)
    else:
        print(line, flush=True)
