"""The command that tells what there is to run with: `info`."""

import argparse
from typing import Any

from hpctrain.cli import speech
from hpctrain.cli.arguments import add_command


def add_commands(commands: Any) -> None:
    """Adds it to the parser's commands."""
    info = add_command(commands, "info", _info, "print versions, MPI, threads, device and kernels")
    info.add_argument(
        "--probe-gpu", action="store_true", help="try MPI with GPU buffers, in a job of its own"
    )


def _info(options: argparse.Namespace) -> int:
    from hpctrain.run import info

    return speech.write(info.describe_installation(options.probe_gpu) + "\n")
