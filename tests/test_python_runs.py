"""Training from Python: the same runs as those of a job file, in the user's hands."""

import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
import torch

import hpctrain
from hpctrain import Equations, Initial, InputError, Interval, Observations, Unknown
from hpctrain.job.settings import make_job, parse_job, write_toml
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.train import run as run_job
from hpctrain.solvers.base import Solver
from hpctrain.store.run_file import read_run

TABLES = {
    "problem": {"name": "klein-gordon", "points": 60},
    "network": {"kind": "mlp", "depth": 2, "width": 5, "activation": "tanh"},
    "solver": {"name": "ssbroyden"},
    "parallel": {"chunks": 4, "threads": 1},
    "stop": {"max_iterations": 6},
}


class Decay(Equations):
    """u' = -k u, u(0) = 1, with an unknown k that is 2."""

    geometry = Interval(t=(0, 1))
    unknowns = {"k": Unknown(1.0)}
    conditions = (
        Initial({"u": 1.0}, exact=True),
        Observations({"t": [0.25, 0.5], "u": [math.exp(-0.5), math.exp(-1)]}, ["u"]),
    )
    test_grid = (11,)

    def residuals(self, at, u, k):
        return u.t + k * u

    def reference(self, at):
        return torch.exp(-2 * at.t)


def train(tables=TABLES, **options):
    return hpctrain.train(tables, **{"progress": False, **options})


DECAY = TABLES | {"problem": {"name": Decay, "points": 30}, "stop": {"max_iterations": 60}}


@pytest.fixture(scope="module")
def decay():
    return train(DECAY)


