"""The SLURM cluster of four pretended nodes that `cluster.sh` starts, for tests in Python.

Needs root and Debian's slurm-wlm and munge.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRIPT = Path(__file__).parent / "cluster.sh"
TOOLS = ("slurmctld", "slurmd", "munged", "sbatch", "unshare")


def obstacle() -> str | None:
    """Why it cannot be started here, if so."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"SLURM: {', '.join(missing)} not installed"
    return None if os.geteuid() == 0 else "SLURM: only root can start the cluster"


class ClusterError(RuntimeError):
    """The cluster did not come up; the message is its log."""


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """The environment of SLURM's commands, with this Python's hpctrain on PATH.

    Args:
        folder: an empty one, for all that the cluster writes.

    Raises:
        ClusterError: it does not come up here.
    """
    environ = os.environ | {
        "HPCTRAIN_CLUSTER": str(folder / "all"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MPIR_CVAR_POLLS_BEFORE_YIELD": "1",
        "OMP_NUM_THREADS": "1",
    }
    # Its daemons keep what they inherit open: a pipe would never end.
    with open(folder / "log", "w+") as log:
        started = subprocess.run([SCRIPT, "up"], env=environ, stdout=log, stderr=log, timeout=120)
        log.seek(0)
        said = log.read()
    try:
        if started.returncode != 0:
            raise ClusterError(said)
        environ["SLURM_CONF"] = re.findall(r"SLURM_CONF=(\S+)", said)[0]
        yield environ
    finally:
        subprocess.run([SCRIPT, "down"], env=environ, timeout=120, check=True)
