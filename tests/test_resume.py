"""Going on with a run: after any kill, on a full disk, and what is refused in one line."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from job_texts import TANH, write_text
from trials import assert_same_history

from hpctrain import cli
from hpctrain.run.parts import Place
from hpctrain.store.run_file import read_run

JOB = write_text(
    'name = "klein-gordon"\npoints = 64',
    network=TANH.replace("width = 4", "width = 5"),
    solver='name = "ssbroyden"',
    output="checkpoint_every = 1",
    stop="max_iterations = {iterations}",
    chunks=16,
)
ENDLESS = 10**6


@pytest.fixture(autouse=True, scope="module")
def measure_coarsely():
    """Not here: in the middle of a run file are to be the numbers of its solution."""


@pytest.fixture
def job(write_job):
    return lambda iterations: write_job(JOB.format(iterations=iterations))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of three iterations, to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "job.toml").write_text(JOB.format(iterations=3))
    assert cli.main(["run", str(folder / "job.toml"), "-o", str(folder / "run.h5")]) == 0
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "copy")) / "run.h5"


@pytest.mark.parametrize("kills", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_a_run_killed_at_any_instant_goes_on_and_loses_nothing(python, job, tmp_path, kills):
    driver = Path(__file__).parent / "killed_run.py"
    done = python(driver, tmp_path, job(ENDLESS), str(kills), "1", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found, expected = read_run(tmp_path / "killed.h5"), read_run(tmp_path / "whole.h5")
    assert len(found.history["loss"]) > 4
    assert_same_history(found.history, expected.history)
    assert (np.diff(found.history["seconds"]) >= 0).all()
    assert (np.diff(found.history["wall_seconds"]) > 0).all()


def test_a_finished_run_says_so_and_goes_on_when_its_criterion_is_loosened(run, capsys):
    before = run.read_bytes()
    assert cli.main(["resume", str(run)]) == 0
    assert "has ended: stop.max_iterations reached" in capsys.readouterr().out
    assert run.read_bytes() == before
    assert cli.main(["resume", str(run), "--set", "stop.max_iterations=5"]) == 0
    assert read_run(run).history["iteration"].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_run_that_reached_its_error_still_knows_it(write_job, tmp_path, capsys):
    path = tmp_path / "run.h5"
    job = write_job(JOB.format(iterations=3) + "error = 10.0\n")
    assert cli.main(["run", str(job), "-o", str(path)]) == 0
    before = path.read_bytes()
    assert cli.main(["resume", str(path)]) == 0
    assert "has ended: stop.error reached" in capsys.readouterr().out
    assert path.read_bytes() == before


def test_a_run_file_that_was_put_back_goes_on_from_a_checkpoint_that_it_knows(run):
    """Not from the last one: the history between them is not there."""
    before = run.read_bytes()
    assert cli.main(["resume", str(run), "--set", "stop.max_iterations=4"]) == 0
    whole = read_run(run).history
    run.write_bytes(before)
    assert cli.main(["resume", str(run), "--set", "stop.max_iterations=4"]) == 0
    assert_same_history(read_run(run).history, whole)


@pytest.fixture
def refusal(capsys):
    """What `hpctrain resume` says, on standard error, where it ends with status 2."""

    def refused(path, *settings):
        overrides = [word for setting in settings for word in ("--set", setting)]
        assert cli.main(["resume", str(path), *overrides]) == 2
        return capsys.readouterr().err.splitlines()

    return refused


@pytest.mark.parametrize(
    "setting",
    ["solver.name=lbfgs", "seed=1", "parallel.chunks=8", "output.path=b.h5", "problem={}"],
)
def test_what_the_numbers_depend_on_cannot_be_changed(refusal, run, setting):
    (line,) = refusal(run, setting)
    assert line.startswith(f"hpctrain: --set {setting}: a resumed run keeps this setting; allowed")


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def newer(path):
    path.write_text(path.read_text().replace("hpctrain-checkpoint/3", "hpctrain-checkpoint/4"))


def checkpoint(run, number, name):
    return run.with_suffix(".ckpt") / f"{number:08d}" / name


@pytest.mark.parametrize(
    "name, damage", [("part-0.h5", os.remove), ("part-0.h5", flip), ("manifest.json", newer)]
)
def test_checkpoints_that_are_all_damaged_are_named_and_refused(refusal, run, name, damage):
    for number in (2, 3):
        damage(checkpoint(run, number, name))
    first, second, line = refusal(run)
    assert "00000003: damaged, the one before it is used" in first and "00000002" in second
    assert "none of its checkpoints is whole" in line


def test_missing_checkpoints_do_not_cost_the_history(refusal, run):
    shutil.rmtree(run.with_suffix(".ckpt"))
    assert "its checkpoints are missing: put them back" in refusal(run)[0]
    assert len(read_run(run).history["loss"]) == 4


def test_whether_checkpoints_are_missing_depends_on_the_period_of_the_run_so_far(run, refusal):
    """Of a run that was killed after three iterations, whose first checkpoint was due then."""
    shutil.rmtree(run.with_suffix(".ckpt"))
    with h5py.File(run, "a") as file:
        file.attrs["stop_reason"] = "running"
    period = "output.checkpoint_every="
    (line,) = refusal(run, f"{period}1000")
    assert "its checkpoints are missing" in line
    with h5py.File(run, "a") as file:
        text = file.attrs["job"].replace(b"checkpoint_every = 1", b"checkpoint_every = 3")
        file.attrs["job"] = text  # it was killed while it wrote its first one
    assert cli.main(["resume", str(run), "--set", f"{period}1"]) == 0
    assert read_run(run).history["iteration"].tolist() == [0, 1, 2, 3]


def test_other_kernels_are_named_and_kept_beside_those_of_before(run, capsys, monkeypatch):
    before = read_run(run).attributes["kernels"]
    monkeypatch.setattr(Place, "kernels", "kernels of a test")
    for iterations, warned in ((4, True), (5, False)):
        capsys.readouterr()
        assert cli.main(["resume", str(run), "--set", f"stop.max_iterations={iterations}"]) == 0
        said = f"goes on with other kernels, kernels of a test, in the place of {before}"
        assert (said in capsys.readouterr().err) == warned
        assert read_run(run).attributes["kernels"] == f"{before}, then kernels of a test"


def test_checkpoints_of_another_run_of_the_job_are_refused(refusal, run, tmp_path, job):
    assert cli.main(["run", str(job(3)), "-o", str(tmp_path / "other.h5")]) == 0
    shutil.rmtree(run.with_suffix(".ckpt"))
    shutil.copytree(tmp_path / "other.ckpt", run.with_suffix(".ckpt"))
    first, _, last = refusal(run)
    assert "manifest.json is of another run" in first and "none of its checkpoints" in last


def test_a_run_file_whose_job_was_changed_is_refused(refusal, run):
    with h5py.File(run, "r+") as file:
        file.attrs["job"] = file.attrs["job"].replace(b"seed = 0", b"seed = 7")
    assert refusal(run)[-1].endswith("is of another job: seed = 7, not 0")


def forget(manifest, setting):
    """Makes a checkpoint one of an hpctrain that had no such setting."""
    content = json.loads(manifest.read_text())["content"]
    del content["extra"]["job"][setting]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    manifest.write_text(json.dumps({"sha256": digest, "content": content}))


def test_a_run_goes_on_with_a_newer_version_that_says_what_it_adds(run, capsys):
    forget(checkpoint(run, 3, "manifest.json"), "problem.scale_distance")
    assert cli.main(["resume", str(run), "--set", "stop.max_iterations=4"]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "begun by" in line]
    assert line.endswith("have their defaults now: problem.scale_distance = true")


@pytest.mark.parametrize("damage", [cut, flip, os.remove])
def test_a_damaged_run_file_is_refused_in_one_line(refusal, run, damage):
    damage(run)
    (line,) = refusal(run)
    assert line.startswith(f"hpctrain: {run}: ")


def test_a_run_file_of_a_newer_format_is_refused(refusal, run):
    with h5py.File(run, "r+") as file:
        file.attrs["format"] = "hpctrain-run/9"
    assert "is newer than this hpctrain reads" in refusal(run)[0]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of which six hundred kilobytes are free."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    (folder / "filler").write_bytes(bytes(1_400_000))
    yield folder
    # Lazily: what a run could not write stays open until it is collected.
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("fills", ["run file", "checkpoint"])
def test_a_full_disk_ends_the_run_with_its_last_good_checkpoint(capsys, small_disk, job, fills):
    every = "100000" if fills == "run file" else "1"
    settings = ["--set", f"output.checkpoint_every={every}", "--set", "output.iterates_every=1"]
    words = ["run", str(job(ENDLESS)), "-o", str(small_disk / "run.h5"), *settings]
    assert cli.main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hpctrain: ") and "No space left on device" in line
    assert len(read_run(small_disk / "run.h5").history["loss"]) > 2
