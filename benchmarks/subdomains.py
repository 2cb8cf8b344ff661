"""Networks of subdomains beside one: `python -m benchmarks.subdomains`.

Laplace's equation around four holes, to an error of 1e-4, by subdomains and by networks of the
whole domain, and Burgers' equation with ν = 0.01/π by subdomains, to 1e-8, all on one rank. Seconds
are CPU seconds of training, without evaluations of the error, so that a busy machine changes them
little. A run ends at the error, after `--seconds`, or where its solver finds no decrease.

The seconds on P ranks of one core each are projected:

    one domain     T(P) = C / P + messages,
    subdomains     T(P) = D / P + φ(P) F + ψ(P) S + ⌈q / P⌉ V / q + rest + messages,   C for P = 1,

C all CPU seconds, D those in sums over samples, factors and scaling of their rows, F in sparse
factors, S in their solutions, V in changes of variables by q pieces. φ and ψ are the parts of the
slowest rank, level by level of the elimination tree (`benchmarks.elimination`; a block's factor,
triangular system and product take 0.8, 1.1 and 1). All of the work of one domain is taken as
divided, which no method reaches, so that its T(P) is a lower bound. Chunks are taken to divide
evenly, and calls to cost nothing but their messages.

Messages (`hpctrain.study.projection`), in ⌈log₂ P⌉ steps each: a sum of n + 1 numbers for a
gradient, and of n²/2 for a matrix of one domain; for one of subdomains a gather of their R_i, and
two exchanges of P - 1 messages, with twice a rank's part of these and its part of the cells'
matrices; two gathers a level for a factor and for a solution, with its numbers and with 2 n; one of
n for a change of variables. Runs are kept in runs/subdomains; the tables are printed, what is
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

from benchmarks.elimination import count_products, count_seconds
from benchmarks.tables import write_markdown
from hpctrain.objective import evaluation
from hpctrain.objective.coupling import Coupling
from hpctrain.parallel.block_scaling import BlockScaling
from hpctrain.parallel.sparse_blocks import SparseBlocks, SparseCholesky
from hpctrain.parallel.traffic import count_steps
from hpctrain.problems.equations.cell_rows import CellRows
from hpctrain.run.pieces import make_objective, make_problem, make_solver
from hpctrain.study.projection import NETWORKS

JOB, TARGET = "jobs/library/laplace-holes.toml", 1e-4
BURGERS, BURGERS_TARGET = "jobs/library/burgers-subdomains.toml", 1e-8
FOLDER = Path("runs/subdomains")
SEEDS = (0, 1, 2)
BYTES = 8
# Sums over samples, all of a rank's share.
SUMS = ("sum_losses", "sum_losses_and_gradients", "evaluate_residuals", "pull_back")
MATRICES = ("add_gauss_newton", "evaluate_cell_rows")
RANKS = (1, 2, 4, 16, 49, 90)
SHOWN = ("ethernet-10g", "infiniband-hdr")
# Seconds of a block's factor, triangular system and product, 123 x 123, in units of the last.
OPERATIONS = (0.8, 1.1, 1.0)


# A linear problem in what is trained: one step.
LINEAR = {"damping": 1e-10, "least_damping": 1e-30, "corrections": 0}


@dataclass(frozen=True)
class Case:
    """A network with its solvers.

    Attributes:
        stages: names of solvers, with the iterations of each and its settings.
        job: the problem, and the network where no settings say otherwise.
        target: the error.
    """

    label: str
    settings: dict[str, Any]
    stages: tuple[tuple[str, int, dict[str, Any]], ...]
    job: str = JOB
    target: float = TARGET

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
    Case(
        "Burgers, 9 x 10 subdomains",
        {},
        (("gauss-newton", 100, {"factorisation": "qr", "damping": 1e-4}),),
        BURGERS,
        BURGERS_TARGET,
    ),
)


def rows(_words: list[str]) -> list[str]:
    """The labels of the table's rows."""
    return [case.label for case in CASES]


