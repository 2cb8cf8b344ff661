"""Runs measurements in turns, each in a new process: a busy machine slows all alike."""

import os
import statistics
import subprocess
import sys

ROUNDS = 3
# The processes inherit the variable.
THREADS = int(os.environ.get("BENCHMARK_THREADS", "2"))


def measure(*names: str) -> dict[str, float]:
    """Milliseconds of each measurement of `benchmarks.worker`, the median over `ROUNDS` rounds."""
    rounds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:
            command = [sys.executable, "-m", "benchmarks.worker", name]
            answer = subprocess.run(command, capture_output=True, text=True, check=True)
            rounds[name].append(float(answer.stdout))
    return {name: statistics.median(times) for name, times in rounds.items()}
