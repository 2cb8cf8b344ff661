"""Scaling studies: one job on several rank counts, measured where there are cores, else projected.

Strong: the same job on P ranks. Weak: with P times the samples. Every run is an MPI job of its own.
Runs on more ranks than cores are made too; how long they would take with enough cores is projected
from their CPU times and a model of the network (`projection`).
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hpctrain.job.settings import Job, load_job
from hpctrain.job.stages import name_stages
from hpctrain.job.stop import list_asked
from hpctrain.parallel.launch import find_launched_ranks
from hpctrain.parallel.threads import find_visible_cores
from hpctrain.results.summary import StudyError
from hpctrain.run.signals import StopSignals
from hpctrain.store import writable
from hpctrain.store.run_file import Run, read_run
from hpctrain.store.table_file import write_table
from hpctrain.study import projection, scaling_figure, scaling_rows, starts
from hpctrain.study.projection import Network
from hpctrain.study.scaling_rows import Scaling
from hpctrain.study.starts import PlannedRun
from hpctrain.study.stretch import Stretch

# Of a stretch of fixed length, the part before it that warms up.
WARM_UP = 0.25
SUFFIXES = (".h5", ".hdf5")
SET_BY = {"output.path": "--runs", "parallel.transport": "--launcher"}


@dataclass(frozen=True)
class ScalingStudy:
    """What is to be run.

    Args:
        job: the job file.
        ranks: the rank counts in ascending order.
        weak: whether the samples grow with the ranks.
        launcher: which command starts the ranks.
        iterations: how many are measured in each run. None lets the job's own criteria end it.
        repeats: how many runs there are on each rank count.
        network: a name in `projection.NETWORKS`; None for the network that is here.
        overrides: settings that replace the job's.
        folder: where run files and logs lie; by default a folder named after the job.
    """

    job: str
    ranks: Sequence[int]
    weak: bool = False
    launcher: Literal["mpirun", "slurm"] = "mpirun"
    iterations: int | None = None
    repeats: int = 5
    network: str | None = None
    overrides: Sequence[str] = ()
    folder: str | None = None

    @property
    def kind(self) -> str:
        """ "strong" or "weak"."""
        return "weak" if self.weak else "strong"


def scaling(study: ScalingStudy, table_style: str, output: str | None) -> str:
    """Runs what is missing, saves table and figure, returns the tables; for errors see `scale`."""
    if output is not None:
        _check_output(Path(output))
    found = scale(study)
    if output is not None:
        save(found, Path(output))
    return scaling_rows.report(found, table_style)


def scale(study: ScalingStudy) -> Scaling:
    """Starts the runs that are missing, and returns the results; reports progress to stderr.

    Raises:
        InputError: the file is no job, something is asked for that does not exist, or nothing can
            be written where it is to be.
        UnfinishedError: a run failed, or a signal came.
    """
    planned = _plan(study)
    named = projection.find_network(study.network) if study.network else None
    cores = _count_cores(study.launcher)
    threads = planned[0].job.parallel.threads or 1
    if study.ranks[0] * threads > cores:
        raise StudyError(
            f"--ranks {study.ranks[0]}: with {threads} threads each these need more than the"
            f" {cores} cores there are; begin with fewer ranks or set parallel.threads lower"
        )
    if named is None and cores < 2:
        raise StudyError("--network: name one, calls between ranks cannot be timed on one core")
    folder = starts.make_folder(study.folder or f"runs/scaling-{Path(study.job).stem}-{study.kind}")
    runs: dict[int, list[Run]] = {}
    with StopSignals() as signals:
        calls = _fit_network(study) if cores > 1 else None
        for count, run in enumerate(planned, start=1):
            path = starts.ensure(run, folder, signals, f"[{count}/{len(planned)}]")
            runs.setdefault(run.ranks, []).append(read_run(path))
            Stretch(runs[run.ranks][-1]).check()
    networks = [network for network in (named, calls) if network is not None]
    network = networks[0] if len(networks) == 1 else networks[0].add_calls(networks[1])
    measurable = {P for P in study.ranks if P * threads <= cores}
    return scaling_rows.make_scaling(
        runs, measurable, study.weak, network, calls or network, threads
    )


def _check_output(output: Path) -> None:
    """Checks that the table, and the figure beside it, can be written."""
    if output.suffix not in SUFFIXES:
        raise StudyError(f"-o {output}: a study's name ends in {' or '.join(SUFFIXES)}")
    for path in (output, _name_figure(output)):
        writable.check_file(path)


def _name_figure(output: Path) -> Path:
    return output.with_suffix(".png")


def save(scaling: Scaling, output: Path) -> None:
    """Writes the table as HDF5, and the figure beside it."""
    network = scaling.network
    facts: dict[str, str | int | float] = {
        "kind": scaling.kind,
        "threads": scaling.threads,
        "host": scaling.host,
        "job": scaling.job,
        "network": network.name,
        "latency": network.latency,
        "bandwidth": network.bandwidth,
        "largest_useful": scaling.largest_useful,
    }
    write_table(output, scaling_rows.list_columns(scaling), facts)
    scaling_figure.draw(scaling, _name_figure(output))


def parse_ranks(text: str) -> list[int]:
    """Reads the rank counts in a text such as "1,2,4", in ascending order.

    Raises:
        StudyError: it is no such text.
    """
    words = [word.strip() for word in text.split(",")]
    counts = [int(word) for word in words if word.isdecimal()]
    if len(counts) < len(words) or 0 in counts or sorted(set(counts)) != counts:
        raise StudyError(f"--ranks {text}: expected ascending whole numbers, such as 1,2,4,8")
    return counts


def _plan(study: ScalingStudy) -> list[PlannedRun]:
    """Lists all runs: one on each rank count, then all again.

    So a machine that slows down affects all rank counts alike.
    """
    job = load_job(study.job, study.overrides)
    _check(study, job)
    planned = []
    for repeat in range(1, study.repeats + 1):
        for P in study.ranks:
            settings = (*study.overrides, *_choose_settings(study, job, P))
            planned.append(
                PlannedRun(
                    label=f"{study.kind}, {P} rank{'s' if P > 1 else ''}",
                    variant=f"run {repeat} of {study.repeats}",
                    name=f"ranks-{P}-run-{repeat}",
                    file=study.job,
                    overrides=settings,
                    job=load_job(study.job, settings),
                    ranks=P,
                    launcher=_choose_launcher(study.launcher, P),
                )
            )
    return planned


def _check(study: ScalingStudy, job: Job) -> None:
    """Raises a StudyError for what does not exist, before any run."""
    if find_launched_ranks(os.environ).size > 1:
        raise StudyError("scaling starts the ranks itself: run it alone, with --ranks")
    for option, value in {"repeats": study.repeats, "iterations": study.iterations}.items():
        least = 2 if option == "iterations" else 1
        if value is not None and value < least:
            raise StudyError(f"--{option} {value}: at least {least}")
    if study.ranks[-1] > job.parallel.chunks:
        raise StudyError(
            f"--ranks {study.ranks[-1]}: at most parallel.chunks = {job.parallel.chunks}"
        )
    for key, instead in SET_BY.items():
        if any(override.partition("=")[0].strip() == key for override in study.overrides):
            raise StudyError(f"--set {key}: scaling sets it, by {instead}")
    if study.weak and job.problem.samples_asked is None:
        raise StudyError("--weak: the job must say problem.samples, which grows with the ranks")


def _choose_settings(study: ScalingStudy, job: Job, ranks: int) -> list[str]:
    """Chooses the settings that replace the job's for a run on so many ranks."""
    settings = [f"parallel.threads={job.parallel.threads or 1}", "output.checkpoint_every=0"]
    if study.weak:
        samples = ranks * (job.problem.samples_asked or 0)
        settings.append(f"problem.{job.problem.samples_key}={samples}")
    if study.iterations is not None:
        warm_up = _count_warm_up(study.iterations)
        settings += [f"output.error_every={warm_up}",
                     f"stop.max_iterations={warm_up + study.iterations}"]  # fmt: skip
        # Others would end a run before that, and so would the last stage's own.
        key, last = [*name_stages(job.solver)][-1]
        asked = {
            f"{place}.{criterion.key}": criterion
            for place, stop in (("stop", job.stop), (f"{key}.stop", last.stop))
            for criterion, _ in list_asked(stop)
        }
        asked.pop("stop.max_iterations", None)
        settings += [f"{key}={criterion.out_of_reach!r}" for key, criterion in asked.items()]
    return settings


