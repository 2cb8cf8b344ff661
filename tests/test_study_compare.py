"""Comparisons say what several runs hold together, and run only what is missing."""

import csv
import io
import math
import sys

import numpy as np
import pytest

from hpctrain import cli
from hpctrain.job.own_code import list_own_files, write_digests
from hpctrain.job.settings import load_job, write_toml
from hpctrain.results.summary import StudyError, Summary
from hpctrain.store.run_file import RunWriter, read_run
from hpctrain.study import bands, compare, seeds, starts
from hpctrain.study.compare import Study
from hpctrain.study.seeds import SeedRuns, Spread
from hpctrain.study.starts import PlannedRun, UnfinishedError

COLUMNS = {
    "iteration": "i8",
    "seconds": "f8",
    "loss": "f8",
    "gradient_evaluations": "f8",
    "update_cost": "f8",
    "error": "f8",
}
PHASES = ("local", "global", "communication", "validation", "io")
JOB = """
[problem]
name = "burgers"
points = 64
[network]
depth = 3
width = 4
[solver]
name = "{solver}"
[parallel]
chunks = 4
threads = 1
[output]
error_every = 1
[stop]
max_iterations = 3
error = 0.02
"""


def write_run(
    path,
    job="",
    errors=(),
    phases=None,
    reason="stop.error reached",
    ranks=1,
    code="{}",
    final=None,
):
    """A run of one record an entry: iteration i, i seconds, 2i gradients, an update cost of 3i."""
    run = RunWriter(
        path,
        job=job,
        environment={"ranks": ranks, "threads": 1, "own_code": code},
        columns=COLUMNS,
        phases=PHASES,
        ranks=ranks,
    )
    for i, error in enumerate(errors):
        row = {"iteration": i, "seconds": i, "gradient_evaluations": 2 * i, "update_cost": 3 * i}
        phase = np.full((ranks, len(PHASES), 2), 0.5) if phases is None else phases[i]
        run.append(row | {"loss": error**2, "error": error}, phase)
    run.finish(reason, None, final)
    return path


def group(folder, label, *runs, job="", **options):
    """The runs of a job, each given by its errors."""
    paths = [
        write_run(folder / f"{label}-{k}.h5", job, errors, **options)
        for k, errors in enumerate(runs)
    ]
    return SeedRuns(label, tuple(Summary(read_run(path)) for path in paths))


@pytest.fixture
def jobs(tmp_path):
    """Job files of two solvers for one problem."""
    paths = []
    for solver in ("adam", "lbfgs"):
        path = tmp_path / f"{solver}.toml"
        path.write_text(JOB.format(solver=solver))
        paths.append(str(path))
    return paths


@pytest.fixture
def no_starts(monkeypatch):
    """Fails where a run would be started."""

    def start(run, path, signals):
        raise AssertionError(f"{path} would be run")

    monkeypatch.setattr(starts, "start", start)


def test_parallel_time_is_the_slowest_ranks_cpu_time_and_the_least_waiting(tmp_path):
    """By hand; [rank][phase] = (wall, cpu), validation and io left out."""
    first = [
        [(9, 3.0), (9, 1.0), (0.25, 7), (9, 9), (9, 9)],
        [(9, 2.0), (9, 1.5), (1.25, 7), (9, 9), (9, 9)],
    ]
    third = [
        [(9, 0.0), (9, 0.5), (0.75, 7), (9, 9), (9, 9)],
        [(9, 4.0), (9, 0.25), (0.5, 7), (9, 9), (9, 9)],
    ]
    phases = [np.array(first), None, np.array(third)]
    path = write_run(tmp_path / "a.h5", "", [1.0, math.nan, 0.1], phases, ranks=2)
    summary = Summary(read_run(path))
    expected = [3 + 1.5 + 0.25, math.nan, 4.75 + 4 + 0.5 + 0.5]
    np.testing.assert_array_equal(summary.parallel_seconds, expected)
    assert summary.find_reached(0.1).parallel_seconds == 9.75


