"""Measures the overhead of an APTS iteration: `python -m benchmarks.apts overhead`.

The overhead is the CPU time of a rank that is spent neither in evaluating the loss (from θ to the
sum over all samples), nor in collecting the samples of a mini-batch, nor in communication. It is
what the method itself costs: radii, quadratic models, their minimisation and their updates.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from typing import Any

from tabulate import tabulate

from benchmarks.runs import MPIRUN
from hpctrain.job.settings import load_job
from hpctrain.objective.division import Division
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.phases import PHASES
from hpctrain.run.assemble import (
    leave_threads_to_kernels,
    make_job_solver,
    make_objective,
    make_problem,
)
from hpctrain.run.memory import keep_freed_memory

JOBS = ("apts/data-10k", "apts/weights-10k")
MEMORIES = (5, 15)
RANKS = (1, 2)
WARM_UP, STEPS = 20, 30
EVALUATIONS = ("losses", "sum_losses", "sum_losses_and_gradients", "restrict")


class TimedLoss:
    """A share of a loss, with the seconds spent in it."""

    def __init__(self, loss: Any, seconds: Counter) -> None:
        self._loss, self._seconds = loss, seconds

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._loss, name)
        if name not in (*EVALUATIONS, "subset"):
            return attribute

        def timed(*arguments: Any) -> Any:
            start = time.process_time()
            result = attribute(*arguments)
            self._seconds["subset" if name == "subset" else "evaluation"] += (
                time.process_time() - start
            )
            made = name in ("restrict", "subset")
            return TimedLoss(result, self._seconds) if made else result

        return timed


def measure(name: str, memory: int) -> dict[str, float]:
    """Of this rank, a step: seconds in all, and where; sums over ranks; collective."""
    from mpi4py import MPI

    job = load_job(f"jobs/{name}.toml", [f"solver.memory={memory}"])
    leave_threads_to_kernels()
    keep_freed_memory()
    ranks, problem = Communicator(MPI.COMM_WORLD), make_problem(job)
    seconds = Counter[str]()
    share = problem.share
    problem.share = lambda *a, **k: TimedLoss(share(*a, **k), seconds)  # type: ignore[method-assign]
    objective = make_objective(problem, ranks, job.parallel.chunks, 1)
    time_sums(seconds, ranks)
    solver = make_job_solver(job, objective)
    state = solver.init(problem.make_initial_parameters(0))
    for _ in range(WARM_UP):
        state, _ = solver.step(state)
    seconds.clear()
    before, sent = communication(ranks), ranks.traffic.messages
    start = time.process_time()
    for _ in range(STEPS):
        state, _ = solver.step(state)
    total = time.process_time() - start
    return {
        "step": total / STEPS,
        "evaluation": seconds["evaluation"] / total,
        "mini-batch": seconds["subset"] / total,
        "communication": (communication(ranks) - before) / total,
        "messages": (ranks.traffic.messages - sent) / STEPS,
    }


def time_sums(seconds: Counter, ranks: Communicator) -> None:
    """Sums over chunks belong to evaluations, but for what of them is communication."""
    whole = Division.sum

    def timed(division: Division, leaves: Any) -> Any:
        start, sent = time.process_time(), communication(ranks)
        total = whole(division, leaves)
        spent = time.process_time() - start
        seconds["evaluation"] += spent - (communication(ranks) - sent)
        return total

    Division.sum = timed  # type: ignore[method-assign]


def communication(ranks: Communicator) -> float:
    return float(ranks.timer.snapshot()[PHASES.index("communication"), 1])


def overhead_rows() -> list[str]:
    """The labels of the table's rows, by the first three columns."""
    return [f"{job} | {ranks} | {memory}" for ranks in RANKS for job in JOBS for memory in MEMORIES]


def overhead() -> None:
    table = []
    for ranks in RANKS:
        for job in JOBS:
            for memory in MEMORIES:
                command = [MPIRUN, "-n", str(ranks), sys.executable, "-m", "mpi4py", "-m"]
                command += ["benchmarks.overhead", job, str(memory)]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found = json.loads(output.splitlines()[-1])
                shares = [found[name] for name in ("evaluation", "mini-batch", "communication")]
                rest = 1 - sum(shares)
                row = [job, ranks, memory, 1e3 * found["step"], *(100 * s for s in shares)]
                table.append([*row, 100 * rest, found["messages"]])
    headers = ["job", "ranks", "m", "ms a step", "evaluation %", "mini-batch %", "communication %"]
    headers += ["the method's %", "messages a rank and step"]
    print("\nWhere the time of a step goes, 1 thread a rank, rank 0\n")
    print(tabulate(table, headers=headers, floatfmt=".1f", tablefmt="github"), flush=True)


if __name__ == "__main__":
    from mpi4py import MPI

    figures = measure(sys.argv[1], int(sys.argv[2]))
    if MPI.COMM_WORLD.rank == 0:
        print(json.dumps(figures), flush=True)
