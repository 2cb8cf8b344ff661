"""Starts the runs that are missing, one after the other, each on the same cores."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.peers.cases import TARGETS, write_start
from benchmarks.peers.programs import PROGRAMS, WORKERS, UnavailableError

# Seconds beyond its limit after which a run that does not end is killed: for what is set up and
# compiled, and for a last call of a method.
GRACE = 900


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        folder: where environments, starts, results and logs lie.
        seconds: of training, for each run.
        threads: of each run.
    """

    folder: Path
    programs: Sequence[str]
    problems: Sequence[str]
    seeds: Sequence[int]
    seconds: float
    threads: int

    def find_result(self, program: str, problem: str, seed: int) -> Path:
        """Where the result of a run lies; with other limits it is another one."""
        limits = f"{self.seconds:g}s-{self.threads}t"
        return (
            self.folder / "results" / limits / f"{problem}-{seed}-{program.replace(' ', '-')}.json"
        )

    def run_missing(self) -> None:
        """Runs what has no result yet, every program with one seed before the next seed."""
        for seed in self.seeds:
            for problem in self.problems:
                for program in self.programs:
                    result = self.find_result(program, problem, seed)
                    if not result.is_file():
                        print(f"{program}, {problem}, seed {seed}", file=sys.stderr, flush=True)
                        self._run(program, problem, seed, result)

    def _run(self, name: str, problem: str, seed: int, result: Path) -> None:
        """Runs one; where it fails, its log says why, and it is tried again the next time."""
        program = PROGRAMS[name]
        start = self.folder / "starts" / f"{problem}-{seed}.npz"
        if not start.is_file():
            write_start(problem, seed, start)
        try:
            python = program.find_python(self.folder)
        except UnavailableError as error:
            print(f"  cannot be installed: {error}", file=sys.stderr)
            return
        result.parent.mkdir(parents=True, exist_ok=True)
        command = [python, str(WORKERS / program.script), str(start), str(result.absolute())]
        command += ["--seconds", str(self.seconds), "--error", str(min(TARGETS))]
        command += ["--threads", str(self.threads), "--variant", program.variant]
        cores = sorted(os.sched_getaffinity(0))[: self.threads]
        environment = os.environ | {
            "OMP_NUM_THREADS": str(self.threads),
            # torch.compile starts from nothing in every run, and writes below the folder.
            "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(self.folder.absolute() / "compiled"),
        }
        if not program.packages:
            environment["PYTHONPATH"] = os.getcwd()
        with result.with_suffix(".log").open("w") as log:
            try:
                subprocess.run(
                    command,
                    check=True,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    timeout=self.seconds + GRACE,
                    preexec_fn=partial(os.sched_setaffinity, 0, cores),
                )
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                print(f"  failed, see {log.name}: {error}"[:300], file=sys.stderr)

    def read(self, program: str, problem: str, seed: int) -> dict | None:
        """Reads the result of a run; None where there is none."""
        path = self.find_result(program, problem, seed)
        return json.loads(path.read_text()) if path.is_file() else None