def test_a_spread_is_the_median_and_the_range():
    assert Spread.of([5, 1, 2]) == (2, 1, 5)
    assert Spread.of([1, math.inf]) == (math.inf, 1, math.inf)
    assert str(Spread.of([3.0, 3.0])) == "3"
    assert str(Spread.of([1.0, math.inf, 2.0])) == "2 [1, inf]"
    assert str(Spread.of([math.nan, 1.0])) == "-"


def test_rows_hold_median_range_and_how_many_seeds_reached_an_error(tmp_path):
    runs = group(
        tmp_path, "adam", [1, 0.5, 0.09], [1, 0.08], [1, 0.5, 0.4, 0.3], job="[stop]\nerror = 0.4"
    )
    assert runs.measured == (0.09, 0.08, 0.3)
    assert runs.cost("gradient_evaluations") == (4, 2, 6)
    assert runs.find_cost_to(0.1, "iteration") == (2, 1, math.inf)
    assert runs.find_cost_to(0.4, "update_cost") == (6, 3, 6)
    assert runs.find_cost_to(0.1, "parallel_seconds") == (4.5, 3, math.inf)
    rows = seeds.make_target_rows([runs])
    assert [(row["error"], row["reached"]) for row in rows] == [
        ("0.4", "3 of 3"),
        ("0.1", "2 of 3"),
    ]


def test_the_error_at_the_end_is_that_of_the_final_parameters(tmp_path):
    """Records 0 and 1 were measured, the last one was not."""
    runs = group(tmp_path, "adam", [1, 0.5, math.nan], final={"final.error": 0.2})
    assert runs.measured.median == 0.2


def test_a_run_that_diverged_has_an_infinite_error(tmp_path):
    good = group(tmp_path, "good", [1, 0.5])
    bad = group(tmp_path, "bad", [1, 0.1], reason="the loss is not finite")
    both = SeedRuns("sgd", good.runs + bad.runs)
    assert both.measured == (math.inf, 0.5, math.inf)
    assert both.ends == "1 stop.error reached, 1 the loss is not finite"


def test_tables_name_solvers_networks_and_what_parallel_time_is(tmp_path):
    network = "[network]\nkind = 'mlp'\ndepth = {}\nwidth = 4"
    groups = [
        group(tmp_path, "adam", [1, 0.05], job=network.format(3)),
        group(tmp_path, "lbfgs", [1, 0.2], job=network.format(4)),
    ]
    text = seeds.format_comparison(groups, "text")
    assert "mlp 3x4" in text and "the jobs train different networks" in text
    assert "a model, not a measurement; ranks x threads: 1x1" in text
    assert "0 of 1" in text and "|" in seeds.format_comparison(groups, "markdown")
    assert "network" not in seeds.format_comparison(groups[:1], "text")
    rows = list(csv.DictReader(io.StringIO(seeds.format_comparison(groups, "csv"))))
    assert [row["solver"] for row in rows] == ["adam", "lbfgs"]
    assert rows[0]["error median"] == "0.05" and rows[1]["seeds at error <= 0.1"] == "0"
    assert rows[1]["seconds at error <= 0.1 median"] == "inf"


def test_a_band_holds_mean_and_range_and_an_ended_curve_keeps_its_last_value():
    slow = np.array([0.0, 2.0, 4.0]), np.array([1.0, 1e-2, 1e-4])
    fast = np.array([0.0, 1.0]), np.array([1.0, 1e-3])
    x, mean, lowest, highest = bands.find_band([slow, fast])
    np.testing.assert_allclose(x, [0, 1, 2, 4])
    np.testing.assert_allclose(lowest, [1, 1e-3, 1e-3, 1e-4])
    np.testing.assert_allclose(highest, [1, 0.1, 1e-2, 1e-3])
    np.testing.assert_allclose(mean, (lowest + highest) / 2)


def test_a_band_begins_where_all_curves_have_begun():
    curves = [(np.array([0.1, 1.0]), np.ones(2)), (np.array([0.3, 2.0]), np.ones(2))]
    assert bands.find_band(curves).x[0] == 0.3


