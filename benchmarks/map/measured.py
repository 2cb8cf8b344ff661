"""Reads what the map needs of runs: work to an error, seconds of a unit of it, messages."""

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.map.methods import GRADIENT, Method, count_parameters, count_read
from benchmarks.map.model import Case, Timed, Work, make_case
from benchmarks.runs import LOSS, sum_work
from hpctrain.errors import InputError
from hpctrain.methods.quasi_newton.factors import PANEL
from hpctrain.methods.quasi_newton.inverse_hessian import InverseHessian, Scaling
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.signals import StopSignals
from hpctrain.store.run_file import Run
from hpctrain.study.projection import Network
from hpctrain.study.stretch import Stretch

AT_ONCE = Network("without messages", 0.0, float("inf"))
# Of the work of a short run, what losses alone may be: more is a search in vain, at round-off.
MOST_LOSSES = 0.5


def count_work(run: Run, error: float | None = None) -> Work | None:
    """What it took to an error, or in all; None where the error was not reached."""
    hits = [-1] if error is None else np.flatnonzero(run.history["error"] <= error)
    if not len(hits):
        return None
    return Work(int(run.history["iteration"][hits[0]]), float(sum_work(run)[hits[0]]))


def read_timed(run: Run) -> Timed:
    """The seconds of a short run on one rank behind its first iteration."""
    stretch = Stretch(run)
    shares = stretch.project_shares(AT_ONCE, 1.0)
    return Timed((shares["local"], shares["global"]), _find_work(stretch))


def _find_work(stretch: Stretch) -> Work:
    """The work of what is timed of a run, whose records are all iterations."""
    W = sum_work(stretch.run)
    return Work(stretch.iterations, float(W[-1] - W[-1 - stretch.iterations]))


def read_case(method: Method, width: int, folder: Path) -> Case | None:
    """A method on a network, as it was measured; None where a short run or η is missing.

    Raises:
        InputError: the run on few points was at round-off, so that its time says nothing.
    """
    short, number = method.list_runs(width, seeds=0), Products(width).read(folder)
    found = [run for each in short if each.has_ended(folder) and (run := each.read(folder))]
    if number is None or len(found) < len(short):
        return None
    (whole, share), pair = map(read_timed, found[:2]), Stretch(found[2])
    losses = _find_losses(found[1])
    if losses > MOST_LOSSES:
        raise InputError(
            f"{found[1].path}: {losses:.0%} of its work are losses alone, at most {MOST_LOSSES:.0%}"
            " are in a run that does not search in vain; give it more points"
        )
    return make_case(method, width, whole, share, number, pair.traffic)


def _find_losses(run: Run) -> float:
    """The part that losses alone have of the work that is timed of a run."""
    stretch, column = Stretch(run), run.history["loss_evaluations"]
    losses = float(column[-1] - column[-1 - stretch.iterations]) * LOSS
    return losses / _find_work(stretch).gradients


def check_pair(case: Case, folder: Path) -> float:
    """The computation projected for two ranks, divided by the CPU time of the slower one."""
    run = case.method.plan_timing(case.width, ranks=2).read(folder)
    assert run is not None, "its traffic was read"
    stretch = Stretch(run)
    projected = case.project(_find_work(stretch), 2, AT_ONCE).computed
    return projected / float(stretch.computed.max())


@dataclass(frozen=True)
class Products:
    """The measurement of η, a task beside the runs: kept as a small file."""

    width: int

    @property
    def name(self) -> str:
        return f"products-width={self.width}"

    @property
    def seconds(self) -> float:
        """How long it takes, about."""
        return 1 + 60 * GRADIENT[self.width]

    def has_ended(self, folder: Path) -> bool:
        """Whether it was measured."""
        return self.read(folder) is not None

    def read(self, folder: Path) -> float | None:
        """η; None where it was not measured."""
        path = folder / f"{self.name}.json"
        return float(json.loads(path.read_text())["seconds"]) if path.exists() else None

    def advance(self, folder: Path, signals: StopSignals, seconds: float) -> None:
        """Measures it."""
        folder.mkdir(parents=True, exist_ok=True)
        found = statistics.median(_time_products(count_parameters(self.width)))
        text = json.dumps({"seconds": found / count_read(count_parameters(self.width), 1)})
        (folder / f"{self.name}.json").write_text(text)


def _time_products(n: int) -> list[float]:
    """CPU seconds of updates of an inverse Hessian's first panel, each with its product."""
    alone, x = Communicator(), torch.ones(n, dtype=torch.float64)
    H, spent = InverseHessian(), list[float]()
    for _ in range(PANEL):
        H, _ = H.update(x, x, x, Scaling(1.0, 1.0), x, x)
        began = time.process_time()
        H.multiply(x, alone, 1)
        spent.append(time.process_time() - began)
    return spent
