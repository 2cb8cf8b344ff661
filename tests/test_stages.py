"""Several solvers in a job follow each other: each begins where the one before it ended."""

import math

import h5py
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from trials import Trial, assert_same_history

from hpctrain.errors import InputError
from hpctrain.job import stop
from hpctrain.job.settings import JobError, parse_job, write_toml
from hpctrain.parallel.communicator import Communicator
from hpctrain.results import figures
from hpctrain.results.report import make_stage_rows, report
from hpctrain.run import assemble
from hpctrain.run.loop import NonFiniteError
from hpctrain.run.parts import Tally
from hpctrain.run.resume import Kept
from hpctrain.run.train import resume, run
from hpctrain.solvers import SOLVERS
from hpctrain.solvers.base import Record
from hpctrain.store.checkpoint import CheckpointStore
from hpctrain.store.run_file import read_run

PROBLEM = """
[problem]
name = "klein-gordon"
points = 20
[network]
kind = "mlp"
depth = 3
width = 3
activation = "tanh"
[parallel]
chunks = 4
threads = 1
[output]
error_every = 1
iterates_every = 1
[stop]
max_iterations = {iterations}
"""
STAGES = """
[[solver]]
name = "adam"
learning_rate = 0.01
stop = { max_iterations = 3 }
[[solver]]
name = "lbfgs"
[solver.stop]
max_gradient_evaluations = 4.5
[[solver]]
name = "gauss-newton"
"""
# Iterations of the second one, which takes a few more gradients than that.
SECOND = 3
# Takes no step, and says that none is left from its second iteration on.
ENDING = """
from dataclasses import dataclass

from pydantic import Field

from hpctrain.methods.outcomes import Outcome
from hpctrain.objective import Point, evaluate_point
from hpctrain.options import Options
from hpctrain.solvers.base import Record, Solver


class EndingOptions(Options):
    name: str = Field(description="in a job file")


@dataclass
class EndingState:
    point: Point
    steps: int = 0


class Ending(Solver[EndingState]):
    Options = EndingOptions

    def init(self, theta):
        return EndingState(evaluate_point(self.setting.objective, theta))

    def step(self, state):
        outcome = Outcome.NO_DESCENT if state.steps else Outcome.REFUSED
        return EndingState(state.point, state.steps + 1), Record(
            state.point.loss, 1.0, 0.0, 1, 0, outcome
        )

    def describe(self):
        return ["ends"]
"""
NO_DESCENT = "the line search found no decrease along the negative gradient"


@pytest.fixture
def make_job(tmp_path):
    """Makes a job of stages on an equation whose loss descends for many steps."""
    (tmp_path / "ending.py").write_text(ENDING)

    def make(stages=STAGES, *overrides, iterations=12):
        own = f"{tmp_path}/ending.py:Ending"
        text = PROBLEM.format(iterations=iterations) + stages.replace("ENDING", own)
        return parse_job(text, "a test", overrides)

    return make


@pytest.fixture
def train(make_job, tmp_path):
    """Runs a job into a file of this name, and reads it."""

    def train_to(name, *settings, **options):
        run(make_job(*settings, **options), Communicator(), str(tmp_path / name))
        return read_run(tmp_path / name)

    return train_to


def test_work_and_iterations_go_on_over_stages(train):
    history = train("run.h5").history
    assert history["iteration"].tolist() == list(range(13))
    assert history["stage"].tolist() == [1] * 4 + [2] * SECOND + [3] * (9 - SECOND)
    assert (np.diff(history["gradient_evaluations"]) > 0).all()
    assert (np.diff(history["seconds"]) > 0).all()
    assert (np.diff(history["loss"][4:]) < 0).all()


def test_seconds_begin_before_the_first_iteration_and_each_stage_knows_when_it_began(
    train, tmp_path
):
    history = train("run.h5").history
    assert history["seconds"][0] > 0
    kept = CheckpointStore(tmp_path / "run.ckpt", Communicator()).find_latest()
    began = Kept.from_json(kept.extra).tally.stage.wall_seconds
    first, last = history["wall_seconds"][[3, 3 + SECOND + 1]]
    assert first < began < last


