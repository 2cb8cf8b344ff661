"""The published studies: every published number is on the page, and runs go on where they were."""

import numpy as np
import pytest

from benchmarks.logistic_runs import Run, Stage, Target
from benchmarks.published import __main__ as study
from benchmarks.published import apts, runs
from benchmarks.published.earlier import keep_earlier
from benchmarks.published.parts import order_by_seed, repeat
from benchmarks.published.runs import JobRun
from hpctrain.errors import InputError
from hpctrain.job.settings import load_job, write_toml
from hpctrain.store.run_file import RunWriter

TINY = JobRun("burgers-aspqn", {"solver.local_steps": 7})
# Of each table, as published: minutes; accuracies; iterations, gradients, Hessians, CG.
CELLS = {
    "table": ["558.5 (1)", "14.4 (8)", "40.7 (1)", "236.5 (1)", "6.8 (6)", "26.9 (1)", "79.2 (6)"],
    "apts": ["53.1/87.1/95.3/97.0", "31.7/57.6/93.6/95.9", "42.5/52.5/54.7/54.0"],
    "astrom": ["; 31 ", "; 47.2 ", "; 190 ", "; 1900 ", "; 148 ", "; 12.4 "],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(runs.Path(__file__).parents[1])
    return tmp_path


def write_run(folder, planned, reason=None, accuracies=(), facts=None, **changes):
    """A run file of a planned job with these accuracies at its iterations, ended or not."""
    job = load_job(
        planned.planned.file,
        [*planned.planned.overrides, *(f"{k}={v}" for k, v in changes.items())],
    )
    path = folder / f"{planned.name}.h5"
    run = RunWriter(
        path,
        job=write_toml(job),
        environment={"ranks": 1},
        columns={"iteration": "i8", "test_accuracy": "f8"},
        phases=["global"],
        ranks=1,
    )
    for k, accuracy in enumerate(accuracies or [0.0]):
        run.append({"iteration": k, "test_accuracy": accuracy}, np.zeros((1, 1, 2)) if k else None)
    run.finish(reason, facts=facts) if reason else run.close()


@pytest.mark.parametrize("name", CELLS)
def test_a_page_without_runs_has_every_published_cell_and_says_what_is_left(folder, name):
    part = study.PARTS[name]
    text = part.write(folder, seeds=1)
    assert [cell for cell in CELLS[name] if cell not in text] == []
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    left = [row for row in rows if "not run yet" not in row]
    assert len(left) == text.count("|\n|-")  # the heads of tables


@pytest.mark.parametrize("name", study.PARTS)
def test_every_run_of_a_part_is_a_job_with_a_name_of_its_own(folder, name):
    tasks = study.plan(name, 1)
    assert len({task.name for task in tasks}) == len(tasks) > 0
    for task in tasks:
        if isinstance(task, JobRun):
            assert task.planned.job
        assert task.seconds > 0


def test_a_run_begins_then_goes_on_then_is_used(folder):
    path = TINY.find_file(folder)
    assert not TINY.has_ended(folder) and "run" in TINY.planned.make_command(path)
    write_run(folder, TINY)
    assert not TINY.has_ended(folder) and "resume" in TINY.planned.make_command(path)
    path.unlink()
    write_run(folder, TINY, "error reached")
    assert TINY.has_ended(folder)


def test_a_file_of_another_job_is_refused_in_one_line(folder):
    write_run(folder, TINY, "error reached", **{"solver.memory": 9})
    with pytest.raises(
        InputError, match=r"is of another state of jobs/burgers-aspqn\.toml"
    ) as error:
        TINY.read(folder)
    assert "\n" not in str(error.value)


def test_accuracies_are_those_after_passes_over_the_mini_batches(folder):
    """Six mini-batches an epoch: the first, of 0.06, and the tenth, of 0.60, were reached."""
    row = next(each for each in apts.ROWS if each.label.startswith("data, order 1, batch"))
    planned = row.repeat("2", 1)[0]
    write_run(folder, planned, accuracies=[k / 100 for k in range(62)])
    assert apts.list_accuracies(planned.read(folder), row) == pytest.approx([6, 60])
    assert "6.0/60.0/–/–; 84.9/96.6/98.1/98.2" in apts.write(folder, seeds=1)
    planned.find_file(folder).unlink()
    accuracies = [k / 100 for k in range(62)]
    write_run(folder, planned, "no decrease is left", accuracies, {"final.test_accuracy": 0.61})
    assert apts.list_accuracies(planned.read(folder), row) == pytest.approx([6, 60, 61, 61])


@pytest.mark.parametrize(
    "gap, norm, diverged", [(5e3, 1.0, True), (1.0, 1.0, False), (np.nan, np.nan, True)]
)
def test_a_run_of_ssn_that_diverges_is_told_from_one_that_ran_out_of_work(gap, norm, diverged):
    end = Stage(3, effective=4.0, gradients=4.0, gap=gap, gradient_norm=norm)
    run = Run(Target("gradient_norm", 1e-6, 400.0), [end])
    assert run.diverged == diverged


EARLIER = """\
## SPQN

Words.

| equation   | method   | ours          |   error |
|------------|----------|---------------|---------|
| burgers    | ASPQN    | 3.0e-3 then   | 0.1     |
| burgers    | MSPQN    | 4.0e-3 then   | 0.2     |

## APTS

|      | N = 2        | N = 4           |
|------|--------------|-----------------|
| data | 70.0; 71.1   | 60.0; 61.1      |
"""


def test_rows_without_runs_keep_what_the_page_has_of_them():
    words = {"3.0e-3 then": "not run yet", "0.1 ": "", "4.0e-3 then": "2.0e-3 now",
             "60.0": "not run yet", "70.0": "72.0", "Words": "Others"}  # fmt: skip
    page = EARLIER
    for old, new in words.items():
        page = page.replace(old, new)
    found = [line.split() for line in keep_earlier(page, EARLIER).splitlines()]
    assert ["|", "burgers", "|", "ASPQN", "|", "3.0e-3", "then", "|", "0.1", "|"] in found
    assert ["|", "burgers", "|", "MSPQN", "|", "2.0e-3", "now", "|", "0.2", "|"] in found
    assert ["|", "data", "|", "72.0;", "71.1", "|", "60.0;", "61.1", "|"] in found
    assert ["Others."] in found and ["Words."] not in found


def test_another_row_or_table_lends_no_cells():
    page = EARLIER.replace("3.0e-3 then", "not run yet").replace("0.1 ", "")
    for changed in ("ASPQN", "## SPQN", "equation"):
        kept = keep_earlier(page, EARLIER.replace(changed, "other"))
        assert "3.0e-3" not in kept and "not run yet" in kept
    assert keep_earlier(page, "") == page


def test_a_page_of_another_machine_is_not_written_over(folder, monkeypatch):
    """All of docs/published.md stays, but for what the modules say around the tables."""
    monkeypatch.setattr(study.spqn_sweep, "draw", None)  # its figure is there
    page, ours = folder / "page.md", study.Path("docs/published.md").read_text()
    (folder / "figures").mkdir()
    (folder / "figures" / study.spqn_sweep.FIGURE).touch()
    page.write_text(ours)
    study.write_page(folder, None, page)
    cells = [[[each.strip() for each in line.split("|")] for line in text.splitlines()
              if line.startswith("| ")] for text in (page.read_text(), ours)]  # fmt: skip
    assert cells[0] == cells[1]


def test_all_rows_have_their_first_seed_before_any_has_its_second():
    rows = [repeat(JobRun("a"), 3), repeat(JobRun("b"), 1)]
    found = [(each.job, each.settings["seed"]) for each in order_by_seed(rows)]
    assert found == [("a", 0), ("b", 0), ("a", 1), ("a", 2)]
