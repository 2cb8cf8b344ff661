"""The entry of `hpctrain` and of `python -m hpctrain`."""

import sys

from hpctrain import cli


def main() -> None:
    """Runs the command line and ends the process with its exit status."""
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
