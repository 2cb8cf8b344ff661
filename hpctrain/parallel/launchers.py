"""Finds the `mpirun` of the MPI library that this Python uses."""

import os
import shutil
import sys
from pathlib import Path


def find_mpirun() -> str | None:
    """Finds the mpirun beside this Python, else the one on the path; None without either."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return shutil.which("mpirun", path=os.pathsep.join(places))