def test_figures_are_drawn_of_errors_or_losses_close_and_far_apart(tmp_path):
    fast, slow = 0.5 ** np.arange(5), 0.99 ** np.arange(300)
    groups = [
        group(tmp_path, "fast", fast, 2 * fast, job="[stop]\nerror = 0.1"),
        group(tmp_path, "slow", slow, job="[stop]\nerror = 0.1"),
        group(tmp_path, "empty", []),
    ]
    for count, name, magic in ((3, "all.png", b"\x89PNG"), (1, "one.pdf", b"%PDF")):
        output = tmp_path / "figures" / name
        bands.draw(groups[:count], output)
        assert output.read_bytes().startswith(magic)


def test_finished_runs_of_the_very_same_job_are_taken_and_others_are_not(tmp_path, jobs, no_starts):
    folder = tmp_path / "runs"
    study = Study(jobs[:1], [4], folder=str(folder))
    job = write_toml(load_job(jobs[0], ["seed=4", "output.path=elsewhere.h5"]))
    other = write_toml(load_job(jobs[0], ["seed=4", "solver.beta1=0.5"]))
    folder.mkdir()
    write_run(folder / "adam-seed4.h5", other, [1.0])
    write_run(folder / "adam-seed4-2.h5", job, [1.0], reason="stopped by a signal")
    write_run(folder / "adam-seed4-3.h5", job, [1.0], ranks=2)
    (folder / "adam-seed4-4.h5").write_text("damaged")
    (folder / "adam-seed4-5.ckpt").mkdir()
    with pytest.raises(AssertionError, match=r"adam-seed4-6\.h5 would be run"):
        compare.compare(study)
    write_run(folder / "adam-seed4-6.h5", job, [1.0, 0.1], reason="stop.max_seconds reached")
    assert "stop.max_seconds reached" in compare.compare(study)


def test_a_finished_run_of_other_code_is_not_taken(tmp_path, jobs, no_starts):
    (tmp_path / "own.py").write_text("first")
    job, folder = tmp_path / "own.toml", tmp_path / "runs"
    job.write_text(JOB.format(solver="adam").replace("burgers", f"{tmp_path}/own.py:Own"))
    folder.mkdir()
    code = write_digests(list_own_files(load_job(str(job))))
    write_run(folder / "own-seed0.h5", write_toml(load_job(str(job))), [1.0], code=code)
    study = Study([str(job)], [0], folder=str(folder))
    assert "stop.error reached" in compare.compare(study)
    (tmp_path / "own.py").write_text("second")
    with pytest.raises(AssertionError, match=r"own-seed0-2\.h5 would be run"):
        compare.compare(study)