def _count_warm_up(iterations: int) -> int:
    """Counts the iterations before those that are measured; the latter are a multiple of them."""
    most = max(1, int(WARM_UP * iterations))
    return next(each for each in range(most, 0, -1) if iterations % each == 0)


def _count_cores(launcher: str) -> int:
    """Counts the cores that all ranks have together."""
    if launcher == "mpirun":
        return len(find_visible_cores())
    tasks = os.environ.get("SLURM_NTASKS", "")
    if not tasks.isdigit():
        raise StudyError("--launcher slurm: start it inside an allocation (sbatch, salloc)")
    return int(tasks) * int(os.environ.get("SLURM_CPUS_PER_TASK", "1"))


def _choose_launcher(launcher: str, ranks: int) -> tuple[str, ...]:
    """Chooses the words of the command that starts ranks; under SLURM on few nodes."""
    if launcher == "mpirun":
        return starts.find_launcher_words(ranks)
    tasks, nodes = (int(os.environ.get(f"SLURM_{name}", "1")) for name in ("NTASKS", "NNODES"))
    needed = min(nodes, math.ceil(ranks / max(1, tasks // nodes)))
    more = () if ranks <= tasks else ("--overcommit",)
    return ("srun", "--kill-on-bad-exit=1", f"--nodes={needed}", f"--ntasks={ranks}", *more)


def _fit_network(study: ScalingStudy) -> Network:
    """Fits the model of a network to calls measured on two ranks."""
    with tempfile.TemporaryDirectory(dir=None if study.launcher == "mpirun" else ".") as folder:
        output = Path(folder) / "calls.json"
        words = [sys.executable, "-m", "hpctrain.parallel.collectives", str(output)]
        command = [*_choose_launcher(study.launcher, 2), *words]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True)
        if ended.returncode:
            raise starts.UnfinishedError(f"no calls could be timed: {ended.stderr.strip()}", 1)
        calls = json.loads(output.read_text())
    columns = [[call[key] for call in calls] for key in ("messages", "bytes", "seconds")]
    found = projection.fit_network("calls between 2 ranks here", *columns)
    off = projection.find_worst_ratio(found, *columns)
    print(f"{found}; the worst is off by a factor of {off:.2g}", file=sys.stderr, flush=True)
    return found
