"""Studies of many runs: each that has not ended has its turn, one that fails stops no other."""

from dataclasses import dataclass, field

import pytest

from benchmarks import apts
from benchmarks.runs import plan_run
from benchmarks.tables import write_markdown
from benchmarks.tasks import describe_duration, run_missing
from hpctrain.errors import RunError
from hpctrain.run.signals import StopSignals


@pytest.fixture
def signals():
    with StopSignals() as signals:
        yield signals


@dataclass
class Turns:
    """A task that needs so many turns, or fails in its first one."""

    name: str
    left: int
    fails: bool = False
    seconds: float = 1.0
    taken: list = field(default_factory=list)

    def has_ended(self, folder):
        return self.left == 0

    def advance(self, folder, signals, seconds):
        self.left -= 1
        self.taken.append(seconds)
        if self.fails:
            raise RunError(f"{self.name} failed")


def test_each_unfinished_run_has_its_turn_until_all_have_ended(tmp_path, signals):
    tasks = [Turns("a", 2), Turns("b", 0), Turns("c", 1)]
    assert run_missing(tmp_path, tasks, signals, seconds=60.0, at_once=5.0) == []
    assert [task.left for task in tasks] == [0, 0, 0]
    assert [len(task.taken) for task in tasks] == [2, 0, 1] and tasks[0].taken == [5.0, 5.0]


def test_no_run_begins_when_the_time_is_over(tmp_path, signals):
    tasks = [Turns("a", 2)]
    run_missing(tmp_path, tasks, signals, seconds=0.0)
    assert tasks[0].left == 2


def test_a_run_that_fails_is_said_and_the_others_go_on(tmp_path, signals, capsys):
    tasks = [Turns("a", 2, fails=True), Turns("b", 2)]
    assert run_missing(tmp_path, tasks, signals, at_once=5.0) == ["a"]
    assert len(tasks[0].taken) == 1 and tasks[1].left == 0
    assert "a failed" in capsys.readouterr().err


def test_a_signal_ends_the_study_before_the_next_run(tmp_path, signals):
    tasks = [Turns("a", 1)]
    signals.received = True
    run_missing(tmp_path, tasks, signals)
    assert tasks[0].left == 1


def test_the_duration_says_what_is_left(tmp_path):
    tasks = [Turns("a", 2, seconds=90.0), Turns("b", 0, seconds=30.0)]
    assert describe_duration(tmp_path, tasks) == "2 runs, about 0:02:00; left are 1 runs, 0:01:30"


def test_a_table_has_as_many_cells_in_every_row_and_numbers_as_they_come():
    lines = write_markdown(["", "a"], [["x", "1.0"], ["yy", 2]]).splitlines()
    assert {line.count("|") for line in lines} == {3} and "1.0" in lines[2]


@pytest.mark.parametrize("study", apts.STUDIES)
def test_every_run_of_the_apts_studies_is_a_valid_job(study):
    for variant in apts.STUDIES[study]:
        planned = plan_run(variant.label, variant.job, variant.changes)
        assert planned.ranks == 1