def test_a_tally_sums_up_what_iterations_cost():
    tally = Tally()
    for cost in (1, 4):
        tally.add_step(Record(1.0, 1.0, 1.0, 2 * cost, cost), 0.5)
    assert (tally.iteration, tally.seconds) == (2, 1.0)
    assert (tally.nominal_gradient_evaluations, tally.update_cost) == (10, 5)


def test_a_stage_is_a_run_that_starts_where_the_one_before_it_ended(train, tmp_path):
    whole = train("whole.h5")
    train("first.h5", '[solver]\nname = "adam"\nlearning_rate = 0.01', iterations=3)
    start = f'start="{tmp_path}/first.h5"'
    second = train("second.h5", '[solver]\nname = "lbfgs"', start, iterations=SECOND)
    assert np.array_equal(whole.iterates.theta[3 : 4 + SECOND], second.iterates.theta)


def test_the_names_of_the_stages_are_those_of_the_enumeration_in_the_file(train, tmp_path):
    train("run.h5")
    with h5py.File(tmp_path / "run.h5") as file:
        names = h5py.check_enum_dtype(file["history/stage"].dtype)
    assert names == {"1 adam": 1, "2 lbfgs": 2, "3 gauss-newton": 3}


@pytest.mark.filterwarnings("ignore:stage 2")
def test_one_solver_leaves_no_trace_of_stages(train, capsys):
    found = train("run.h5", '[solver]\nname = "adam"', iterations=2)
    assert "stage" not in found.history and "Stages" not in report([found.path])
    assert "stage" not in capsys.readouterr().out


def test_each_criterion_counts_within_its_stage(train, capsys):
    reasons = train("run.h5").stage_reasons
    assert reasons == (
        "solver.1.stop.max_iterations reached",
        "solver.2.stop.max_gradient_evaluations reached",
        "stop.max_iterations reached",
    )
    out = capsys.readouterr().out
    assert "stage 1 of 3, until solver.1.stop.max_iterations = 3" in out
    assert "stage 1 of 3 (adam) ended after 3 iterations, loss " in out
    assert "stopped in stage 3 of 3 (gauss-newton): stop.max_iterations reached" in out


@pytest.mark.parametrize(
    "ends", ["loss = 1e9", "error = 1e9", "gradient_norm = 1e9", "max_seconds = 1e-9"]
)
def test_a_stage_that_has_what_it_was_to_reach_takes_no_step(train, ends):
    stages = f'[[solver]]\nname = "adam"\nstop = {{ {ends} }}\n[[solver]]\nname = "lbfgs"\n'
    found = train("run.h5", stages, iterations=2)
    assert found.history["stage"].tolist() == [1, 2, 2]
    key = ends.partition(" ")[0]
    assert found.stage_reasons == (
        f"solver.1.stop.{key} reached",
        "stop.max_iterations reached",
    )


def test_a_loss_ends_the_run_that_asks_for_it(train):
    found = train("run.h5", '[solver]\nname = "lbfgs"', "stop.loss=20")
    assert found.stop_reason == "stop.loss reached"
    assert found.history["loss"][-1] <= 20 < found.history["loss"][-2]


def test_a_stage_ends_where_its_loss_has_not_been_halved_for_as_long_as_it_says(train):
    """The next stage counts from its own beginning."""
    stages = '[[solver]]\nname = "adam"\nstop.stagnation = 4\n'
    found = train("run.h5", f"{stages}{stages}", iterations=1000)
    stage, loss = found.history["stage"], found.history["loss"]
    assert found.stage_reasons == tuple(f"solver.{k}.stop.stagnation reached" for k in (1, 2))
    for number in (1, 2):
        own = loss[stage == number][1 if number == 1 else 0 :]
        halved = [0]
        for k, each in enumerate(own):
            if each <= own[halved[-1]] / 2:
                halved.append(k)
        assert len(own) == halved[-1] + 5, number


