"""Runs solvers on logistic regression until a target or a budget, and keeps the runs in a file.

Work is in effective gradient evaluations, Σ |D_used| / |D| over losses, gradients and
Hessian-vector products; a loss and its gradient in one pass are one.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hpctrain.job.settings import Job, parse_job
from hpctrain.linalg.vectors import norm
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.logistic.problem import LogisticProblem
from hpctrain.run.assemble import make_job_solver, make_objective, make_problem

DATA = {
    "australian": "data/australian.libsvm",
    "a9a": "data/a9a.libsvm",
    "gisette-like": "data/gisette-like.h5",
    "gisette-mnist": "data/gisette-mnist.h5",
}
# A run whose loss is above this has diverged.
DIVERGED = 1e3

Quantity = Literal["gap", "gradient_norm"]


@dataclass(frozen=True)
class Study:
    """A set, with what is made of it once."""

    name: str
    problem: LogisticProblem
    minimum: float

    @property
    def largest_curvature(self) -> float:
        """L_max = max ‖x_j‖² / 4 + λ, a bound on the curvature of every ℓ_j."""
        rows = self.problem._rows
        squares = rows.power(2) if hasattr(rows, "power") else rows**2
        return float(np.max(squares.sum(axis=1))) / 4 + self.problem.ridge


@dataclass(frozen=True)
class Target:
    """Where a run ends: L - L* or ‖∇L‖ at most `value`, or so many effective evaluations spent."""

    quantity: Quantity
    value: float
    budget: float


@dataclass(frozen=True)
class Stage:
    """A run after a number of iterations.

    Attributes:
        effective, gradients: work so far, in gradients of all samples; of gradients alone.
        gap, gradient_norm: L - L* and ‖∇L‖.
        hessians, cg, shared_cg, samples: of ASTROM, see its state; else 0.
    """

    iterations: int
    effective: float
    gradients: float
    gap: float
    gradient_norm: float
    hessians: float = 0.0
    cg: float = 0.0
    shared_cg: float = 0.0
    samples: int = 0


@dataclass(frozen=True)
class Run:
    """All stages of a run."""

    target: Target
    stages: list[Stage]

    @property
    def end(self) -> Stage:
        return self.stages[-1]

    @property
    def left(self) -> float:
        """What was to be made small, at the end; infinite where it is not finite."""
        value: float = getattr(self.end, self.target.quantity)
        return value if math.isfinite(value) else math.inf

    @property
    def diverged(self) -> bool:
        """Whether it ended before its aim and its budget, where its loss was no use any more."""
        return not self.reached and not self.end.gap < DIVERGED

    @property
    def reached(self) -> bool:
        return self.left <= self.target.value


@dataclass
class Kept:
    """Runs by set, solver, seed and target: a line of JSON each, not repeated while it is there.

    A file outlives a change of a solver: remove it then.
    """

    path: Path
    runs: dict[str, Run] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            key, target, stages = json.loads(line)
            self.runs[key] = Run(Target(**target), [Stage(**stage) for stage in stages])

    def find(self, on: str, solver: str, seed: int, target: Target) -> Run | None:
        """The run on the set of this name, if it is there."""
        return self.runs.get(_name(on, solver, seed, target))

    def run(self, on: Study, solver: str, seed: int, target: Target) -> Run:
        """The run, which is made if it is not there."""
        key = _name(on.name, solver, seed, target)
        if key not in self.runs:
            run = Run(target, [*_until(on, solver, seed, target)])
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                kept = [key, asdict(target), [asdict(stage) for stage in run.stages]]
                file.write(json.dumps(kept) + "\n")
            self.runs[key] = run
        return self.runs[key]


def _name(on: str, solver: str, seed: int, target: Target) -> str:
    return f"{on} | {solver} | {seed} | {target}"


def study(name: str) -> Study:
    problem = make_problem(_job(name, 'name = "newton"', 0))
    assert isinstance(problem, LogisticProblem)
    return Study(name, problem, problem.make_monitor(Communicator(), 64, 1).minimum)


def _job(name: str, solver: str, seed: int) -> Job:
    text = f'seed = {seed}\n[problem]\nname = "logistic"\ndata = "{DATA[name]}"\n[solver]\n{solver}'
    return parse_job(text, "benchmarks.logistic")


def _until(on: Study, solver: str, seed: int, target: Target) -> Iterator[Stage]:
    """A run after each step until it is there, diverges, finds no decrease, or has spent enough."""
    job = _job(on.name, solver, seed)
    objective = make_objective(on.problem, Communicator(), job.parallel.chunks, 1)
    method = make_job_solver(job, objective)
    state, iterations, ends = method.init(on.problem.make_initial_parameters(0)), 0, False
    while True:
        stage = _stage(on, state, iterations, objective.counts)
        yield stage
        if ends or getattr(stage, target.quantity) <= target.value:
            return
        if stage.effective >= target.budget:
            return
        state, record = method.step(state)
        iterations += 1
        ends = record.outcome.is_final or not record.loss < DIVERGED


def _stage(on: Study, state: Any, iterations: int, counts: Any) -> Stage:
    own = {name: getattr(state, name, 0) for name in ("hessians", "cg", "shared_cg", "samples")}
    return Stage(
        iterations=iterations,
        effective=counts.effective_evaluations,
        gradients=counts.gradient_evaluations,
        gap=state.point.loss - on.minimum,
        gradient_norm=norm(state.point.gradient),
        **own,
    )
