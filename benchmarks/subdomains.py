"""Networks of subdomains beside one: `python -m benchmarks.subdomains`.

All solve Laplace's equation around four holes on one rank, to an error of `TARGET`. Seconds are CPU
seconds of training, without evaluations of the error, so that a busy machine changes them little. A
run ends at the error, after `--seconds`, or where its solver finds no decrease.

The seconds on P ranks of one core each are projected:

    one domain     T(P) = C / P + messages,
    subdomains     T(P) = D / P + (C - D) + messages,

C all CPU seconds, D those in sums over samples. All of the work of one domain is taken as divided,
which no method reaches, so that its T(P) is a lower bound. Messages: a sum of n + 1 numbers for a
gradient; for a matrix n²/2 numbers, or those of all cells; ⌈log₂ P⌉ messages each
(`hpctrain.study.projection`). Runs are kept in runs/subdomains; the table is printed, what is
slowest first.
"""

import argparse
import json
import time
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.tables import write_markdown
from hpctrain.problems.equations.cell_rows import CellRows
from hpctrain.run.pieces import make_objective, make_problem, make_solver
from hpctrain.study.projection import NETWORKS

JOB, TARGET = "jobs/library/laplace-holes.toml", 1e-4
FOLDER = Path("runs/subdomains")
SEEDS = (0, 1, 2)
BYTES = 8
# Sums over samples, all of a rank's share.
SUMS = ("sum_losses", "sum_losses_and_gradients", "evaluate_residuals", "pull_back")
MATRICES = ("add_gauss_newton", "evaluate_cell_rows")


# A linear problem in what is trained: one step.
LINEAR = {"damping": 1e-12, "least_damping": 1e-30, "corrections": 0}


@dataclass(frozen=True)
class Case:
    """A network with its solvers.

    Attributes:
        stages: names of solvers, with the iterations of each and its settings.
    """

    label: str
    settings: dict[str, Any]
    stages: tuple[tuple[str, int, dict[str, Any]], ...]

    @classmethod
    def of_features(
        cls, label: str, frequencies: int, scale: float, subdomains: dict[str, int]
    ) -> "Case":
        """A sum of random features, in each subdomain or in the whole domain."""
        settings = {
            "network": {
                "kind": "mlp",
                "depth": 1,
                "fourier": frequencies,
                "fourier_scale": scale,
                "subdomains": subdomains,
            }
        }
        return cls(label, settings, (("gauss-newton", 2, LINEAR),))


BROYDEN, GAUSS_NEWTON = ("ssbroyden", 100_000, {}), ("gauss-newton", 100_000, {})
# Frequencies and their scale in subdomains were chosen with the seeds 5 and 6.
CASES = (
    Case.of_features("features, 7 x 7 subdomains", 50, 3.0, {"x": 7, "y": 7}),
    Case.of_features("features, one domain, fewer", 980, 20.0, {}),
    Case.of_features("features, one domain, as many", 2522, 20.0, {}),
    Case("the job's network, Broyden", {}, (BROYDEN,)),
    Case("the job's network, Broyden, Gauss-Newton", {}, (("ssbroyden", 200, {}), GAUSS_NEWTON)),
    Case("a network as large, Gauss-Newton", {"network.width": 48}, (GAUSS_NEWTON,)),
)


def rows(_words: list[str]) -> list[str]:
    """The labels of the table's rows."""
    return [case.label for case in CASES]


@dataclass
class Timed:
    """What a run took until it came to the error, or until it ended.

    Attributes:
        error: the last one.
        seconds: C. divided: D. gradients, matrices: how many sums there were of each.
        numbers: that a matrix has to sum.
    """

    label: str
    seed: int
    parameters: int
    subdomains: int
    error: float
    iterations: int
    seconds: float
    divided: float
    gradients: int
    matrices: int
    numbers: int

    @property
    def has_come(self) -> bool:
        return self.error <= TARGET

    def project(self, ranks: int, network: str) -> float:
        """T(P)."""
        depth = (ranks - 1).bit_length()
        numbers = self.gradients * (self.parameters + 1) + self.matrices * self.numbers
        messages = depth * (self.gradients + self.matrices)
        sent = NETWORKS[network].predict_seconds(messages, BYTES * depth * numbers)
        own = self.divided if self.subdomains > 1 else self.seconds
        return own / ranks + (self.seconds - own) + sent


