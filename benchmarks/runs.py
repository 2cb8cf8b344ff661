"""Runs jobs of this repository for the studies in this folder, each as a process or MPI job."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.job.settings import load_job
from hpctrain.run.signals import StopSignals
from hpctrain.store.run_file import Run, read_run
from hpctrain.study.starts import PlannedRun, ensure, find_launcher_words

MPIRUN = Path(sys.executable).parent / "mpirun"
RESUMABLE = 75
# A loss alone costs about a third of one with its gradient.
LOSS = 1 / 3


def train(job: str, ranks: int = 2, threads: int = 1, **settings: Any) -> Run:
    """Runs a job and reads what it wrote.

    Args:
        job: a name in jobs/, without its ending.
        settings: of the job, with "__" for each dot: stop__error=1e-3.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run.h5"
        changes = {"parallel.threads": threads, "output.checkpoint_every": 0}
        changes |= {key.replace("__", "."): value for key, value in settings.items()}
        overrides = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
        run = [sys.executable, "-m", "hpctrain", "run", f"jobs/{job}.toml", "-o", output]
        command = [MPIRUN, "-n", str(ranks), *run, *overrides]
        ended = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        if ended.returncode not in (0, RESUMABLE):  # a time limit is part of a study
            raise subprocess.CalledProcessError(ended.returncode, command)
        return read_run(output)


def kept(
    folder: Path, name: str, job: str, settings: Mapping[str, Any], signals: StopSignals
) -> Run:
    """The run of a job on one rank and thread; made if a finished one is not in the folder.

    Args:
        name: of its file.
        job: a name in jobs/, without its ending.
        settings: of the job, by their keys.
    """
    planned = plan_run(name, job, {"output.checkpoint_every": 0} | dict(settings))
    folder.mkdir(parents=True, exist_ok=True)
    return read_run(ensure(planned, folder, signals, "benchmarks:"))


def plan_run(
    name: str, job: str, settings: Mapping[str, Any], ranks: int = 1, label: str = ""
) -> PlannedRun:
    """Plans a run of a job, on so many ranks of one thread each.

    Args:
        name: of its file.
        job: a name in jobs/, without its ending.
        settings: of the job, by their keys.
        ranks: on which it runs.
        label: by which messages name it; by default its name.
    """
    file = f"jobs/{job}.toml"
    words = write_settings({"parallel.threads": 1} | dict(settings))
    asked, launcher = load_job(file, words), find_launcher_words(ranks)
    return PlannedRun(label or name, job, name, file, words, asked, ranks, launcher)


def write_settings(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Writes settings as the command line takes them, by their keys."""
    return tuple(f"{key}={write_value(value)}" for key, value in settings.items())


def write_value(value: Any) -> str:
    """Writes a number, a truth, a string, a list or a table in a line of TOML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {write_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(write_value, value)) + "]"
    return json.dumps(value)


def sum_work(run: Run) -> np.ndarray:
    """Gradients, and products and losses as many as they cost, up to each record (records,)."""
    gradients, products, losses = (
        run.history[f"{kind}_evaluations"] for kind in ("gradient", "hvp", "loss")
    )
    return gradients + products + LOSS * losses


def training_seconds(run: Run) -> np.ndarray:
    """CPU seconds of training, all ranks together, up to each record (records,)."""
    inside = [name in ("local", "global", "communication") for name in run.phase_names]
    return np.nan_to_num(run.phases[:, :, inside, 1]).sum(axis=(1, 2)).cumsum()


def reached(run: Run, target: float, column: str = "seconds", measure: str = "error") -> float:
    """A column at the first error, or loss, of at most `target`; infinite if there is none."""
    hits = np.flatnonzero(run.history[measure] <= target)
    return float(run.history[column][hits[0]]) if len(hits) else float("inf")


def computation_seconds(run: Run, target: float) -> float:
    """A model of a core for each rank: in each phase of computation the slowest rank's CPU time.

    Up to the first error of at most `target`; infinite if there is none.
    """
    hits = np.flatnonzero(run.history["error"] <= target)
    if not len(hits):
        return float("inf")
    return sum(phase_seconds(run, int(hits[0]) + 1)[name] for name in ("local", "global"))


def phase_seconds(run: Run, records: int | None = None) -> dict[str, float]:
    """Of the first records: computation by the slowest rank, communication by the quickest."""
    wall, cpu = (np.nan_to_num(run.phases[:records, :, :, clock]) for clock in (0, 1))
    return {
        name: float(
            (wall[:, :, i].min(1) if name == "communication" else cpu[:, :, i].max(1)).sum()
        )
        for i, name in enumerate(run.phase_names)
    }


def best_within(run: Run, budget: float, measure: str = "error") -> float:
    """The least error, or loss, that was evaluated within so many gradient evaluations."""
    return float(_list_within(run, budget, measure).min())


def last_within(run: Run, budget: float) -> float:
    """The last error that was evaluated within so many gradient evaluations."""
    return float(_list_within(run, budget, "error")[-1])


def _list_within(run: Run, budget: float, measure: str) -> np.ndarray:
    values = run.history[measure]
    return values[np.isfinite(values) & (run.history["gradient_evaluations"] <= budget)]


def short(number: float) -> str:
    """A target as tables name it: 4.6e-4."""
    digits, _, exponent = f"{number:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"


def by_seed(values: list[float], digits: str = ".1f") -> str:
    """The values in a row, for a table."""
    return " ".join(format(value, digits) for value in values)
