"""Prints what the package and some of its extras need: requirements.py [EXTRA,…]"""

import sys
import tomllib
from pathlib import Path


def main(extras: list[str]) -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    offered = project["optional-dependencies"]
    print(*project["dependencies"], *(each for name in extras for each in offered[name]), sep="\n")


if __name__ == "__main__":
    main([name for word in sys.argv[1:] for name in word.split(",")])
