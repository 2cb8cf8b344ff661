"""Measures what an iteration costs beside its evaluations: python -m benchmarks.iteration [CASE…]

An evaluation goes from θ to the sums over this rank's samples. What is beside it, the method's own
work, messages, the record of the iteration and the decision whether to go on, each rank repeats: it
limits small problems, and how many ranks a large one can use. Problems are therefore small ones, or
have as few points as one of many ranks has. CPU seconds of rank 0, medians over the iterations, so
that looks at the error and checkpoints are left out.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from benchmarks.overhead import TimedLoss, time_sums
from benchmarks.runs import MPIRUN, write_settings
from hpctrain.job.settings import load_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.phases import PHASES
from hpctrain.run import assemble, loop
from hpctrain.run.train import Watching, run

WARM_UP = 5
FEW_POINTS = {"problem.points": 20, "stop.error": 1e-300}
# Each iteration is one like the others.
ALIKE = {"output.checkpoint_every": 0, "output.error_every": 10**6, "parallel.threads": 1}


@dataclass(frozen=True)
class Case:
    """Some iterations of a job in jobs/."""

    job: str
    settings: dict[str, Any]
    iterations: int
    ranks: int = 1

    def measure(self) -> dict[str, float]:
        """The seconds of an iteration on this rank by what they are spent on; collective."""
        from mpi4py import MPI

        limit = {"stop.max_iterations": self.iterations + WARM_UP}
        settings = write_settings({**ALIKE, **self.settings, **limit})
        job = load_job(f"jobs/{self.job}.toml", settings)
        ranks, seconds, marks = Communicator(MPI.COMM_WORLD), Counter[str](), list[Any]()
        time_shares(seconds)
        time_sums(seconds, ranks)

        decide = loop.judge

        def mark(*arguments: Any) -> Any:
            phases = ranks.timer.snapshot()[:, 1]
            marks.append([time.process_time(), seconds["evaluation"], *phases])
            return decide(*arguments)

        loop.judge = mark
        with tempfile.TemporaryDirectory() as folder:
            output = str(Path(ranks.broadcast(folder)) / "run.h5")
            run(job, ranks, output, watching=Watching(progress=False))
        spent = np.median(np.diff(np.array(marks), axis=0)[WARM_UP:], axis=0).tolist()
        return dict(zip(("iteration", "evaluation", *PHASES), spent, strict=True))


CASES = {
    "Broyden": Case("library/poisson-5d", {}, 150),
    "Broyden, few points": Case("burgers", {**FEW_POINTS, "parallel.chunks": 1}, 100),
    "Broyden, few points, 2 ranks": Case("burgers", {**FEW_POINTS, "parallel.chunks": 2}, 100, 2),
    "L-BFGS, few points": Case("burgers-lbfgs", {**FEW_POINTS, "parallel.chunks": 1}, 100),
    "Adam, few points": Case("burgers-adam", {**FEW_POINTS, "parallel.chunks": 1}, 100),
}


def time_shares(seconds: Counter[str]) -> None:
    """Adds the CPU seconds that shares of any problem's loss are spent in to "evaluation"."""
    make = assemble.make_problem

    def make_timed(*arguments: Any) -> Any:
        problem: Any = make(*arguments)
        share = problem.share
        problem.share = lambda *a, **k: TimedLoss(share(*a, **k), seconds)
        return problem

    assemble.make_problem = make_timed


def make_row(name: str, found: dict[str, float]) -> list[Any]:
    """A row of the table, in microseconds."""
    whole, evaluation, messages = (
        1e6 * found[each] for each in ("iteration", "evaluation", "communication")
    )
    method, files = 1e6 * (found["global"] + found["local"]) - evaluation, 1e6 * found["io"]
    rest = whole - evaluation - messages - method - files
    beside = whole - evaluation
    parts = [whole, evaluation, method, messages, files, rest, beside]
    return [name, *parts, 100 * beside / whole]


def main(names: Sequence[str]) -> None:
    rows = []
    for name in names or CASES:
        command = [MPIRUN, "-n", str(CASES[name].ranks), sys.executable, "-m", "mpi4py", "-m"]
        command += ["benchmarks.iteration", "--measure", name]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows.append(make_row(name, json.loads(output.splitlines()[-1])))
    headers = ["case", "us an iteration", "evaluation", "the method", "messages", "records"]
    print(tabulate(rows, [*headers, "rest", "beside evaluation", "%"], "github", ".0f"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        from mpi4py import MPI

        figures = CASES[sys.argv[2]].measure()
        if MPI.COMM_WORLD.rank == 0:
            print(json.dumps(figures), flush=True)
    else:
        main(sys.argv[1:])
