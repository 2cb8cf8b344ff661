"""Classes and probabilities of samples, against the network and the labels."""

import h5py
import numpy as np
import pytest
import torch
from classifiers import images, write_idx

from hpctrain.errors import InputError
from hpctrain.job.settings import load_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.data.tables import read_table
from hpctrain.results.predict import predict
from hpctrain.results.solution import open_problem, open_solution
from hpctrain.run.train import run
from hpctrain.store.run_file import read_run

CLASSIFIER = """
precision = "float64"
[problem]
name = "classification"
data = "mnist"
data_path = "{data}/digits"
[network]
kind = "fcnn"
hidden = [5]
[solver]
name = "adam"
[stop]
max_iterations = 30
[parallel]
chunks = 4
threads = 1
"""
LOGISTIC = """
[problem]
name = "logistic"
data = "{data}/rows.h5"
[solver]
name = "newton"
[stop]
max_iterations = 3
[parallel]
chunks = 4
threads = 1
"""


@pytest.fixture(scope="module")
def train(data, tmp_path_factory):
    """Runs a job, and gives its run file."""
    folder = tmp_path_factory.mktemp("runs")

    def do(name, text):
        (folder / f"{name}.toml").write_text(text.format(data=data))
        path = folder / f"{name}.h5"
        if not path.exists():
            run(load_job(str(folder / f"{name}.toml"), []), Communicator(), output=str(path))
        return path

    return do


def test_classes_of_test_samples_agree_with_the_accuracy_that_the_run_measured(
    train, tmp_path, monkeypatch
):
    monkeypatch.setattr("hpctrain.results.classify.BLOCK", 3)
    path, out = train("digits", CLASSIFIER), tmp_path / "out.csv"
    said = predict(str(path), "test", str(out), None, 1)
    found = read_table(out)
    measured = read_run(path).history["test_accuracy"][-1]
    assert (found["predicted"] == found["label"]).mean() == measured
    assert said == f"{out}: classes of 8 samples, {measured:.2%} as they are labelled"
    probabilities = np.column_stack([found[f"p_{k}"] for k in range(10)])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert np.array_equal(probabilities.argmax(axis=1), found["predicted"])


def test_samples_of_every_format_get_the_probabilities_of_the_network(train, data, tmp_path):
    path = train("digits", CLASSIFIER)
    problem, theta = open_problem(read_run(path))
    values, _ = images(5, problem.sample_shape, seed=3)
    np.save(tmp_path / "a.npy", values)
    write_idx(tmp_path / "images.gz", values[:, 0])
    with torch.no_grad():
        replica = problem.network.replica(torch.float64)
        replica.load(theta, 0)
        inputs = torch.tensor(problem.scaling(values, np.dtype("f8")))
        expected = torch.softmax(replica.run(inputs, 0), dim=1).numpy()
    for samples in ("a.npy", "images.gz"):
        predict(str(path), str(tmp_path / samples), str(tmp_path / "out.npz"), None, 1)
        found = read_table(tmp_path / "out.npz")
        assert "label" not in found
        for k in range(10):
            np.testing.assert_allclose(found[f"p_{k}"], expected[:, k], rtol=1e-12)


def test_labels_of_logistic_regression_are_those_of_its_data(train, data, tmp_path):
    path = train("rows", LOGISTIC)
    said = predict(str(path), str(data / "rows.h5"), str(tmp_path / "out.h5"), None, 1)
    found, theta = read_table(tmp_path / "out.h5"), read_run(path).parameters
    assert set(found["predicted"]) == {-1.0, 1.0} and set(found["label"]) == {-1.0, 1.0}
    rows = read_table(data / "rows.h5")["features"]
    np.testing.assert_allclose(found["p_1"], 1 / (1 + np.exp(-rows @ theta)), rtol=1e-12)
    right = (found["predicted"] == found["label"]).mean()
    assert said.endswith(f"classes of 40 samples, {right:.2%} as they are labelled")
    np.save(tmp_path / "rows.npy", rows)
    predict(str(path), str(tmp_path / "rows.npy"), str(tmp_path / "again.h5"), None, 1)
    assert np.array_equal(read_table(tmp_path / "again.h5")["p_1"], found["p_1"])


def test_what_cannot_be_classified_is_refused_in_one_line(train, tmp_path):
    path = train("digits", CLASSIFIER)
    np.save(tmp_path / "wide.npy", np.zeros((2, 1, 7, 6)))
    np.save(tmp_path / "nan.npy", np.full((2, 1, 6, 6), np.nan))
    np.savez(tmp_path / "table.npz", x=np.zeros(3))
    (tmp_path / "broken.h5").write_text("x")
    with h5py.File(tmp_path / "complex.h5", "w") as file:
        file["inputs"] = np.zeros((2, 1, 6, 6), complex)
    for samples, output, more, said in (
        ("none.npy", "o.csv", {}, 'none.npy\' are not allowed, there is no such file: "train" or'),
        (
            "wide.npy",
            "o.csv",
            {},
            r"samples of shape \(1, 7, 6\): the run was trained with .*1, 6,",
        ),
        ("table.npz", "o.csv", {}, r"table\.npz: \.npz is not allowed for samples: .*\.npy \(N"),
        ("broken.h5", "o.csv", {}, r"broken\.h5 cannot be read: "),
        ("complex.h5", "o.csv", {}, r"complex\.h5 holds complex128, allowed are real numbers"),
        ("nan.npy", "o.csv", {}, "samples 0 to 1 are not all finite"),
        ("nan.npy", "o.vtu", {}, r"o\.vtu is not allowed: its name must end in \.csv"),
        ("nan.npy", "o.csv", {"at": "t=0"}, "--at t=0 is not allowed: .* run of a classifier"),
    ):
        with pytest.raises(InputError, match=said):
            predict(str(path), f"{tmp_path}/{samples}", f"{tmp_path}/{output}", None, 1, **more)
    with pytest.raises(InputError, match="the run of a classifier has no solution at points"):
        open_solution(path)