def test_a_solver_that_has_nothing_left_to_try_ends_its_stage_and_the_last_one_the_run(train):
    ending = '[[solver]]\nname = "ENDING"\n'
    found = train("run.h5", f'{ending}[[solver]]\nname = "adam"\nstop.max_iterations = 2\n{ending}')
    assert found.history["stage"].tolist() == [1, 1, 1, 2, 2, 3, 3]
    assert found.stage_reasons == (NO_DESCENT, "solver.2.stop.max_iterations reached", NO_DESCENT)
    assert found.stop_reason == NO_DESCENT


def test_the_last_stages_own_criterion_ends_the_run_with_status_0(make_job):
    ended = run(make_job('[solver]\nname = "adam"\nstop.max_seconds = 1e-9'), Communicator())
    assert (ended.reason.text, ended.status) == ("solver.stop.max_seconds reached", 0)


def test_a_loss_that_is_not_finite_ends_the_run_in_any_stage(train, tmp_path):
    descent = '[[solver]]\nname = "sgd"\nlearning_rate = 1e300\n'
    with pytest.raises(NonFiniteError):
        train("run.h5", f'{descent}[[solver]]\nname = "adam"')
    assert set(read_run(tmp_path / "run.h5").history["stage"]) == {1}
    assert math.isnan(read_run(tmp_path / "run.h5").history["loss"][-1])


CLASSES = (
    'name = "classification"\ndata = "two.h5"\ndata_path = "{folder}"',
    '[network]\nkind = "fcnn"\nhidden = [4]',
)
TWO_SIZES = """solver=[{name='adam', batch_size=4, stop={max_iterations=6}},
{name='sgd', batch_size=8, stop={max_iterations=3}}]"""


def test_epochs_go_on_over_stages_with_other_mini_batches(tmp_path):
    job = (
        Trial(tmp_path).pose().job("adam", TWO_SIZES, "stop.max_iterations=99", tried=(CLASSES, ""))
    )
    run(job, Communicator(), str(tmp_path / "run.h5"))
    epochs = read_run(tmp_path / "run.h5").history["epoch"]
    assert epochs.tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3]


@pytest.mark.parametrize("interrupted", [2, 3, 5, 3 + SECOND, 10])
def test_a_run_interrupted_in_any_stage_goes_on_with_the_same_bits(train, tmp_path, interrupted):
    """At 3 and 6 a stage and the run end at once: the next stage begins when it goes on."""
    whole = train("whole.h5")
    train("part.h5", iterations=interrupted)
    resume(str(tmp_path / "part.h5"), Communicator(), ["stop.max_iterations=12"])
    found = read_run(tmp_path / "part.h5")
    assert_same_history(found.history, whole.history)
    assert np.array_equal(found.iterates.theta, whole.iterates.theta)
    assert found.stage_reasons == whole.stage_reasons
    folders = (tmp_path / "part.ckpt", tmp_path / "whole.ckpt")
    stores = (CheckpointStore(folder, Communicator()) for folder in folders)
    state, expected = (store.find_latest().load() for store in stores)
    assert state.keys() == expected.keys()
    for path, value in expected.items():
        assert np.array_equal(np.asarray(state[path]), np.asarray(value)), path


@pytest.mark.parametrize("interrupted", [3, 5, 8])
@pytest.mark.filterwarnings("ignore:stage")
def test_renewed_points_and_mini_batches_go_on_in_any_stage(train, tmp_path, interrupted):
    renewed = [STAGES, "problem.adapt={every=2, points='rad'}", "solver.1.batch_size=10"]
    whole = train("whole.h5", *renewed)
    train("part.h5", *renewed, iterations=interrupted)
    resume(str(tmp_path / "part.h5"), Communicator(), ["stop.max_iterations=12"])
    found = read_run(tmp_path / "part.h5")
    assert np.array_equal(found.iterates.theta, whole.iterates.theta)
    assert np.array_equal(found.history["loss"], whole.history["loss"])