def test_ranks_are_started_by_mpirun_and_one_rank_alone(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(starts, "find_mpirun", lambda: "mpirun")
    path = tmp_path / "run.h5"
    alone, parallel = (
        compare._plan(Study(jobs, [7], ["solver.name=lbfgs"], ranks=ranks))[0].make_command(path)
        for ranks in (1, 3)
    )
    assert alone[:5] == [sys.executable, "-m", "hpctrain", "run", jobs[0]]
    assert alone[-4:] == ["--set", "solver.name=lbfgs", "--set", "seed=7"]
    assert parallel == ["mpirun", "-n", "3", *alone]


def test_solvers_that_come_twice_are_told_apart_by_their_files(tmp_path, jobs):
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / "adam.toml"
    twin.write_text(JOB.format(solver="sgd"))
    labels = [run.label for run in compare._plan(Study([*jobs, str(twin)], [0]))]
    assert labels == ["adam", "lbfgs", "sgd"]
    twin.write_text(JOB.format(solver="adam"))
    labels = [run.label for run in compare._plan(Study([*jobs, str(twin)], [0]))]
    assert labels == [f"adam ({jobs[0]})", "lbfgs", f"adam ({twin})"]


@pytest.mark.parametrize("text", ["", "0,", "1,1", "-1", "a", "0;1"])
def test_seeds_are_different_whole_numbers(text):
    with pytest.raises(StudyError, match=r"--seeds .*: expected different whole numbers"):
        compare.parse_seeds(text)
    assert compare.parse_seeds("3, 1") == [3, 1]


REFUSED = {
    "a problem of its own": ([], "is not that of"),
    "ranks": (["--ranks", "0"], "--ranks 0: at least 1"),
    "seed": (["--set", "seed=3"], "--set seed: compare sets it, by --seeds"),
    "output": (["--set", "output.path=a.h5"], "--set output.path: compare sets it, by --runs"),
    "seeds": (["--seeds", "one"], "--seeds one: expected"),
    "figure": (["-o", "a.gif"], "a.gif: a figure's name ends in .png, .pdf or .svg"),
    "key": (
        ["--set", "solver.beta1=0.3"],
        "solver.beta1 is a setting of apts-parts, adam, not of lbfgs",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_compared_is_one_line_and_status_2(refusal, tmp_path, jobs, case):
    words, message = REFUSED[case]
    if case.startswith("a problem"):
        other = tmp_path / "lbfgs.toml"
        other.write_text(JOB.format(solver="lbfgs").replace('"burgers"', '"allen-cahn"'))
    assert message in refusal("compare", *jobs, "--runs", tmp_path / "runs", *words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("no_starts")
def test_what_cannot_be_written_is_refused_before_any_run(refusal, tmp_path, jobs):
    runs, file = tmp_path / "runs", jobs[0]
    said = refusal("compare", *jobs, "--runs", runs, "-o", f"{file}/figure.png")
    assert said == f"{file}/figure.png cannot be written: Not a directory"
    assert not runs.exists()
    said = refusal("compare", *jobs, "--runs", file)
    assert said == f"--runs {file} cannot be written: Not a directory"


def test_a_job_given_twice_and_a_launcher_are_refused(jobs, monkeypatch):
    with pytest.raises(StudyError, match="given twice"):
        compare.compare(Study([jobs[0], jobs[0]], [0]))
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(StudyError, match="starts the ranks itself"):
        compare.compare(Study(jobs, [0]))


def instead(monkeypatch, program):
    """Lets a Python program stand for every run."""
    monkeypatch.setattr(PlannedRun, "make_command", lambda *_: [sys.executable, "-c", program])


def test_a_run_that_fails_ends_the_study_with_its_log_named(jobs, tmp_path, monkeypatch):
    instead(monkeypatch, "raise SystemExit(3)")
    with pytest.raises(UnfinishedError, match=r"adam, seed 0 failed \(3\): see .*seed0\.log") as e:
        compare.compare(Study(jobs, [0], folder=str(tmp_path)))
    assert e.value.status == 1


def test_bad_input_that_only_a_run_finds_is_passed_on(jobs, tmp_path, monkeypatch):
    instead(monkeypatch, "print('x\\nhpctrain: no such equation'); raise SystemExit(2)")
    with pytest.raises(StudyError, match=r"^no such equation$"):
        compare.compare(Study(jobs, [0], folder=str(tmp_path)))


def test_a_signal_is_handed_on_and_ends_the_study_with_status_75(jobs, tmp_path, monkeypatch):
    program = "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    instead(monkeypatch, program)
    with pytest.raises(UnfinishedError, match="the same command goes on from here") as caught:
        compare.compare(Study(jobs, [0], folder=str(tmp_path)))
    assert caught.value.status == 75


def test_two_jobs_and_two_seeds_are_run_once_and_drawn(capsys, tmp_path, jobs, runs_here):
    runs, figure = tmp_path / "runs", tmp_path / "figure.png"
    words = ["compare", *jobs, "--seeds", "0,1", "--runs", str(runs), "-o", str(figure)]
    words += ["--format", "csv"]
    assert cli.main(words) == 0
    first = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(first.out)))
    assert [(row["solver"], row["seeds"]) for row in rows] == [("adam", "2"), ("lbfgs", "2")]
    assert float(rows[0]["error lowest"]) < float(rows[0]["error highest"])
    assert rows[0]["iterations median"] == "3.0" and rows[0]["gradient evals median"] == "4.0"
    assert float(rows[1]["parallel s median"]) > 0
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert len(list(runs.glob("*.h5"))) == 4 and first.err.count(" …") == 4
    assert cli.main(words) == 0
    again = capsys.readouterr()
    assert again.out == first.out
    assert again.err.count("is there") == 4 and len(list(runs.glob("*.h5"))) == 4
