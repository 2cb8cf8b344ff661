"""The suite of equations: each row names a job and what is compared, and its table is honest."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.suite.plan import Plan, make_case
from benchmarks.suite.results import Result, collect
from benchmarks.suite.rows import POOLED, Row, read_rows
from benchmarks.suite.table import count_wins, explain_losses, write_tables
from hpctrain.job.settings import load_job
from hpctrain.problems.equations.options import find_equations

ROWS = read_rows()
# What a row may set of its own; the solvers and their time are the same for all.
OWN = ("problem.", "network.")
SMALL = Row(
    "library/burgers-inverse",
    "tiny",
    {"problem.points": 64, "network.depth": 2, "network.width": 3},
    "l2",
    error=0.1,
    seconds=5.0,
)


def test_rows_have_names_of_their_own_and_set_no_solver():
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert all(key.startswith(OWN) for row in ROWS for key in row.settings)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_compares_what_its_job_measures(row):
    equations = find_equations(load_job(row.file).problem.name)
    outputs = {"error"} | {f"error_{field}" for field in equations.fields}
    outputs |= {POOLED} if len(equations.fields) > 1 else set()
    true = {name for name, unknown in equations.unknowns.items() if unknown.true is not None}
    assert row.measure in outputs | true
    assert row.error is None or (row.method and row.source)


@pytest.fixture(scope="module")
def case():
    return make_case(SMALL)


def test_stages_share_the_time_and_large_systems_are_left_out(case):
    first, second = case.list_stages(100.0)
    assert (first["name"], first["stop"]["max_seconds"]) == ("ssbroyden", 50.0)
    assert second["name"] == "gauss-newton" and "max_seconds" not in second["stop"]
    windows = replace(case, windows=4).list_stages(100.0)
    assert [stage["stop"]["max_seconds"] for stage in windows] == [12.5, 12.5]
    network = SimpleNamespace(depth=4)
    problem = SimpleNamespace(samples=10_000, parameters=20_000, network=network)
    (only,) = replace(case, problem=problem).list_stages(100.0)
    assert (only["name"], only["stop"]["max_seconds"]) == ("ssbroyden", 100.0)


def test_a_sum_of_features_is_solved_by_one_factorisation():
    rows = {row.name: row for row in read_rows()}
    (only,) = make_case(rows["wave"]).list_stages(60.0)
    assert (only["name"], only["factorisation"]) == ("gauss-newton", "qr")


def test_a_planned_run_has_the_rows_settings_and_the_suites_solvers(case, tmp_path):
    plan = Plan(tmp_path, [3], 60.0, ranks=1)
    job = plan.plan_run(case, 3).job
    assert (job.seed, job.problem.points, job.network.width) == (3, 64, 3)
    assert [stage.name for stage in job.solver] == ["ssbroyden", "gauss-newton"]
    assert job.stop.error is None and job.stop.max_seconds == 60
    other = replace(case, row=replace(SMALL, name="other", measure="l1"))
    (task,) = plan.list_tasks([case, other])
    assert task.seconds == 60 and not task.has_ended(tmp_path)


def result(case, *, l2, error=0.1, published_seconds=5.0):
    """What a run came to whose unknown l2 was measured after 0, 4 and 8 seconds."""
    history = {"l2": np.array(l2), "seconds": np.array([0.0, 4.0, 8.0])}
    run = SimpleNamespace(history=history, final={"l2": l2[-1]})
    row = replace(case.row, error=error, seconds=published_seconds)
    return Result(replace(case, row=row), [run])


def test_a_row_is_won_at_the_published_error_and_in_time_within_twice_its_seconds(case):
    true = case.problem.equations.unknowns["l2"].true
    off = [true * (1 + part) for part in (5.0, 0.05, 0.01)]
    won = result(case, l2=off)
    assert won.ratio == pytest.approx(0.1) and won.seconds_to_published == [4.0]
    assert won.is_in_time and not result(case, l2=off, published_seconds=1.9).is_in_time
    lost = result(case, l2=off, error=0.001)
    assert lost.ratio == pytest.approx(10) and lost.seconds_to_published == [np.inf]
    unknown = result(case, l2=off, error=None)
    counted = count_wins([won, lost, unknown, Result(case, [None])])
    assert "error: 1 of 2 rows, 1 of them" in counted
    assert "lost: 1; without a published error: 1; not run: 1." in counted


def test_a_row_counts_by_the_first_time_that_wins_it_or_the_longest_one_that_was_run(case):
    true = case.problem.equations.unknowns["l2"].true

    def plan(*, l2):
        """Of one seed, whose run ended with l2; or was not made."""
        run = None if l2 is None else result(case, l2=[5.0, 5.0, l2]).runs[0]
        return SimpleNamespace(seeds=[0], read=lambda case, seed: run)

    lost, nearer, won = plan(l2=2 * true), plan(l2=1.5 * true), plan(l2=1.01 * true)
    none = plan(l2=None)

    def choose(*plans):
        (chosen,) = collect(plans, [case])
        return chosen.runs[0]

    assert choose(lost, won, nearer) is won.read(case, 0)
    assert choose(lost, nearer, none) is nearer.read(case, 0)
    assert choose(none, none) is None


def test_losses_are_explained_while_they_are_losses(case):
    true = case.problem.equations.unknowns["l2"].true
    off = [2 * true] * 3
    explained = replace(case, row=replace(case.row, lost="Too few points."))
    assert explain_losses([result(explained, l2=off, error=2.0), result(case, l2=off)]) == []
    heading, lines = explain_losses([result(explained, l2=off)])
    assert heading == "## What is lost, and why" and lines == "- *tiny.* Too few points."


def in_two_fields(case, *, windows=1, reached=1):
    """A run whose fields have sizes 3, 4 and errors 1, 2 at the end; in windows the last has 5."""
    fields = case.problem.equations.fields
    history = {f"error_{name}": np.array([1.0, np.nan]) for name in fields}
    history |= {"seconds": np.array([0.0, 1.0]), "slab": np.array([1, reached])}
    solution = {}
    for name, size, error in zip(fields, (3.0, 4.0), (1.0, 2.0), strict=True):
        solution[f"reference_{name}"] = np.full((2, 2), size / 2)
        solution[f"prediction_{name}"] = solution[f"reference_{name}"] * (1 + error)
    of_one = 1.0 if windows == 1 else 5.0
    final = {f"error_{name}": of_one * k for k, name in enumerate(fields, 1)}
    run = SimpleNamespace(history=history, final=final, solution=solution)
    return Result(replace(case, windows=windows), [run])


@pytest.fixture(scope="module")
def two_fields():
    return make_case(Row("library/poisson-inverse", "two", {"problem.points": 64}, POOLED, 4.0))


def test_errors_are_pooled_by_the_sizes_of_the_fields(two_fields):
    assert in_two_fields(two_fields).errors == pytest.approx([np.sqrt(9 + 64) / 5])


def test_a_run_in_windows_has_the_error_over_all_of_time_and_at_its_end_alone(two_fields):
    ended = in_two_fields(two_fields, windows=2, reached=2)
    assert ended.errors == pytest.approx([np.sqrt(9 + 64) / 5])
    assert ended.seconds_to_published == [1.0]
    row = replace(two_fields.row, measure="error")
    assert in_two_fields(replace(two_fields, row=row), windows=2, reached=2).errors == [2.0]


def test_a_run_that_did_not_come_to_its_last_window_has_no_error(two_fields):
    (error,) = in_two_fields(two_fields, windows=3, reached=2).errors
    assert error == np.inf


def test_the_table_says_what_was_not_run_and_how_each_row_is_trained(case, tmp_path):
    text = write_tables([Plan(tmp_path, [0], 60.0, ranks=1)], [case])
    rows = [line for line in text.splitlines() if line.startswith("| tiny")]
    assert "not run" in rows[0] and "2 × 3, tanh" in rows[1] and "64 equation" in rows[1]


def test_the_table_has_the_sizes_of_all_networks_where_fields_have_their_own(tmp_path):
    several = Row("library/heat-inverse-noisy", "several", {"problem.points": 64})
    text = write_tables([Plan(tmp_path, [0], 60.0, ranks=1)], [make_case(several)])
    sizes = [line for line in text.splitlines() if line.startswith("| several")][1]
    assert " + " in sizes
