"""What a fault of one rank does, as tables: python tests/fault_matrix.py [LAUNCHER…]

Each cell is one run of three ranks in which a random one fails, at a random entry of a phase. It is
green if the run ends within five seconds, with a status that is not 0, with the reason said once
(by the rank, or where it is gone at once by the launcher), and leaves a run file that can be read.
LAUNCHER is mpirun, that of this environment, or srun, on a SLURM cluster that is started for it; by
default both, the second where SLURM is installed and this is root; it speaks MPICH's pmi2.
"""

import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from processes import cleared_shared_memory
from tabulate import tabulate

from hpctrain.parallel.phases import PHASES
from hpctrain.store.run_file import RunFileError, read_run

sys.path.append(str(Path(__file__).parents[1] / "slurm"))
import throw_away

RANKS = 3
FAULTS = ("exception", "sys-exit", "nan", "os-exit", "kill", "abort")
LONGEST = 5.0
FAULTY = Path(__file__).parent / "mpi" / "faulty_run.py"
WORDS = {
    "mpirun": (str(Path(sys.executable).parent / "mpirun"), "-n", str(RANKS)),
    # Two nodes, as each pretends to have two cores.
    "srun": ("srun", "-K1", "--nodes=2", f"--ntasks={RANKS}"),
}
Environment = Mapping[str, str]
JOB = """
[problem]
name = "klein-gordon"
points = 200
[network]
depth = 4
width = 8
[solver]
name = "aspqn"
blocks = 4
local_steps = 2
[parallel]
threads = 1
[output]
checkpoint_every = 1
error_every = 1
[stop]
max_iterations = 100000
"""
# What a rank says of its fault, once; of a rank that is gone at once its launcher tells.
REASONS = {
    "exception": "ArithmeticError: a fault of rank",
    "sys-exit": "left before the end of the run",
    "nan": "became NaN or infinite",
}
# MPICH's mpirun says nothing where a rank leaves by itself, and ends with that rank's status.
OS_EXIT = 4
LAUNCHERS_REASON = "BAD TERMINATION|prterun (noticed|detected|has exited)|srun: error: .*task"
# Entries of a phase in one iteration, and before the first one, about.
ENTRIES = {"communication": (20, 40)}


def cell(launcher: str, environ: Environment, fault: str, phase: str) -> tuple[bool, str]:
    """Whether a run with this fault ended as it should, and how it ended."""
    choice = random.Random(f"{fault} {phase} 0")
    often, before = ENTRIES.get(phase, (1, 2))
    rank, count = choice.randrange(RANKS), before + often * choice.randint(1, 10)
    with tempfile.TemporaryDirectory() as folder:
        job, output = Path(folder) / "job.toml", Path(folder) / "run.h5"
        job.write_text(JOB)
        words = [fault, str(rank), phase, str(count), "run", str(job), "-o", str(output)]
        try:
            ended = subprocess.run(
                [*WORDS[launcher], sys.executable, str(FAULTY), *words],
                capture_output=True,
                text=True,
                timeout=60,
                env={**environ, "OMP_NUM_THREADS": "1"},
            )
        except subprocess.TimeoutExpired:
            return False, "hangs"
        finished, faults = time.time(), judged(ended, fault)
        failed = re.findall(r"fails at ([\d.]+)", ended.stdout)
        seconds = finished - float(failed[0]) - 0.5 if failed else 0.0
        if not failed:
            faults.append("no fault")
        if seconds > LONGEST:
            faults.append("late")
        try:
            read_run(output)
        except RunFileError:
            faults.append("no run file")
    if faults:
        print(f"\n{fault} in {phase}:\n{ended.stdout}{ended.stderr}", file=sys.stderr, flush=True)
    return not faults, f"{', '.join(faults) or 'ok'} {seconds:.1f} s ({ended.returncode})"


def judged(ended: subprocess.CompletedProcess[str], fault: str) -> list[str]:
    """What is wrong with how a run ended."""
    faults = [] if ended.returncode else ["status 0"]
    said = len(re.findall(REASONS.get(fault, LAUNCHERS_REASON), ended.stderr + ended.stdout))
    told_by_status = fault == "os-exit" and ended.returncode == OS_EXIT
    if (said == 0 and not told_by_status) or (fault in REASONS and said > 1):
        faults.append(f"said {said} times")
    return faults


def matrix(launcher: str, environ: Environment) -> bool:
    """Prints the table of a launcher; whether all of it is green."""
    rows, good = [], True
    for fault in FAULTS:
        cells = [cell(launcher, environ, fault, phase) for phase in PHASES]
        good = good and all(is_good for is_good, _ in cells)
        rows.append([fault, *(text for _, text in cells)])
        print(".", end="", file=sys.stderr, flush=True)
    print(f"\n{' '.join(WORDS[launcher])}: how runs end, seconds after the fault (exit status)")
    print(tabulate(rows, headers=["fault", *PHASES]), flush=True)
    return good


def main(launchers: list[str]) -> int:
    obstacle = throw_away.obstacle()
    if not launchers and obstacle:
        print(f"srun is left out: {obstacle}")
    good = True
    for launcher in launchers or (["mpirun"] if obstacle else ["mpirun", "srun"]):
        if launcher == "mpirun":
            good = matrix(launcher, os.environ) and good
            continue
        with (
            tempfile.TemporaryDirectory() as folder,
            throw_away.cluster(Path(folder)) as environ,
        ):
            good = matrix(launcher, environ) and good
    return 0 if good else 1


if __name__ == "__main__":
    with cleared_shared_memory():
        status = main(sys.argv[1:])
    sys.exit(status)