@dataclass
class Sparse:
    """Systems of subdomains: the seconds F, S, V, how many there were of each, and their sizes.

    Attributes:
        numbers: of L. scaling: of all R_i, where there are any. cells: of all cells' matrices.
        parts: φ(P) and ψ(P) by P.
    """

    factored: float
    solved: float
    changed: float
    factors: int
    solutions: int
    changes: int
    levels: int
    numbers: int
    scaling: int
    cells: int
    parts: dict[str, tuple[float, float]]

    def predict_seconds(self, ranks: int, pieces: int) -> float:
        """What is not divided by samples."""
        factor, solution = self.parts[str(ranks)]
        share = -(-pieces // ranks) / pieces
        return factor * self.factored + solution * self.solved + share * self.changed

    def count_traffic(self, ranks: int, n: int, matrices: int) -> tuple[int, float]:
        """Messages one after the other, and the numbers in them."""
        depth = count_steps(ranks)
        levels = 2 * self.levels * (self.factors + self.solutions)
        messages = depth * (levels + self.changes) + matrices * (5 * depth + 2 * (ranks - 1))
        exchanged = self.scaling + (2 * self.scaling + self.cells / 2) / ranks
        sent = self.factors * self.numbers + (2 * self.solutions + self.changes) * n
        return messages, matrices * exchanged + sent


@dataclass
class Timed:
    """What a run took until it came to the error, or until it ended.

    Attributes:
        error: the last one.
        seconds: C. divided: D. gradients, matrices: how many sums there were of each.
        sparse: of subdomains.
    """

    label: str
    seed: int
    parameters: int
    subdomains: int
    error: float
    has_come: bool
    iterations: int
    seconds: float
    divided: float
    gradients: int
    matrices: int
    sparse: Sparse | None

    def project(self, ranks: int, network: str) -> float:
        """T(P)."""
        if ranks == 1:
            return self.seconds
        depth, n = count_steps(ranks), self.parameters
        messages, numbers = depth * self.gradients, depth * self.gradients * (n + 1)
        if self.sparse is None:
            messages += depth * self.matrices
            numbers += depth * self.matrices * n * (n + 1) // 2
            own = self.seconds / ranks
        else:
            s = self.sparse
            more, sent = s.count_traffic(ranks, n, self.matrices)
            messages, numbers = messages + more, numbers + sent
            rest = self.seconds - self.divided - s.factored - s.solved - s.changed
            own = self.divided / ranks + s.predict_seconds(ranks, self.subdomains) + rest
        return own + NETWORKS[network].predict_seconds(messages, BYTES * numbers)


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
    job = tomllib.loads(Path(case.job).read_text())
    job["network"] = case.settings.get("network", job["network"])
    others = {key: value for key, value in case.settings.items() if key != "network"}
    problem = make_problem(job, set={**others, "seed": seed})
    objective = make_objective(problem, threads=1)
    monitor = problem.make_monitor(objective.communicator, objective.chunks, 1)
    sums, matrices = Watch(objective.share, SUMS), Watch(objective.share, MATRICES)
    divided = [
        sums,
        matrices,
        Watch(CellRows, ("sum_grams", "scale")),
        Watch(evaluation, ("factorise_pieces",)),
    ]
    factors, solutions = Watch(SparseBlocks, ("factorise",)), Watch(SparseCholesky, ("solve",))
    changes = Watch(BlockScaling, ("scale", "unscale", "pull_back"))
    theta, seconds, iterations = problem.make_initial_parameters(seed), 0.0, 0
    error = float("inf")
    for name, count, options in case.stages:
        solver, state = make_solver(objective, name, seed=seed, **options), None
        every, is_over, own = 10 if name == "ssbroyden" else 1, False, 0
        while error > case.target and seconds < limit and own < count and not is_over:
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
    for watch in [*divided[2:], factors, solutions, changes]:
        watch.leave()
    error = monitor.measure(theta)["error"]
    coupling = objective.residuals.coupling
    return Timed(
        case.label,
        seed,
        objective.parameters,
        1 if coupling is None else len(coupling.pieces),
        error,
        error <= case.target,
        iterations,
        seconds,
        sum(watch.seconds for watch in divided),
        sums.calls,
        matrices.calls,
        None if coupling is None else describe(coupling, factors, solutions, changes),
    )


def describe(coupling: Coupling, factors: Watch, solutions: Watch, changes: Watch) -> Sparse:
    """The systems of a run."""
    found = coupling.elimination
    sizes = [len(piece) for piece in coupling.eliminated]
    parts = {
        str(ranks): (
            count_seconds(found, ranks, *OPERATIONS) / count_seconds(found, 1, *OPERATIONS),
            count_products(found, ranks) / count_products(found, 1),
        )
        for ranks in RANKS
    }
    return Sparse(
        factors.seconds,
        solutions.seconds,
        changes.seconds,
        factors.calls,
        solutions.calls,
        changes.calls,
        len(found.levels),
        sum(sizes[i] * sizes[j] for i, j in found.blocks),
        sum(size**2 for size in sizes) if changes.calls else 0,
        sum(coupling.count_columns(cell) ** 2 for cell in coupling.cells),
        parts,
    )


def keep(case: Case, seed: int, limit: float) -> Timed:
    """The run, made if it is not there."""
    words = f"{case.label}-{seed}-{limit:g}".replace(",", "").replace("'", "").replace(" ", "-")
    path = FOLDER / f"{words}.json"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(train(case, seed, limit))))
    found = json.loads(path.read_text())
    sparse = found.pop("sparse")
    return Timed(**found, sparse=None if sparse is None else Sparse(**sparse))


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
    for name in SHOWN:
        projected = f"{median(run.project(ranks, name) for run in runs):.2g}"
        row[f"s, P = {ranks}, {name}"] = projected if reached else f"> {projected}"
    return row


def make_speed_rows(runs: list[Timed]) -> list[dict[str, str]]:
    """Of one network of subdomains: the median over the seeds by ranks, on each network."""
    found = []
    for name in SHOWN:
        row = {"network": runs[0].label, "between ranks": name}
        for ranks in RANKS:
            row[f"s, P = {ranks}"] = f"{median(run.project(ranks, name) for run in runs):.3g}"
        found.append(row)
    return found


def write(rows: list[dict[str, str]]) -> str:
    """The table."""
    return write_markdown(list(rows[0]), [list(row.values()) for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.subdomains")
    parser.add_argument("--seconds", type=float, default=15.0, help="CPU seconds of a run, at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--ranks", type=int, choices=RANKS, default=49)
    parser.add_argument("--only", default="", help="networks with this in their names")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for case in (case for case in CASES if arguments.only in case.label):
        limit = arguments.seconds if case.job == JOB else 600.0
        found[case.label] = [keep(case, seed, limit) for seed in arguments.seeds]
        for run in found[case.label]:
            print(run, flush=True)
    slowest = sorted(
        (case for case in CASES if case.job == JOB and case.label in found),
        key=lambda case: (
            all(run.has_come for run in found[case.label]),
            -median(run.seconds for run in found[case.label]),
        ),
    )
    if slowest:
        print(write([make_row(case, found[case.label], arguments.ranks) for case in slowest]))
    speeds = [row for runs in found.values() if runs[0].sparse for row in make_speed_rows(runs)]
    if speeds:
        print(write(speeds))


if __name__ == "__main__":
    main()
