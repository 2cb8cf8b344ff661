"""How all rows are trained: by one setting of the solvers, and in the same time at most."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.runs import plan_run, write_settings
from benchmarks.suite.rows import Row
from hpctrain.job.settings import load_job
from hpctrain.problems.equations.problem import PinnProblem
from hpctrain.problems.equations.slabs.problem import SlabProblem
from hpctrain.run.assemble import make_problem
from hpctrain.run.signals import StopSignals
from hpctrain.store.run_file import Run, read_run
from hpctrain.study.starts import PlannedRun, find_finished_file, find_free_file, start

# Self-scaled Broyden's part of the time, where Gauss-Newton follows.
BROYDEN_SHARE = 0.5
# Iterations without a halved loss after which a stage ends.
BROYDEN_STAGNATION, GAUSS_NEWTON_STAGNATION = 1000, 300
# Multiplications that a system of Gauss-Newton may take, N n min(N, n).
LARGEST_SYSTEM = 3e11
# Of networks that are linear in all parameters: one step solves a linear equation up to rounding,
# from the triangular factor of J, as its square would lose half of the digits.
LEAST_SQUARES = {
    "name": "gauss-newton",
    "factorisation": "qr",
    "damping": 1e-20,
    "least_damping": 1e-30,
    "stop": {"stagnation": 2},
}
# Of such networks of subdomains, for equations that may be nonlinear; in windows of time, whose
# steps are few and mild, until the loss is not halved.
SUBDOMAINS = {"name": "gauss-newton", "factorisation": "qr", "damping": 1e-4}
SUBDOMAINS_STAGNATION, WINDOW_STAGNATION = 10, 1
# Never reached: time or stagnation end a run.
ITERATIONS = 10**9


@dataclass(frozen=True)
class Case:
    """A row as it is trained.

    Attributes:
        problem: of its job, or of the job's first window of time.
        windows: of time.
    """

    row: Row
    problem: PinnProblem
    windows: int

    def list_stages(self, seconds: float) -> list[dict[str, Any]]:
        """The solvers of a run of so many seconds, as a job has them.

        Self-scaled Broyden, then Gauss-Newton where its systems are small enough; Gauss-Newton
        alone, from an orthogonal factorisation, where all parameters are of the last layer.
        """
        if self.problem.network.depth == 1 and self.problem.solution.subdomains is not None:
            stagnation = WINDOW_STAGNATION if self.windows > 1 else SUBDOMAINS_STAGNATION
            return [{**SUBDOMAINS, "stop": {"stagnation": stagnation}}]
        if self.problem.network.depth == 1:
            return [LEAST_SQUARES]
        N, n, own = self.problem.samples, self.problem.parameters, seconds / self.windows
        has_second = N * n * min(N, n) <= LARGEST_SYSTEM
        first = own * BROYDEN_SHARE if has_second else own
        stages = [_make_stage("ssbroyden", first, BROYDEN_STAGNATION)]
        if has_second:
            stages.append(_make_stage("gauss-newton", own - first, GAUSS_NEWTON_STAGNATION))
            if self.windows == 1:  # it has all that the first one has left
                del stages[-1]["stop"]["max_seconds"]
        return stages


def _make_stage(solver: str, seconds: float, stagnation: int) -> dict[str, Any]:
    return {"name": solver, "stop": {"max_seconds": seconds, "stagnation": stagnation}}


def make_case(row: Row) -> Case:
    """Makes the problem of a row."""
    problem = make_problem(load_job(row.file, write_settings(row.settings)))
    first = problem.windows[0] if isinstance(problem, SlabProblem) else problem
    assert isinstance(first, PinnProblem)
    return Case(row, first, len(problem.windows) if isinstance(problem, SlabProblem) else 1)


@dataclass(frozen=True)
class SuiteRun:
    """A run of a row, which is made at once, to its end.

    Attributes:
        planned: what is started.
        seconds: that it takes at most.
    """

    planned: PlannedRun
    seconds: float

    @property
    def name(self) -> str:
        return str(self.planned)

    def has_ended(self, folder: Path) -> bool:
        return find_finished_file(self.planned, folder) is not None

    def advance(self, folder: Path, signals: StopSignals, seconds: float) -> None:
        """Makes the run, whatever the time."""
        folder.mkdir(parents=True, exist_ok=True)
        start(self.planned, find_free_file(self.planned, folder), signals)


@dataclass(frozen=True)
class Plan:
    """How rows are run.

    Attributes:
        folder: where run files and tables lie.
        seconds: of each run at most.
        ranks: of each run.
    """

    folder: Path
    seeds: Sequence[int]
    seconds: float
    ranks: int

    def plan_run(self, case: Case, seed: int) -> PlannedRun:
        """What is run of a row with a seed."""
        row = case.row
        changes = {
            **row.settings,
            "seed": seed,
            "solver": case.list_stages(self.seconds),
            "stop": {"max_iterations": ITERATIONS, "max_seconds": self.seconds},
            "output.checkpoint_every": 0,
            "output.error_every": 20,
        }
        # Rows with the same settings share their runs.
        name = f"{Path(row.job).name}-seed{seed}"
        return plan_run(name, row.job, changes, self.ranks, label=f"{row.name}, seed {seed}")

    def read(self, case: Case, seed: int) -> Run | None:
        """Reads the run of a row with a seed; None where there is none that has ended."""
        path = find_finished_file(self.plan_run(case, seed), self.folder)
        return None if path is None else read_run(path)

    def list_tasks(self, cases: Sequence[Case]) -> list[SuiteRun]:
        """The runs of these rows, each once, all rows with one seed before the next seed."""
        planned = (self.plan_run(case, seed) for seed in self.seeds for case in cases)
        runs = {(run.file, run.overrides): run for run in planned}.values()
        return [SuiteRun(run, self.seconds) for run in runs]
