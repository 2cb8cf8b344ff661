"""`hpctrain scaling`: what it runs, what it says, and what it refuses."""

import csv
import io
import os
from types import SimpleNamespace

import pytest

from hpctrain import cli
from hpctrain.errors import InputError
from hpctrain.job.settings import load_job
from hpctrain.results.summary import StudyError
from hpctrain.store.run_file import read_run
from hpctrain.store.table_file import read_table, write_table
from hpctrain.study import projection, scaling, scaling_rows, starts
from hpctrain.study.scaling import ScalingStudy

JOB = """
[problem]
name = "klein-gordon"
points = 64
[network]
depth = 3
width = 4
[solver]
name = "ssbroyden"
[parallel]
chunks = 8
[stop]
max_iterations = 100
error = 1e-3
"""


@pytest.fixture
def job(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    return str(path)


@pytest.fixture
def two_cores(cleared_shared_memory):
    """Has the tests run on two cores, so that three ranks are too many on any machine."""
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("two ranks are to be measured, on two cores")
    os.sched_setaffinity(0, sorted(cores)[:2])
    yield
    os.sched_setaffinity(0, cores)


def test_ranks_beyond_the_cores_are_projected_and_marked(two_cores, capsys, job, tmp_path):
    runs, output = tmp_path / "runs", tmp_path / "out.h5"
    words = ["--ranks", "1,2,3", "--iterations", "8", "--repeats", "1", "--runs", runs]
    words += ["--network", "infiniband-hdr", "-o", output]
    assert cli.main(["scaling", job, *map(str, words), "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["ranks"], row["how"]) for row in rows] == [
        ("1", "measured"), ("2", "measured"), ("3", "projected"),
    ]  # fmt: skip
    assert float(rows[0]["speed-up"]) == 1 and float(rows[0]["bytes"]) == 0
    assert float(rows[2]["messages"]) > float(rows[1]["messages"]) > 0
    assert len({row["gradient evals"] for row in rows}) == 1
    assert all(float(row["H rows MB"]) > 0 for row in rows)
    shares = ("local", "global", "communication", "wait")
    total = sum(float(rows[2][f"{name} seconds"]) for name in shares)
    assert total == pytest.approx(float(rows[2]["seconds"]))
    table, facts = read_table(output)
    assert table["how"].tolist() == ["measured", "measured", "projected"]
    assert (facts["kind"], facts["network"]) == ("strong", "infiniband-hdr")
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    found = {P: [read_run(runs / f"ranks-{P}-run-1.h5")] for P in (1, 2, 3)}
    network = projection.find_network("infiniband-hdr")
    text = scaling_rows.report(scaling_rows.make_scaling(found, {1, 2}, False, network, network, 1))
    assert "Strong scaling" in text and "a model, not a measurement" in text
    assert "P = 2: projected" in text and "P = 3: projected" not in text


@pytest.mark.parametrize(("asked", "samples"), [({"points": 64}, 64), ({"samples": None}, 70)])
def test_samples_are_those_asked_for_or_else_all_that_a_run_had(asked, samples):
    run = SimpleNamespace(attributes={"samples": 70})
    assert scaling_rows._count_samples(asked, run) == samples


def test_samples_grow_with_the_ranks_in_weak_scaling_only(job):
    for weak, points in ((False, [64, 64]), (True, [64, 128])):
        planned = scaling._plan(ScalingStudy(job, [1, 2], weak=weak, repeats=1))
        assert [run.job.problem.points for run in planned] == points


def test_a_fixed_number_of_iterations_comes_after_a_warm_up_and_takes_the_jobs_criteria_away(job):
    (run,) = scaling._plan(ScalingStudy(job, [1], iterations=12, repeats=1))
    assert run.job.stop.max_iterations == 12 + 3 and run.job.output.error_every == 3
    assert run.job.stop.error == 1e-300
    (run,) = scaling._plan(ScalingStudy(job, [1], repeats=1))
    assert run.job.stop == load_job(job).stop and run.job.parallel.threads == 1


def test_a_fixed_number_of_iterations_takes_the_last_stages_own_criteria_away_too(tmp_path):
    text = JOB.replace(
        '[solver]\nname = "ssbroyden"\n',
        '[[solver]]\nname = "adam"\nstop = {max_iterations = 2}\n'
        '[[solver]]\nname = "ssbroyden"\nstop = {max_iterations = 3, error = 0.1}\n',
    )
    (tmp_path / "job.toml").write_text(text)
    (run,) = scaling._plan(ScalingStudy(str(tmp_path / "job.toml"), [1], iterations=12, repeats=1))
    first, last = (stage.stop for stage in run.job.solver)
    assert first.max_iterations == 2 and run.job.stop.max_iterations == 15
    assert last.max_iterations > 10**6 and last.error == 1e-300


def test_runs_on_all_rank_counts_come_before_the_next_repeat(job):
    planned = scaling._plan(ScalingStudy(job, [1, 2], repeats=2))
    assert [run.name for run in planned] == [
        "ranks-1-run-1", "ranks-2-run-1", "ranks-1-run-2", "ranks-2-run-2",
    ]  # fmt: skip


def test_srun_packs_ranks_onto_nodes_and_overcommits_beyond_the_allocation(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_NNODES", "4")
    found = {ranks: scaling._choose_launcher("slurm", ranks)[2:] for ranks in (1, 2, 3, 16)}
    assert found[1] == ("--nodes=1", "--ntasks=1") and found[2] == ("--nodes=1", "--ntasks=2")
    assert found[3] == ("--nodes=2", "--ntasks=3")
    assert found[16] == ("--nodes=4", "--ntasks=16", "--overcommit")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert scaling._count_cores("slurm") == 24


REFUSED = {
    "order": (["--ranks", "2,1"], "--ranks 2,1: expected ascending whole numbers"),
    "zero": (["--ranks", "0,1"], "--ranks 0,1: expected ascending whole numbers"),
    "chunks": (["--ranks", "1,16"], "--ranks 16: at most parallel.chunks = 8"),
    "repeats": (["--repeats", "0"], "--repeats 0: at least 1"),
    "iterations": (["--iterations", "1"], "--iterations 1: at least 2"),
    "network": (["--network", "string"], "--network string: allowed are infiniband-ndr"),
    "output": (["-o", "out.png"], "-o out.png: a study's name ends in .h5 or .hdf5"),
    "path": (["--set", "output.path=a.h5"], "--set output.path: scaling sets it, by --runs"),
    "threads": (["--set", "parallel.threads=999"], "begin with fewer ranks or set"),
    "allocation": (["--launcher", "slurm"], "--launcher slurm: start it inside an allocation"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_studied_is_one_line_and_status_2(job, tmp_path, monkeypatch, capsys, case):
    from hpctrain import cli

    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    monkeypatch.setattr(starts, "find_mpirun", lambda: "mpirun")
    words, message = REFUSED[case]
    assert cli.main(["scaling", job, "--runs", str(tmp_path / "runs"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hpctrain: ") and message in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("blocked", ["out.h5", "out.png", "runs"])
def test_what_cannot_be_written_is_refused_before_any_run(
    job, tmp_path, monkeypatch, refusal, blocked
):
    monkeypatch.setattr(starts, "ensure", lambda *_: pytest.fail("a run was started"))
    (tmp_path / blocked).write_text("")
    words = ["--runs", tmp_path / "runs", "-o", tmp_path / "out.h5", "--ranks", "1"]
    if blocked == "runs":
        reason = f"--runs {tmp_path}/runs cannot be written: Not a directory"
    else:
        (tmp_path / blocked).unlink()
        (tmp_path / blocked).mkdir()
        reason = f"{tmp_path / blocked} cannot be written: Is a directory"
    assert refusal("scaling", job, "--network", "infiniband-hdr", *words) == reason


def test_weak_scaling_needs_samples_that_are_said(tmp_path):
    job = tmp_path / "logistic.toml"
    job.write_text('[problem]\nname="logistic"\ndata="a.libsvm"\n[solver]\nname="newton"\n')
    with pytest.raises(StudyError, match=r"--weak: the job must say problem\.samples"):
        scaling._plan(ScalingStudy(str(job), [1], weak=True))


def test_a_table_reads_back_and_nothing_else_is_taken_for_one(tmp_path):
    path = tmp_path / "a.h5"
    write_table(path, {"x": [1.5, 2.0], "how": ["measured", "projected"]}, {"kind": "weak"})
    columns, facts = read_table(path)
    assert columns["x"].tolist() == [1.5, 2] and columns["how"].tolist()[1] == "projected"
    assert facts == {"kind": "weak"} and [each.name for each in tmp_path.iterdir()] == ["a.h5"]
    path.write_bytes(b"else")
    with pytest.raises(InputError, match="not a table"):
        read_table(path)