def test_a_checkpoint_as_a_stage_begins_is_of_the_new_one(train, tmp_path):
    whole = train("whole.h5")
    train("part.h5", STAGES, "output.checkpoint_every=3", iterations=4)
    (tmp_path / "part.ckpt" / "00000004" / "part-0.h5").unlink()
    with pytest.warns(UserWarning, match="damaged"):
        resume(str(tmp_path / "part.h5"), Communicator(), ["stop.max_iterations=12"])
    assert np.array_equal(read_run(tmp_path / "part.h5").iterates.theta, whole.iterates.theta)


def test_a_run_that_ended_in_its_last_stage_says_so(train, tmp_path, capsys):
    ending = '[[solver]]\nname = "ENDING"\n'
    path = train("run.h5", ending + ending).path
    before = path.read_bytes()
    resume(str(path), Communicator())
    out = capsys.readouterr().out
    assert f"has ended: {NO_DESCENT}" in out and "at iteration 4 in stage 2 of 2" in out
    assert path.read_bytes() == before


def test_tables_show_what_each_stage_cost_and_why_it_ended(train, tmp_path):
    found = train("run.h5")
    rows, history = make_stage_rows(found), found.history
    assert [row["solver"] for row in rows] == ["adam", "lbfgs", "gauss-newton"]
    ends = [3, 3 + SECOND, 12]
    assert [row["iterations"] for row in rows] == [3, SECOND, 9 - SECOND]
    assert [row["loss at its end"] for row in rows] == history["loss"][ends].tolist()
    evaluations = np.diff(history["gradient_evaluations"][[0, *ends]])
    assert [row["gradient evals"] for row in rows] == evaluations.tolist()
    assert tuple(row["ended by"] for row in rows) == found.stage_reasons
    text = report([found.path])
    assert "adam + lbfgs + gauss-newton" in text and "solver.1.stop.max_iterations reached" in text
    assert "ended by of stage 2" in report([found.path], "csv")


def test_a_stage_that_took_no_step_has_its_row(train):
    stages = '[[solver]]\nname = "adam"\nstop.gradient_norm = 1e9\n[[solver]]\nname = "lbfgs"\n'
    rows = make_stage_rows(train("run.h5", stages, iterations=2))
    assert [row["iterations"] for row in rows] == [0, 2]


@pytest.mark.parametrize("runs", [1, 2])
def test_figures_draw_thin_lines_where_a_stage_ended(train, tmp_path, monkeypatch, runs):
    found, drawn = train("run.h5"), []
    monkeypatch.setattr(figures.style, "save", lambda figure, _: drawn.append(figure))
    figures.plot([found.path] * runs, tmp_path / "a.png")
    places = {
        tuple(segment[0, 0] for segment in lines.get_segments())
        for axes in drawn[0].axes
        for lines in axes.collections
        if isinstance(lines, LineCollection)
    }
    assert tuple(found.history["gradient_evaluations"][[3, 3 + SECOND]]) in places


