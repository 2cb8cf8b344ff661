"""The runs of programs on problems, each on the same cores: what one starts, and what it leaves."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.peers.cases import TARGETS, write_start
from benchmarks.peers.programs import PROGRAMS, WORKERS
from hpctrain.errors import RunError
from hpctrain.run.signals import StopSignals
from hpctrain.study.starts import find_log, wait

# Seconds beyond its limit after which a run that does not end is told to: for what is set up and
# compiled, and for a last call of a method.
GRACE = 900


@dataclass(frozen=True)
class PeerRun:
    """A run of a program on a problem, which is made at once, to its end.

    Attributes:
        program: a name in `PROGRAMS`.
        problem: a name in `cases.CASES`.
        seconds: of training.
        threads: of the run.
    """

    program: str
    problem: str
    seed: int
    seconds: float
    threads: int

    @property
    def name(self) -> str:
        return f"{self.program}, {self.problem}, seed {self.seed}"

    def find_result(self, folder: Path) -> Path:
        """Where its result lies; with other limits it is another one."""
        limits = f"{self.seconds:g}s-{self.threads}t"
        name = f"{self.problem}-{self.seed}-{self.program.replace(' ', '-')}.json"
        return folder / "results" / limits / name

    def has_ended(self, folder: Path) -> bool:
        return self.find_result(folder).is_file()

    def advance(self, folder: Path, signals: StopSignals, seconds: float) -> None:
        """Makes the run, whatever the time.

        Raises:
            UnavailableError: its program cannot be installed.
            RunError: it left no result; its log says why.
        """
        result = self.find_result(folder)
        start = folder / "starts" / f"{self.problem}-{self.seed}.npz"
        if not start.is_file():
            write_start(self.problem, self.seed, start)
        command = self._make_command(PROGRAMS[self.program].find_python(folder), start, result)
        result.parent.mkdir(parents=True, exist_ok=True)
        log = find_log(result)
        with log.open("w") as stream:
            process = subprocess.Popen(
                command,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=self._make_environment(folder),
                preexec_fn=partial(os.sched_setaffinity, 0, self._choose_cores()),
            )
            status = wait(process, signals, self.seconds + GRACE)
        if status or not result.is_file():
            raise RunError(f"{self.name} failed ({status}): see {log}")

    def _make_command(self, python: str, start: Path, result: Path) -> list[str]:
        program = PROGRAMS[self.program]
        command = [python, str(WORKERS / program.script), str(start), str(result.absolute())]
        command += ["--seconds", str(self.seconds), "--error", str(min(TARGETS))]
        return [*command, "--threads", str(self.threads), "--variant", program.variant]

    def _make_environment(self, folder: Path) -> dict[str, str]:
        environment = os.environ | {
            "OMP_NUM_THREADS": str(self.threads),
            # torch.compile starts from nothing in every run, and writes below the folder.
            "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(folder.absolute() / "compiled"),
        }
        if not PROGRAMS[self.program].packages:
            environment["PYTHONPATH"] = os.getcwd()
        return environment

    def _choose_cores(self) -> list[int]:
        return sorted(os.sched_getaffinity(0))[: self.threads]


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

    @property
    def tasks(self) -> list[PeerRun]:
        """The runs, every program with one seed before the next seed."""
        return [
            self.plan_run(program, problem, seed)
            for seed in self.seeds
            for problem in self.problems
            for program in self.programs
        ]

    def plan_run(self, program: str, problem: str, seed: int) -> PeerRun:
        """What is run of a program on a problem with a seed."""
        return PeerRun(program, problem, seed, self.seconds, self.threads)

    def find_result(self, program: str, problem: str, seed: int) -> Path:
        """Where the result of a run lies."""
        return self.plan_run(program, problem, seed).find_result(self.folder)

    def read(self, program: str, problem: str, seed: int) -> dict | None:
        """Reads the result of a run; None where there is none."""
        path = self.find_result(program, problem, seed)
        return json.loads(path.read_text()) if path.is_file() else None
