"""What every program's script uses: it reads the start, keeps the clock and writes the result.

The scripts of this folder run in the programs' own environments, which have NumPy but not hpctrain.
Each is started as `python SCRIPT START.npz RESULT.json --seconds S --error E --threads T`.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

# Seconds of training between two measurements of the error, at least.
PAUSE = 0.25


class Start:
    """The problem and what its training starts from; `cases.write_start` says what is in the file.

    Attributes:
        layers: the weights (outputs, inputs) and biases of each layer.
        terms: the points (N, d) and values (N, fields) of each term beside the equation's.
    """

    def __init__(self, path: str) -> None:
        with np.load(path) as arrays:
            held = dict(arrays)
        self.problem = str(held["problem"])
        self.layers = _list_pairs(held, "W", "b")
        self.terms = _list_pairs(held, "points", "values")
        self.middle, self.slope, self.taus = held["middle"], held["slope"], held["taus"]
        self.points, self.test, self.truth = held["points"], held["test"], held["truth"]


def _list_pairs(arrays: dict, first: str, second: str) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = []
    while f"{first}{len(pairs)}" in arrays:
        pairs.append((arrays[f"{first}{len(pairs)}"], arrays[f"{second}{len(pairs)}"]))
    return pairs


class Trial:
    """One run: seconds of training and errors. The clock stands while errors are measured.

    Args:
        start: the problem.
        result: the file that is written.
        limit: seconds of training after which the run ends.
        wanted: the error at which it ends.
        packages: whose versions are written down.
    """

    def __init__(
        self, start: Start, result: str, limit: float, wanted: float, packages: list[str]
    ) -> None:
        self._start, self._result = start, Path(result)
        self._limit, self._wanted = limit, wanted
        self._versions = {name: version(name) for name in packages}
        self._seconds: list[float] = []
        self._errors: list[float] = []
        self._iterations: list[int] = []
        self._spent = 0.0
        self._began: float | None = None

    @property
    def seconds(self) -> float:
        """Of training so far."""
        running = 0.0 if self._began is None else time.perf_counter() - self._began
        return self._spent + running

    def start_clock(self) -> None:
        """Begins training: what was set up before does not count."""
        self._began = time.perf_counter()

    def is_due(self) -> bool:
        """Whether it is time to measure the error again."""
        return not self._seconds or self.seconds >= self._seconds[-1] + PAUSE

    def measure(self, predict: Callable[[np.ndarray], np.ndarray], iterations: int) -> bool:
        """Measures the error, the largest over the fields; returns whether the run is to end.

        Args:
            predict: evaluates the fields (M, fields) at points (M, d).
            iterations: of the method so far.
        """
        spent = self.seconds
        values, truth = predict(self._start.test), self._start.truth
        error = np.linalg.norm(values - truth, axis=0) / np.linalg.norm(truth, axis=0)
        self._seconds.append(spent)
        self._errors.append(float(error.max()))
        self._iterations.append(iterations)
        if self._began is not None:
            self._spent, self._began = spent, time.perf_counter()
        error = self._errors[-1]
        return spent >= self._limit or error <= self._wanted or not np.isfinite(error)

    def finish(self, reason: str) -> None:
        """Writes the result, in one step."""
        content = {
            "reason": reason,
            "versions": self._versions,
            "seconds": self._seconds,
            "errors": self._errors,
            "iterations": self._iterations,
        }
        temporary = self._result.with_suffix(".tmp")
        temporary.write_text(json.dumps(content))
        temporary.replace(self._result)


def begin(packages: list[str]) -> tuple[Start, Trial, argparse.Namespace]:
    """Reads the command line and the start."""
    parser = argparse.ArgumentParser()
    parser.add_argument("start")
    parser.add_argument("result")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--error", type=float, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--variant", default="")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    start = Start(options.start)
    trial = Trial(start, options.result, options.seconds, options.error, packages)
    return start, trial, options
