"""The entry of `hpctrain` and of `python -m hpctrain`."""

import sys

from hpctrain import cli


def main() -> None:
    """Runs the command line and ends the process with its exit status."""
    status = cli.main()
    if "hpctrain.parallel.launch" in sys.modules:  # a command that imported torch
        from hpctrain.parallel.launch import leave

        leave(status)
    sys.exit(status)


if __name__ == "__main__":
    main()