def test_a_run_from_python_has_the_bits_of_one_of_a_job_file(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(write_toml(make_job(TABLES, "a test")))
    run_job(parse_job(path.read_text(), "job"), Communicator(), str(tmp_path / "run.h5"))
    expected = read_run(tmp_path / "run.h5")
    for job in (TABLES, path, str(path), make_job(TABLES, "a test")):
        result = train(job)
        assert np.array_equal(result.theta, expected.parameters)
        assert np.array_equal(result.history["loss"], expected.history["loss"])


def test_settings_replace_those_of_a_job_in_any_form_of_it():
    shorter = {"stop.max_iterations": 2, "solver.memory": np.int64(3)}
    for job in (TABLES, make_job(TABLES, "a test")):
        result = train(job, set=shorter)
        assert result.job.solver[0].memory == 3 and len(result.history["loss"]) == 3
    assert train(result.job, set={"solver.memory": None}).job.solver[0].memory is None
    assert TABLES["stop"] == {"max_iterations": 6}


@pytest.mark.parametrize("name", ["loss", "outcome", "error", "stage"])
def test_an_unknown_that_is_named_like_a_column_of_the_history_is_refused(name):
    class Named(Decay):
        unknowns = {name: Unknown(1.0)}
        residuals = eval(f"lambda self, at, u, {name}: u.t + {name} * u")

    with pytest.raises(InputError, match=f"an unknown of the problem is named {name}, as a column"):
        train(DECAY | {"problem": {"name": Named, "points": 30}})


def test_a_result_knows_errors_unknowns_and_why_it_ended(decay):
    assert decay.reason == "stop.max_iterations reached" and decay.status == 0
    predicted, reference = (decay.run.solution[name] for name in ("prediction", "reference"))
    error = np.linalg.norm(predicted - reference) / np.linalg.norm(reference)
    assert decay.errors["error"] == pytest.approx(error, rel=1e-12)
    k = decay.unknowns["k"]
    assert k.value == decay.history["k"][-1] and k.value == pytest.approx(2, abs=0.1)
    low, high = k.interval
    half = scipy.stats.t(2 - 1).ppf(0.975) * k.standard_error  # two measurements, one unknown
    assert (low + high) / 2 == pytest.approx(k.value) and (high - low) / 2 == pytest.approx(half)
    assert "python:Decay" in decay.report() and "python:Decay" in decay._repr_html_()


def test_a_solution_is_evaluated_at_points_by_name_and_by_column(decay):
    t = np.linspace(0, 1, 11)
    named = decay.predict({"t": t}, "u", "u.t")
    assert np.allclose(named["u"], decay.run.solution["prediction"], atol=1e-14)
    assert np.array_equal(decay.predict(t[:, None])["u"], named["u"])
    step = 1e-6
    later, earlier = (decay.predict({"t": t[1:-1] + h})["u"] for h in (step, -step))
    assert np.allclose((later - earlier) / (2 * step), named["u.t"][1:-1], atol=1e-7)
    with pytest.warns(UserWarning, match="1 of 2 points lies outside of the geometry"):
        decay.predict({"t": [0.5, 1.5]})
    assert np.array_equal(decay.predict("t=0:1:11")["u"], named["u"])
    values = decay.network(torch.from_numpy(t)[:, None])[:, 0]
    assert np.allclose(values.detach(), named["u"], rtol=0, atol=1e-14)
    assert decay.predict({"t": t.reshape(1, 11)})["u"].shape == (1, 11)
    with pytest.raises(InputError, match=r"\(N, 1\), a column for each of t"):
        decay.predict(t)
    with pytest.raises(InputError, match=r"a mapping, an array .* or a grid such as"):
        decay.predict("t")
    with pytest.raises(InputError, match="no coordinate 'x'"):
        decay.predict({"x": t})


def test_fields_are_drawn_as_the_command_draws_them(decay, tmp_path):
    figure = decay.plot(tmp_path / "u.pdf", fields="u,u.t", width="single")
    titles = " ".join(axes.get_title(loc="left") for axes in figure.axes)
    assert "u.t" in titles and "error" in titles and "k, at the end" in titles
    assert (tmp_path / "u.pdf").read_bytes().startswith(b"%PDF")
    assert decay.plot(width="single").get_size_inches()[0] * 25.4 == pytest.approx(85)
    listed = decay.plot(fields=["u", "u.t"], at={})
    assert [axes.get_title(loc="left") for axes in listed.axes] == [
        axes.get_title(loc="left") for axes in figure.axes
    ]
    with pytest.raises(InputError, match="'v' is not allowed: one of u"):
        decay.plot(fields="v")
    with pytest.raises(InputError, match=r"^at = 't=1' is not allowed without fields$"):
        decay.plot(at="t=1")
    with pytest.raises(InputError, match="width = 'wide' is not allowed: 'single' or 'double'"):
        decay.plot(fields="u", width="wide")


@pytest.fixture(scope="module")
def plain():
    return train()


def test_a_slice_of_a_figure_is_a_text_or_a_mapping(plain):
    drawn = [plain.plot(fields="u", at=at) for at in ("t=0.5", {"t": 0.5}, {"t": np.array([0.5])})]
    (first, *others) = [figure.axes[0].lines[-1].get_ydata() for figure in drawn]
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize(
    ("ask", "line"),
    [
        (lambda run: run.plot(3), "path = 3 is not allowed: a path"),
        (lambda run: run.plot(fields=3), "fields = 3 is not allowed: 'u,u.x', or a list of such"),
        (lambda run: run.plot(fields=[]), r"fields = \[\] is not allowed: 'u,u.x', or a list"),
        (lambda run: run.plot(fields=["u", 3]), "3 is not allowed among fields: a name such as"),
        (lambda run: run.plot(fields="u", at=3), "at = 3 is not allowed: 'z=0.5,nu=0.1', or a map"),
        (lambda run: run.plot(fields="u", at={"t": "b"}), "at = {'t': 'b'} is not allowed: 'z=0.5"),
        (lambda run: run.plot(fields="u", at={"t": math.nan}), "not allowed: one number for coord"),
        (lambda run: run.plot(fields="u", at="t=99"), "no such point is in the geometry, t from 0"),
        (lambda run: run.plot(width=["single"]), r"width = \['single'\] is not allowed"),
        (lambda run: run.predict({"t": 0, "x": 0}, 3), "3 is not allowed among fields: a name"),
        (lambda run: run.save(3), "path = 3 is not allowed: a path"),
        (lambda run: run.save(b"run.h5"), "path = b'run.h5' is not allowed: a path"),
        (lambda run: run.export(3), "path = 3 is not allowed: a path"),
        (lambda run: run.export("a.txt"), "path = 'a.txt' is not allowed: its name must end in"),
        (lambda run: hpctrain.load(3), "path = 3 is not allowed: a path"),
        (lambda run: hpctrain.load("\0"), r"path = '\\x00' is not allowed: a path"),
        (lambda run: hpctrain.resume(3), "run = 3 is not allowed: a result, or the path of a run"),
    ],
)
def test_what_a_result_is_not_to_be_asked_is_one_line(plain, ask, line):
    with pytest.raises(InputError, match=line) as caught:
        ask(plain)
    assert len(str(caught.value).splitlines()) == 1


def test_a_network_of_a_class_from_python_is_exported(decay, tmp_path):
    path = decay.export(tmp_path / "made" / "decay.pt2")
    t = torch.linspace(0, 1, 7, dtype=torch.float64)
    found = torch.export.load(str(path)).module()(t[:, None])[:, 0]
    assert np.allclose(found.detach(), decay.predict({"t": t.numpy()})["u"], rtol=0, atol=1e-14)


def test_a_run_without_a_file_is_gone_with_its_result_unless_it_is_saved(tmp_path):
    result = train(set={"stop.max_iterations": 1})
    path = result.path
    assert path.exists()
    kept = result.save(tmp_path / "kept" / "run.h5")
    with pytest.raises(InputError, match="exists already"):
        result.save(kept)
    theta = result.theta
    del result
    assert not path.parent.exists()
    assert np.array_equal(hpctrain.load(kept).theta, theta)


def test_a_run_with_a_file_is_opened_again(tmp_path):
    path = tmp_path / "run.h5"
    result = train(set={"output.path": path})
    opened = hpctrain.load(path)
    assert opened.path == result.path == path and opened.status == 0
    x = {"t": 0.5, "x": np.linspace(-1, 1, 5)}
    assert np.array_equal(opened.predict(x)["u"], result.predict(x)["u"])
    figure = opened.plot(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 0 and len(figure.axes) > 2
    again = train(set={"output.path": str(path)})
    assert again.path == tmp_path / "run-2.h5"


def test_a_run_that_goes_on_is_opened_too(tmp_path):
    seen = []

    def look(record):
        if record["iteration"] == 3:
            seen.append(hpctrain.load(tmp_path / "run.h5"))

    train(set={"output.path": tmp_path / "run.h5"}, callbacks=look)
    (running,) = seen
    assert running.status is None and running.reason == "running" and running.errors == {}
    assert running.history["iteration"].tolist() == [0, 1, 2, 3]
    for ask in (lambda: running.theta, lambda: running.predict({"t": 0.5, "x": 0.5})):
        with pytest.raises(InputError, match="has not ended"):
            ask()


def test_a_run_begins_from_the_network_of_another():
    first = train()
    second = train(set={"start": first.path, "stop.max_iterations": 1})
    assert second.history["loss"][0] == first.history["loss"][-1]


def test_a_class_from_python_is_named_in_the_run_file_and_is_given_again(tmp_path, refusal):
    path = tmp_path / "run.h5"
    result = train(DECAY, set={"output.path": path, "stop.max_iterations": 3})
    assert 'name = "python:Decay"' in read_run(path).job
    line = refusal("resume", path)
    assert line.startswith("problem.name = 'python:Decay': this class was given in Python")
    assert 'set={"problem.name": Decay}' in line
    with pytest.raises(InputError, match="given in Python"):
        hpctrain.load(path).predict({"t": 0.5})
    with pytest.raises(InputError, match="no class of this name"):
        hpctrain.load(path, set={"problem.name": Unknown})
    opened = hpctrain.load(path, set={"problem.name": Decay})
    assert np.array_equal(opened.predict({"t": 0.5})["u"], result.predict({"t": 0.5})["u"])
    further = {"stop.max_iterations": 5}
    with pytest.raises(InputError, match="given in Python"):
        hpctrain.resume(path, set=further, progress=False)
    with pytest.raises(InputError, match="a resumed run keeps this setting"):
        hpctrain.resume(path, set={"problem.name": Unknown}, progress=False)
    resumed = hpctrain.resume(path, set={"problem.name": Decay, **further}, progress=False)
    whole = train(DECAY, set=further)
    assert np.array_equal(resumed.theta, whole.theta)


class Descent(Solver):
    """Steps along -g, by a setting of its own."""

    class Options(hpctrain.Job.__base__):
        name: str
        step: float

    def init(self, theta):
        from hpctrain.methods.quasi_newton.lbfgs import LBFGSState
        from hpctrain.objective import evaluate_point

        return LBFGSState(evaluate_point(self.setting.objective, theta))

    def step(self, state):
        from hpctrain.solvers.base import Record

        new = self.init(state.point.theta - self.options.step * state.point.gradient)
        return new, Record(new.point.loss, 1.0, self.options.step, 1, 0)

    def describe(self):
        return ["descent"]


def test_solvers_and_networks_are_classes_from_python_too(tmp_path, data):
    solver = {"name": Descent, "step": 1e-3}
    result = train(set={"solver": solver, "stop.max_iterations": 2})
    assert result.job.solver[0].name == "python:Descent"
    losses = result.history["loss"]
    assert losses[2] < losses[1] < losses[0]
    assert len(hpctrain.resume(result, set={"stop.max_iterations": 3}).history["loss"]) == 4

    class Net(torch.nn.Sequential):
        def __init__(self):
            super().__init__(torch.nn.Flatten(), torch.nn.Linear(36, 10))

    problem = {"name": "classification", "data": "mnist", "data_path": data / "digits"}
    classifier = TABLES | {"problem": problem, "network": {"kind": Net}}
    trained = train(classifier, set={"precision": "float32", "stop.max_iterations": 2})
    assert 0 <= trained.final["test_accuracy"] <= 1 and trained.errors == {}
    assert f"test_accuracy {trained.final['test_accuracy']:.3e}" in repr(trained)
    probabilities = trained.network(torch.zeros(3, 1, 6, 6))
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(3))
    with pytest.raises(InputError, match="the run of a classifier has no solution at points"):
        trained.predict(np.zeros((1, 784)))


@pytest.mark.parametrize(
    ("job", "options", "line"),
    [
        (3, {}, "job = 3 is not allowed: the path of a job file, a mapping"),
        ("nowhere.toml", {}, "nowhere.toml: cannot read the job file"),
        (TABLES, {"set": ["seed=3"]}, r"set = \['seed=3'\] is not allowed: a mapping"),
        (TABLES, {"set": {3: 4}}, r"set=\{3: 4\}: expected keys and values"),
        (TABLES, {"set": {"solver.blocks": 4}}, "job with set=: solver.blocks is a setting of"),
        (TABLES | {"solver": {}}, {}, "job: solver.name is missing"),
        (TABLES, {"set": {"problem.name": Descent}}, "'python:Descent' is not allowed: a subclass"),
        (TABLES, {"callbacks": [3]}, r"callbacks = \[3\] is not allowed: a function of one"),
        (TABLES, {"callbacks": 3}, "callbacks = 3 is not allowed: a function of one argument, or"),
    ],
)
def test_bad_input_is_one_line(job, options, line):
    with pytest.raises(InputError, match=line) as caught:
        train(job, **options)
    assert len(str(caught.value).splitlines()) == 1


def test_a_callback_sees_each_iteration_and_stops_the_run():
    seen = []

    def stop_at_three(record):
        with pytest.raises(ValueError, match="read-only"):
            record["theta"][0] = 0
        return record["iteration"] == 3

    result = train(callbacks=[lambda record: seen.append(record), stop_at_three])
    assert result.reason == "stopped by a callback" and result.status == 0
    assert [record["iteration"] for record in seen] == [0, 1, 2, 3]
    for name, column in result.history.items():
        assert np.array_equal([record[name] for record in seen], column, equal_nan=True), name
    assert np.array_equal(seen[-1]["theta"], result.theta)
    assert np.array_equal(hpctrain.resume(result, progress=False).theta, train().theta)


@pytest.mark.filterwarnings("ignore:.*no checkpoint yet")
def test_an_error_of_a_callback_is_raised_as_it_is_and_the_file_is_free_again(tmp_path):
    path = {"output.path": tmp_path / "run.h5"}
    with pytest.raises(ZeroDivisionError):
        train(set=path, callbacks=lambda record: 1 / (record["iteration"] - 2))
    ended = hpctrain.load(tmp_path / "run.h5")
    assert ended.reason == "running" and ended.history["iteration"].tolist() == [0, 1, 2]
    whole = hpctrain.resume(tmp_path / "run.h5", progress=False)
    assert np.array_equal(whole.theta, train().theta)


@pytest.fixture
def interruptible():
    """SIGINT as Python takes it: a shell's jobs in the background start with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_a_run_with_a_checkpoint_to_go_on_from():
    def interrupt(record):
        if record["iteration"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    result = train(callbacks=interrupt)
    assert result.status == 75 and result.reason == "stopped by a signal"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = hpctrain.resume(result, progress=False)
    assert resumed.status == 0 and np.array_equal(resumed.theta, train().theta)


@pytest.mark.usefixtures("interruptible")
def test_a_second_interrupt_raises_as_python_does():
    def interrupt(record):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(callbacks=interrupt)
    assert train().status == 0


def test_training_works_in_a_thread_and_leaves_torch_its_threads():
    from concurrent.futures import ThreadPoolExecutor

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(1) as pool:
            result = pool.submit(train).result()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(result.theta, train().theta)


def test_progress_is_lines_where_no_bar_is_and_nothing_if_not_wanted(capsys):
    train(set={"stop.max_iterations": 1}, progress=True)
    assert "stop.max_iterations reached" in capsys.readouterr().out
    train(set={"stop.max_iterations": 1})
    assert capsys.readouterr().out == ""


def test_importing_the_package_imports_neither_torch_nor_mpi():
    program = "import sys, hpctrain; print({'torch', 'mpi4py', 'h5py', 'numpy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout == "set()\n", found.stderr


def test_every_name_of_the_package_is_there():
    assert all(getattr(hpctrain, name) is not None for name in hpctrain.__all__)
    assert hpctrain.Equations is Equations and {"train", "torch"} <= set(dir(hpctrain))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hpctrain.nothing


def test_a_loss_that_is_not_finite_is_an_error():
    adam = {"name": "adam", "learning_rate": 1e300}
    with pytest.raises(hpctrain.RunError, match="became NaN or infinite"):
        train(TABLES | {"solver": adam})


@pytest.mark.parametrize("windows", [{}, {"slabs": 2}])
def test_a_residual_that_is_not_finite_at_some_points_is_found(windows):
    class Rooted(Decay):
        unknowns = {}
        conditions = (Initial({"u": 1.0}, exact=True),)
        residuals = lambda self, at, u: u.t + torch.sqrt(at.t - 0.05)  # noqa: E731

    one_step = {"solver": TABLES["solver"] | {"stop": {"max_iterations": 1}}}
    where = r"test_python_runs.py:\d+: Rooted.residuals is not finite at t = 0\.0[0-4]\d*$"
    with pytest.raises(hpctrain.RunError, match=where):
        train(DECAY | {"problem": {"name": Rooted, "points": 30, **windows}, **one_step})


def test_a_callback_that_fails_on_one_rank_ends_the_whole_job(mpirun, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import hpctrain\nfrom mpi4py import MPI\n"
        f"job = {TABLES}\n"
        "hpctrain.train(job, callbacks=lambda record: 1 / MPI.COMM_WORLD.rank, progress=False)\n"
    )
    job = mpirun(2, script)
    assert job.returncode == 1 and "ZeroDivisionError: division by zero" in job.stderr
