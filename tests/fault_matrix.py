"""What a fault of one rank does, as a table: python tests/fault_matrix.py [LAUNCHER…]

Each cell is one run of three ranks in which a random one fails, at a random entry of a phase. It is
green if the run ends within five seconds, with a status that is not 0, with the reason said once
(by the rank, or where it is gone at once by the launcher), and leaves a run file that can be read.
LAUNCHER is what starts three ranks, by default this environment's mpirun.
"""

import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

from hpctrain.phases import PHASES
from hpctrain.store.run_file import RunFileError, read_run

RANKS = 3
FAULTS = ("exception", "sys-exit", "nan", "os-exit", "kill", "abort")
LONGEST = 5.0
FAULTY = Path(__file__).parent / "mpi" / "faulty_run.py"
MPIRUN = (str(Path(sys.executable).parent / "mpirun"), "-n", str(RANKS))
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


def cell(launcher: tuple[str, ...], fault: str, phase: str, seed: int) -> tuple[bool, str]:
    """Whether a run with this fault ended as it should, and how it ended."""
    choice = random.Random(f"{fault} {phase} {seed}")
    often, before = ENTRIES.get(phase, (1, 2))
    rank, count = choice.randrange(RANKS), before + often * choice.randint(1, 10)
    with tempfile.TemporaryDirectory() as folder:
        job, output = Path(folder) / "job.toml", Path(folder) / "run.h5"
        job.write_text(JOB)
        words = [fault, str(rank), phase, str(count), "run", str(job), "-o", str(output)]
        try:
            ended = subprocess.run(
                [*launcher, sys.executable, str(FAULTY), *words],
                capture_output=True,
                text=True,
                timeout=60,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
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
    return not faults, f"{', '.join(faults) or 'ok'} {seconds:.1f} s ({ended.returncode})"


def judged(ended: subprocess.CompletedProcess[str], fault: str) -> list[str]:
    """What is wrong with how a run ended."""
    faults = [] if ended.returncode else ["status 0"]
    said = len(re.findall(REASONS.get(fault, LAUNCHERS_REASON), ended.stderr + ended.stdout))
    told_by_status = fault == "os-exit" and ended.returncode == OS_EXIT
    if (said == 0 and not told_by_status) or (fault in REASONS and said > 1):
        faults.append(f"said {said} times")
    return faults


def main(launcher: tuple[str, ...]) -> int:
    rows, good = [], True
    for fault in FAULTS:
        cells = [cell(launcher, fault, phase, seed=0) for phase in PHASES]
        good = good and all(is_good for is_good, _ in cells)
        rows.append([fault, *(text for _, text in cells)])
        print(".", end="", file=sys.stderr, flush=True)
    print(f"\n{' '.join(launcher)}: how runs end, seconds after the fault (exit status)")
    print(tabulate(rows, headers=["fault", *PHASES]))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:]) or MPIRUN))
