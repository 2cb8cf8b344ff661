"""Jobs that train classifiers: what a run records, refuses and shows."""

import csv
import io

import numpy as np
import pytest
from classifiers import write_h5, write_mnist
from job_texts import ADAM, DIGITS, FCNN, write_text

from hpctrain.errors import InputError
from hpctrain.job.settings import parse_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.results import figures
from hpctrain.results import report as tables
from hpctrain.run.train import run
from hpctrain.store.run_file import read_run
from hpctrain.study import compare

JOB = write_text(
    DIGITS,
    network=FCNN,
    solver=ADAM,
    output="error_every = 4",
    stop="max_iterations = 32",
    first='precision = "float32"',
)


@pytest.fixture
def folder(tmp_path):
    return write_mnist(tmp_path / "digits")


@pytest.fixture
def job(folder):
    return lambda *overrides: parse_job(JOB.format(folder=folder), "a test", overrides)


@pytest.fixture
def trained(job, tmp_path):
    path = tmp_path / "run.h5"
    outcome = run(job("problem.train_accuracy=true"), Communicator(), str(path))
    assert outcome.status == 0
    return read_run(path)


def test_a_run_records_accuracies_and_epochs(trained):
    history = trained.history
    assert "error" not in history and trained.solution is None
    # 64 samples in 4 batches of 16.
    np.testing.assert_allclose(history["epoch"], np.arange(33) / 4)
    known = np.isfinite(history["test_accuracy"])
    assert np.flatnonzero(known).tolist() == list(range(0, 33, 4))
    for name in ("train", "test"):
        accuracy = history[f"{name}_accuracy"][known]
        assert accuracy[-1] > 0.8 and accuracy[0] < 0.5
    assert history["train_loss"][known][-1] < 0.5
    np.testing.assert_allclose(history["gradient_evaluations"], (1 + np.arange(33)) / 4)


def test_a_run_says_what_is_trained_and_what_it_reached(job, capsys):
    run(job("stop.max_iterations=4"), Communicator())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "classification: mnist, 64 training and 16 test samples, network fcnn 36-8-10 (relu),"
        " logits, n = 386, float32, seed 0"
    )
    assert lines[2] == "  4 mini-batches an epoch, of at most 20 samples"
    assert any("test accuracy" in line and "(test loss" in line for line in lines)


def test_a_run_stops_at_a_test_accuracy(job, tmp_path):
    path = tmp_path / "run.h5"
    outcome = run(job("stop.test_accuracy=0.5", "output.error_every=1"), Communicator(), str(path))
    assert (outcome.reason.key, outcome.status) == ("test_accuracy", 0)
    found = read_run(path)
    assert found.stop_reason == "stop.test_accuracy reached"
    assert found.history["test_accuracy"][-1] >= 0.5 > found.history["test_accuracy"][-2]


def test_full_batches_are_the_method_without_batches(folder, tmp_path):
    histories = []
    for name, size in (("all", 64), ("none", None)):
        text = JOB.replace("batch_size = 20\n", "" if size is None else f"batch_size = {size}\n")
        run(
            parse_job(text.format(folder=folder), "a test"),
            Communicator(),
            str(tmp_path / f"{name}.h5"),
        )
        histories.append(read_run(tmp_path / f"{name}.h5").history)
    for column in ("loss", "gradient_norm", "test_accuracy", "epoch"):
        np.testing.assert_array_equal(histories[0][column], histories[1][column])


NEWTONS = ["newton", "ssn", "mlvr", "mlvr-krylov"]  # whose Hessians are indefinite here


@pytest.mark.parametrize(
    "solver",
    ["lbfgs", "sgd", "trust-region", "aspqn", "mspqn", "ssbroyden", "torch-lbfgs", *NEWTONS],
)
def test_any_solver_trains_a_classifier(job, tmp_path, solver):
    settings = {"aspqn": {"blocks": 2}, "mspqn": {"blocks": 2}, "sgd": {"learning_rate": 0.05}}
    settings |= {"mlvr": {"smoother": "newton"}}
    text = JOB.replace("learning_rate = 0.02\nbatch_size = 20\n", "")
    overrides = [f"solver.name={solver}", "stop.max_iterations=5", "precision=float64"]
    overrides += [f"solver.{key}={value}" for key, value in settings.get(solver, {}).items()]
    path = tmp_path / "run.h5"
    trained = parse_job(text.format(folder=job().problem.data_path), "a test", overrides)
    run(trained, Communicator(), str(path))
    losses = read_run(path).history["loss"]
    assert losses[-1] < 0.999 * losses[0]


