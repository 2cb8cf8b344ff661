"""A run is followed while another process writes it: its rate, and what is left to its aims."""

import math

import numpy as np
import pytest

from hpctrain import cli
from hpctrain.results import watch
from hpctrain.store.claim import Claim, is_claimed
from hpctrain.store.run_file import RunWriter

JOB = """
[problem]
name = "burgers"
[stop]
max_iterations = 1000
error = 1e-4
loss = 1e-12
"""
COLUMNS = dict.fromkeys(("iteration", "wall_seconds", "loss", "gradient_norm", "error"), "f8")


@pytest.fixture
def writer(tmp_path):
    """Of a run whose error falls tenfold in 10 s, four iterations in each second."""
    writer = RunWriter(
        tmp_path / "run.h5",
        job=JOB,
        environment={},
        columns=COLUMNS | {"iteration": "i8"},
        phases=("global",),
        ranks=1,
    )
    for k in range(81):
        seconds = k / 4
        error = 10 ** (-seconds / 10) if k % 2 == 0 else math.nan
        row = {"iteration": k, "wall_seconds": seconds, "loss": 1.0, "gradient_norm": 1.0}
        writer.append(row | {"error": error})
    yield writer
    writer.close()


def test_a_line_says_the_rate_and_when_the_aim_is_reached_if_all_goes_on_so(writer):
    sight = watch.look_at(writer.path)
    assert sight.is_claimed and not sight.is_over
    line = sight.describe()
    assert "iteration 80 of at most 1,000" in line and "error 0.01 at 80" in line
    assert "4 iterations/s" in line and "4 min to stop.max_iterations" in line  # 920 / 4 s
    assert "about 20 s to stop.error = 0.0001" in line
    assert "stop.loss" not in line  # it does not fall


def test_a_quantity_is_extrapolated_along_its_later_half():
    seconds = np.linspace(0, 100, 201)
    values = np.where(seconds < 50, 1.0, 10 ** (-(seconds - 50) / 25))
    assert watch.extrapolate(seconds, values, 1e-4) == pytest.approx(50)
    assert watch.extrapolate(seconds, values, 0.5) == 0
    assert watch.extrapolate(seconds, values, 1e-80) is None  # more than ten times as long
    assert watch.extrapolate(seconds, values[::-1], 1e-4) is None
    assert watch.extrapolate(seconds, np.full(201, np.nan), 1e-4) is None


def test_a_rate_is_that_of_the_last_half_minute():
    seconds = np.concatenate([np.arange(100.0), 100 + np.arange(100) / 10])
    iterations = np.arange(200)
    recent = seconds >= seconds[-1] - watch.RECENT
    expected = (199 - iterations[recent][0]) / (seconds[-1] - seconds[recent][0])
    assert watch.measure_rate(iterations, seconds) == pytest.approx(expected)
    assert watch.measure_rate(iterations[:1], seconds[:1]) is None
    # iterations that take longer than that
    assert watch.measure_rate(np.arange(3), np.array([0.0, 100.0, 300.0])) == pytest.approx(1 / 200)


def test_a_run_that_ends_ends_the_watch_with_its_reason(writer, capsys):
    writer.finish("stop.error reached", None, {}, None)
    path = str(writer.path)
    assert cli.main(["watch", path]) == 0
    assert capsys.readouterr().out.endswith("the run has ended: stop.error reached\n")
    assert cli.main(["watch", path, "--once"]) == 0
    assert capsys.readouterr().out.startswith("iteration 80")


def test_a_killed_run_is_told_from_one_that_goes_on(writer, monkeypatch):
    writer.sync()
    monkeypatch.setattr(watch, "QUIET", -1.0)
    assert not watch.look_at(writer.path).is_over
    writer.close()  # what the end of a process does to its locks
    sight = watch.look_at(writer.path)
    assert sight.is_over and "hpctrain resume" in sight.describe_end()


def test_a_claim_is_seen_without_being_taken(tmp_path):
    path = tmp_path / "run.h5"
    path.touch()
    assert not is_claimed(path)
    claim = Claim(path)
    assert is_claimed(path) and is_claimed(path)
    claim.release()
    assert not is_claimed(path)


def test_what_is_no_run_is_refused_in_a_line(tmp_path, capsys):
    assert cli.main(["watch", str(tmp_path / "none.h5")]) == 2
    assert "no such file" in capsys.readouterr().err
