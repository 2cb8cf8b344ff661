"""hpctrain, as a job file starts it; its history says when which error was reached.

`--variant` is the job's `solver`. The start is that of the job and the seed, which the other
programs are given as arrays.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.peers.cases import CASES
from hpctrain.store.run_file import read_run


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("start", help="PROBLEM-SEED.npz")
    parser.add_argument("result", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--error", type=float, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--variant", required=True)
    options = parser.parse_args()
    problem, _, seed = Path(options.start).stem.rpartition("-")
    settings = [
        f"seed={seed}",
        f"solver={options.variant}",
        f"parallel.threads={options.threads}",
        "output.error_every=5",
        f"stop.max_seconds={options.seconds}",
        "stop.max_iterations=1000000000",
        f"stop.error={options.error}",
    ]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run.h5"
        words = [word for setting in settings for word in ("--set", setting)]
        command = [sys.executable, "-m", "hpctrain", "run", CASES[problem].job, "-o", str(output)]
        # Its status is not 0 where time is up.
        subprocess.run([*command, *words], check=False)
        run = read_run(output)
    known = np.isfinite(run.history["error"])
    content = {
        "reason": run.stop_reason,
        "versions": {name: version(name) for name in ("hpctrain", "torch")},
        "seconds": run.history["seconds"][known].tolist(),
        "errors": run.history["error"][known].tolist(),
        "iterations": run.history["iteration"][known].tolist(),
    }
    temporary = options.result.with_suffix(".tmp")
    temporary.write_text(json.dumps(content))
    temporary.replace(options.result)


main()
