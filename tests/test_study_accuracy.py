"""Accuracies rise to their marks in tables, by epochs too, and are drawn linearly."""

import math

import numpy as np
import pytest

from hpctrain.results.measures import find_measure
from hpctrain.results.summary import Summary
from hpctrain.store.run_file import RunWriter, read_run
from hpctrain.study import bands, seeds
from hpctrain.study.seeds import SeedRuns

KINDS = {"iteration": "i8"}
COLUMNS = ("iteration", "epoch", "seconds", "loss", "gradient_evaluations", "update_cost")


def write_run(path, accuracies, job="", reason="stop.max_iterations reached"):
    """Two records an epoch."""
    columns = {name: KINDS.get(name, "f8") for name in (*COLUMNS, "test_accuracy")}
    phases = ("local", "global", "communication", "validation", "io")
    writer = RunWriter(path, job=job, environment={}, columns=columns, phases=phases, ranks=1)
    for k, accuracy in enumerate(accuracies):
        row = dict.fromkeys(COLUMNS, k) | {"epoch": k / 2, "test_accuracy": accuracy}
        writer.append(row, np.ones((1, 5, 2)))
    writer.finish(reason, None)
    return read_run(path)


@pytest.fixture
def group(tmp_path):
    def make(label, *runs, **options):
        paths = [tmp_path / f"{label}-{k}.h5" for k in range(len(runs))]
        summaries = [Summary(write_run(p, r, **options)) for p, r in zip(paths, runs, strict=True)]
        return SeedRuns(label, tuple(summaries))

    return make


def test_a_mark_is_reached_by_the_first_record_at_or_above_it(group):
    runs = group("adam", [0.1, 0.7, math.nan, 0.85, 0.8], [0.1, 0.2, 0.3])
    first, other = runs.runs
    assert find_measure(first.run).column == "test_accuracy"
    assert [(at.target, at.iteration, at.epoch) for at in first.list_targets()] == [
        (0.5, 1, 0.5),
        (0.7, 1, 0.5),
        (0.8, 3, 1.5),
        (0.85, 3, 1.5),
    ]
    assert other.list_targets() == []
    assert runs.find_cost_to(0.8, "epoch") == (math.inf, 1.5, math.inf)
    assert runs.count_reached(0.8) == 1 and runs.measured == (pytest.approx(0.55), 0.3, 0.8)


def test_the_accuracy_after_an_epoch_is_the_last_known_one_of_runs_that_came_so_far(group):
    runs = group("adam", [0.1, 0.2, 0.3, math.nan, math.nan, 0.6])
    assert runs.find_at_epoch(1).median == 0.3
    assert runs.find_at_epoch(2).median == 0.3
    assert math.isnan(runs.find_at_epoch(3).median)
    (row,) = seeds.make_epoch_rows([runs])
    assert row == {"solver": "adam", "epoch 1": "0.3", "epoch 2": "0.3"}


def test_a_run_that_diverged_has_no_accuracy(group):
    runs = group("sgd", [0.1, 0.9], reason="the loss is not finite")
    assert runs.measured.median == 0


def test_targets_ascend_and_hold_what_the_job_asked_for(group):
    runs = group("adam", [0.1, 0.75], job="[stop]\ntest_accuracy = 0.6")
    rows = seeds.make_target_rows([runs])
    assert [row["test accuracy"] for row in rows] == ["0.5", "0.6", "0.7"]
    assert [row["epochs"] for row in rows] == ["0.5"] * 3
    text = seeds.format_comparison([runs], "text")
    assert text.startswith("At the end (test accuracy of the final parameters)")
    assert "To the first record at or above a test accuracy" in text
    assert "at test accuracy >= 0.6" in seeds.format_comparison([runs], "csv")


def test_a_band_of_accuracies_is_linear_between_records():
    curves = [
        (np.array([0.0, 2.0]), np.array([0.2, 0.6])),
        (np.array([0.0, 1.0]), np.array([0.1, 0.8])),
    ]
    x, mean, lowest, highest = bands.find_band(curves, logarithmic=False)
    np.testing.assert_allclose(x, [0, 1, 2])
    np.testing.assert_allclose(lowest, [0.1, 0.4, 0.6])
    np.testing.assert_allclose(highest, [0.2, 0.8, 0.8])
    np.testing.assert_allclose(mean, [0.15, 0.6, 0.7])


def test_a_run_without_a_measure_is_judged_by_its_error(tmp_path):
    writer = RunWriter(
        tmp_path / "run.h5", job="", environment={}, columns=KINDS, phases=["local"], ranks=1
    )
    writer.finish("running", None)
    assert find_measure(read_run(tmp_path / "run.h5")).column == "error"