REFUSED = {
    (
        "solver.name=gauss-newton",
    ): 'solver.name = "gauss-newton" is not allowed: this problem\'s loss is no sum',
    ("solver.name=aspqn", "solver.blocks=3"): "solver.blocks = 3 is not allowed: at most 2, the",
    (
        "solver.name=apts-weights",
        "solver.pieces=tensors",
        "solver.blocks=5",
    ): "solver.blocks = 5 is not allowed: at most 4, the number of the network's tensors",
    ("solver.name=mspqn", "solver.blocks=1", "solver.overlap=2"): "solver.overlap = 2 is not allow",
    (
        "solver.name=sgd",
        "solver.batch_size=65",
    ): "solver.batch_size = 65 is not allowed: at most 64",
    ("network.kind=resnet-18", "problem.data_path=none"): "there is no train-images-idx3-ubyte or",
    ("network.kind=none.py:Net",): "network.kind = 'none.py:Net': there is no file none.py (from",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_what_cannot_be_is_refused_in_one_line_before_any_work(job, overrides):
    text = JOB.replace("learning_rate = 0.02\nbatch_size = 20\n", "")
    if any("network" in override for override in overrides):
        text = text.replace("hidden = [8]\n", "")
    with pytest.raises(InputError) as caught:
        run(
            parse_job(text.format(folder=job().problem.data_path), "a test", overrides),
            Communicator(),
        )
    assert REFUSED[overrides] in str(caught.value) and "\n" not in str(caught.value)


NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 3))

    def forward(self, x):
        return self.body(x)
"""


def test_a_network_and_data_of_ones_own_are_trained(tmp_path):
    (tmp_path / "my_net.py").write_text(NET)
    write_h5(tmp_path / "mine.h5")
    text = JOB.replace("hidden = [8]\n", "").replace('"fcnn"', f'"{tmp_path}/my_net.py:Net"')
    text = text.replace('"mnist"', '"mine.h5"').format(folder=tmp_path)
    run(parse_job(text, "a test"), Communicator(), str(tmp_path / "run.h5"))
    assert read_run(tmp_path / "run.h5").history["test_accuracy"][-1] > 0.8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class Net:\n    pass\n", r"my_net.py has no class Net of type Module$"),
        (NET.replace("nn.Linear(6, 3)", "fail"), r"my_net.py:7: NameError: name 'fail' is not def"),
        (NET.replace("nn.ReLU()", "nn.Dropout()"), r"my_net.py:Net draws random numbers, first"),
        (
            NET.replace("(6, 3)", "(6, 4)"),
            r"my_net.py:Net: outputs of shape \(4,\), but mine has 3",
        ),
    ],
)
def test_a_network_of_ones_own_that_cannot_be_used_is_named_in_one_line(tmp_path, text, message):
    (tmp_path / "my_net.py").write_text(text)
    write_h5(tmp_path / "mine.h5")
    job = JOB.replace("hidden = [8]\n", "").replace('"fcnn"', f'"{tmp_path}/my_net.py:Net"')
    job = job.replace('"mnist"', '"mine.h5"').format(folder=tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        run(parse_job(job, "a test"), Communicator())
    assert "\n" not in str(caught.value)


def test_reports_and_figures_show_accuracies_and_epochs(trained, tmp_path):
    text = tables.report([trained.path])
    assert "test accuracy" in text and "fcnn 8" in text and "mnist" in text
    assert "First record at or above a test accuracy" in text and "error" not in text
    (row,) = csv.DictReader(io.StringIO(tables.report([trained.path], "csv")))
    assert float(row["test accuracy"]) == trained.history["test_accuracy"][-1]
    for paths in ([trained.path], [trained.path, trained.path]):
        output = tmp_path / f"{len(paths)}.png"
        figures.plot(paths, output)
        assert output.read_bytes().startswith(b"\x89PNG")


def test_a_comparison_tells_accuracies_after_epochs_and_draws_them(folder, tmp_path, runs_here):
    path = tmp_path / "adam.toml"
    path.write_text(JOB.format(folder=folder))
    study = compare.Study([str(path)], [0, 1], folder=str(tmp_path / "runs"))
    output = tmp_path / "figure.png"
    text = compare.compare(study, figure=str(output))
    assert "Test accuracy after epochs" in text and "epoch 5" in text and "epoch 10" not in text
    assert output.read_bytes().startswith(b"\x89PNG")
    (adam,) = csv.DictReader(io.StringIO(compare.compare(study, "csv")))
    assert adam["epochs median"] == "8.0" and 0 < float(adam["test accuracy lowest"]) <= 1