LBFGS = "name, memory, momentum, line_search, stop"
# Overrides of STAGES, and the line they lead to.
REFUSED = {
    "solver.2.stop.max_iterations=0": "solver.2.stop.max_iterations = 0 is not allowed: an integer,"
    " at least 1",
    "solver.2.memroy=3": f"unknown key solver.2.memroy; allowed: {LBFGS} (did you mean memory?)",
    "solver.2.beta1=0.5": "solver.2.beta1 is a setting of apts-parts, adam, not of lbfgs;"
    f" allowed: {LBFGS}",
    "solver.3.stop.test_accuracy=0.5": "solver.3.stop.test_accuracy = 0.5 is not allowed: not"
    ' measured for problem.name = "klein-gordon", which has solver.3.stop.error',
    "solver.2={name='aspqn', blocks=9}": "solver.2.blocks = 9 is not allowed: at most 3, the number"
    " of the network's layers",
    "solver.1=3": "solver.1 = 3 is not allowed: a table with name, one of",
    "solver=[]": "solver = [] is not allowed: a table with name, one of",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_is_wrong_in_a_stage_is_named_with_its_number(make_job, override):
    with pytest.raises(JobError) as caught:
        make_job(STAGES, override)
    line = str(caught.value).partition(": ")[2]
    assert line.startswith(REFUSED[override])


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("solver.4.name=adam", "solver is a list, a number from 1 to 3 comes next"),
        ("solver.memory=4", "solver is a list, a number from 1 to 3 comes next"),
        ("solver.0.memory=4", "solver is a list, a number from 1 to 3 comes next"),
        ("solver.1.name.x=4", "solver.1.name is not a table"),
    ],
)
def test_an_override_of_no_stage_is_refused(make_job, override, line):
    with pytest.raises(JobError) as caught:
        make_job(STAGES, override)
    assert str(caught.value) == f"--set {override}: {line}"


def test_an_override_names_a_stage_by_its_number(make_job):
    job = make_job(STAGES, "solver.2.memory=7", "solver.1.stop.max_iterations=9", "solver.3=")
    assert [stage.name for stage in job.solver] == ["adam", "lbfgs"]
    assert (job.solver[1].memory, job.solver[0].stop.max_iterations) == (7, 9)
    assert parse_job(write_toml(job), "resolved") == job
    with pytest.warns(UserWarning, match=r"^solver.1.name=lbfgs does not have solver.1.learning_r"):
        assert make_job(STAGES, "solver.1.name=lbfgs").solver_name == "lbfgs + lbfgs + gauss-newton"


@pytest.mark.parametrize(
    ("stages", "line"),
    [
        ('[[solver]]\nname = "adam"\n[[solver]]\nname = "ssn"', 'stage 2: solver.name = "ssn" is'),
        (
            '[[solver]]\nname = "ENDING"\n[[solver]]\nname = "ENDING"\nend = 1',
            "unknown key solver.2.end; allowed: name",
        ),
        ('[[solver]]\nname = "no.py:It"\n[[solver]]\nname = "adam"', "solver.1.name = 'no.py:It'"),
    ],
)
def test_what_a_later_stage_lacks_is_refused_before_the_run(make_job, tmp_path, stages, line):
    """On several ranks: tests/mpi/test_refusals.py."""
    with pytest.raises(InputError) as caught:
        run(make_job(stages), Communicator(), str(tmp_path / "run.h5"))
    assert str(caught.value).startswith(line)
    assert not (tmp_path / "run.h5").exists()


def test_a_stage_that_the_runs_limit_keeps_from_beginning_is_warned_of(make_job):
    with pytest.warns(UserWarning, match=r"^stage 3 \(lbfgs\) begins only if an earlier one ends"):
        run(
            make_job(
                '[[solver]]\nname = "adam"\nstop.max_iterations = 1\n[[solver]]\nname = "adam"\n'
                'stop.max_iterations = 1\n[[solver]]\nname = "lbfgs"',
                iterations=2,
            ),
            Communicator(),
        )


@pytest.mark.parametrize("name", SOLVERS)
def test_making_a_solver_counts_no_work(tmp_path, name):
    job = Trial(tmp_path).pose().job(name)
    problem = assemble.make_problem(job)
    objective = assemble.make_objective(problem, Communicator(), job.parallel.chunks, 1)
    assemble.make_job_solver(job, objective)
    counts = objective.counts
    assert counts.loss_evaluations == counts.gradient_evaluations == counts.hvp_evaluations == 0


@pytest.mark.parametrize("criterion", stop.list_criteria(), ids=lambda each: each.key)
def test_a_stage_has_every_criterion_of_a_run_and_none_by_default(criterion):
    assert getattr(stop.StageStopOptions(), criterion.key) is None
    stop.StageStopOptions(**{criterion.key: criterion.out_of_reach})