class Watch:
    """CPU seconds and calls of some methods of an object."""

    def __init__(self, watched: Any, names: tuple[str, ...]) -> None:
        self.seconds, self.calls, self._depth = 0.0, 0, 0
        self._watched, self._before = watched, {name: getattr(watched, name) for name in names}
        for name, method in self._before.items():
            setattr(watched, name, self._wrap(method))

    def leave(self) -> None:
        """Has the methods be what they were."""
        for name, method in self._before.items():
            setattr(self._watched, name, method)

    def _wrap(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            began = time.process_time()
            self._depth += 1
            try:
                return method(*arguments)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.process_time() - began
                    self.calls += 1

        return call


def train(case: Case, seed: int, limit: float) -> Timed:
    """One run, to the error or for so many CPU seconds."""
    job = tomllib.loads(Path(JOB).read_text())
    job["network"] = case.settings.get("network", job["network"])
    others = {key: value for key, value in case.settings.items() if key != "network"}
    problem = make_problem(job, set={**others, "seed": seed})
    objective = make_objective(problem, threads=1)
    monitor = problem.make_monitor(objective.communicator, objective.chunks, 1)
    sums, matrices = Watch(objective.share, SUMS), Watch(objective.share, MATRICES)
    grams = Watch(CellRows, ("sum_grams",))
    theta, seconds, iterations = problem.make_initial_parameters(seed), 0.0, 0
    error = float("inf")
    for name, count, options in case.stages:
        solver, state = make_solver(objective, name, seed=seed, **options), None
        every, is_over, own = 10 if name == "ssbroyden" else 1, False, 0
        while error > TARGET and seconds < limit and own < count and not is_over:
            began = time.process_time()
            if state is None:
                state = solver.init(theta)
            state, record = solver.step(state)
            seconds += time.process_time() - began
            own += 1
            is_over = record.outcome is not None and record.outcome.is_final
            if own % every == 0 or is_over:
                error = monitor.measure(state.point.theta)["error"]
        theta = theta if state is None else state.point.theta
        iterations += own
    grams.leave()
    error = monitor.measure(theta)["error"]
    coupling, n = objective.coupling, objective.parameters
    numbers = n * (n + 1) // 2
    if coupling is not None:
        numbers = coupling.numbers
    return Timed(
        case.label,
        seed,
        n,
        1 if coupling is None else len(coupling.pieces),
        error,
        iterations,
        seconds,
        sums.seconds + matrices.seconds + grams.seconds,
        sums.calls,
        matrices.calls,
        numbers,
    )


def keep(case: Case, seed: int, limit: float) -> Timed:
    """The run, made if it is not there."""
    words = f"{case.label}-{seed}-{limit:g}".replace(",", "").replace("'", "").replace(" ", "-")
    path = FOLDER / f"{words}.json"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(train(case, seed, limit))))
    return Timed(**json.loads(path.read_text()))


def make_row(case: Case, runs: list[Timed], ranks: int) -> dict[str, str]:
    """A row of the table: medians over the seeds, and all of them of the seconds."""
    reached = all(run.has_come for run in runs)
    row = {
        "network": case.label,
        "n": f"{runs[0].parameters:,}",
        "iterations": f"{median(run.iterations for run in runs):.0f}",
        "error": " ".join(f"{run.error:.1e}" for run in runs),
        "s, P = 1": " ".join(f"{run.seconds:.2f}" for run in runs),
    }
    for name in ("ethernet-10g", "infiniband-hdr"):
        projected = f"{median(run.project(ranks, name) for run in runs):.2g}"
        row[f"s, P = {ranks}, {name}"] = projected if reached else f"> {projected}"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.subdomains")
    parser.add_argument("--seconds", type=float, default=15.0, help="CPU seconds of a run, at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--ranks", type=int, default=49)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for case in CASES:
        found[case.label] = [keep(case, seed, arguments.seconds) for seed in arguments.seeds]
        for run in found[case.label]:
            print(run, flush=True)
    slowest = sorted(
        CASES,
        key=lambda case: (
            all(run.has_come for run in found[case.label]),
            -median(run.seconds for run in found[case.label]),
        ),
    )
    table = [make_row(case, found[case.label], arguments.ranks) for case in slowest]
    print(write_markdown(list(table[0]), [list(row.values()) for row in table]))


if __name__ == "__main__":
    main()
