"""Predictions of a trained solution at points, against its definition and its reference."""

import numpy as np
import pytest
import torch

from hpctrain.errors import InputError
from hpctrain.job.settings import load_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.data.tables import read_table, write_table
from hpctrain.results.predict import predict
from hpctrain.results.solution import open_solution
from hpctrain.run.train import run

SETTINGS = (
    "problem.points=60",
    "network.depth=3",
    "network.width=6",
    "network.scale_inputs=true",
    "parallel.chunks=4",
    "parallel.threads=1",
    "stop.max_iterations=3",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "burgers.h5"
    run(load_job("jobs/burgers.toml", SETTINGS), Communicator(), output=str(path))
    return path


@pytest.mark.parametrize("end", ["csv", "npy", "npz", "h5"])
def test_tables_of_every_format_come_back_with_the_same_bits(tmp_path, end):
    columns = {"x": np.random.default_rng(0).normal(size=5), "u.x": np.arange(5) / 3}
    write_table(tmp_path / f"a.{end}", columns)
    found = read_table(tmp_path / f"a.{end}")
    assert {name: values.tolist() for name, values in found.items()} == {
        name: values.tolist() for name, values in columns.items()
    }


def test_fields_and_derivatives_are_those_of_differences(trained, tmp_path):
    h = 1e-4
    x = 0.3 + h * np.arange(-2, 3)
    write_table(tmp_path / "points.csv", {"x": x, "t": np.full(5, 0.7)})
    said = predict(str(trained), f"{tmp_path}/points.csv", f"{tmp_path}/out.npz", "u,u.x,u.xx", 2)
    assert said == f"{tmp_path}/out.npz: u, u.x, u.xx at 5 points"
    found = read_table(tmp_path / "out.npz")
    assert list(found) == ["t", "x", "u", "u.x", "u.xx"] and np.array_equal(found["x"], x)
    u = found["u"]
    assert found["u.x"][2] == pytest.approx((u[3] - u[1]) / (2 * h), rel=1e-6)
    assert found["u.xx"][2] == pytest.approx((u[3] - 2 * u[2] + u[1]) / h**2, rel=1e-4)


def test_a_grid_has_its_ends_and_meets_the_conditions(trained, tmp_path):
    predict(str(trained), "t=0:1:3,x=-1:1:5", f"{tmp_path}/out.csv", None, 1)
    found = read_table(tmp_path / "out.csv")
    assert found["t"].tolist() == [0.0] * 5 + [0.5] * 5 + [1.0] * 5
    assert found["x"][:5].tolist() == [-1, -0.5, 0, 0.5, 1]
    start = found["t"] == 0
    np.testing.assert_allclose(found["u"][start], -np.sin(np.pi * found["x"][start]), atol=1e-15)
    assert np.abs(found["u"][np.abs(found["x"]) == 1]).max() < 1e-15


def test_blocks_do_not_change_the_values(trained, tmp_path, monkeypatch):
    outs = []
    for number, block in enumerate((1 << 16, 7)):
        monkeypatch.setattr("hpctrain.results.solution.BLOCK", block)
        predict(str(trained), "t=0:1:5,x=-1:1:9", f"{tmp_path}/{number}.npy", "u,u.t", 1)
        outs.append(np.load(tmp_path / f"{number}.npy"))
    assert np.array_equal(*outs)


def test_a_solution_takes_arrays_that_broadcast_and_names_what_does_not_fit(trained):
    solution = open_solution(trained)
    assert (solution.coordinates, solution.outputs) == (("t", "x"), ("u",))
    t, x = np.linspace(0, 1, 3), np.linspace(-1, 1, 5)
    grid = solution.evaluate({"x": x, "t": t[:, None]}, ["u.x", "u"])
    assert list(grid) == ["u.x", "u"] and grid["u"].shape == (3, 5)
    points = solution.evaluate({"t": np.repeat(t, 5), "x": np.tile(x, 3)})
    assert np.array_equal(points["u"], grid["u"].ravel())
    assert solution.evaluate({"t": 0.5, "x": 0.1})["u"].shape == ()
    for given, said in (
        ({"t": 0.5}, "points lack the coordinate x: they must have t, x"),
        ({"t": 0.5, "x": 0, "y": 0}, "points have no coordinate 'y': allowed are t, x"),
        ({"t": t, "x": x}, "points must be numbers of shapes that fit, for each of t, x"),
        ({"t": 0.5, "x": np.nan}, "points have coordinates that are not finite"),
    ):
        with pytest.raises(InputError, match=said):
            solution.evaluate(given)


def test_points_outside_of_the_geometry_are_warned_of(trained, tmp_path, recwarn):
    predict(str(trained), "t=0:1:2,x=-1:1:2", f"{tmp_path}/out.csv", None, 1)
    assert not recwarn
    predict(str(trained), "t=0.5:1.5:2,x=-1:1:2", f"{tmp_path}/out.csv", None, 1)
    (warned,) = recwarn
    assert str(warned.message) == (
        "t=0.5:1.5:2,x=-1:1:2: 2 of 4 points lie outside of the geometry, such as t = 1.5, x = -1:"
        " it is extrapolated there"
    )


FAULTS = {
    "an end": ("t=0,x=0", "out.txt", None, r"-o .*out\.txt is not allowed: its name must end in"),
    "a field": (
        "t=0,x=0",
        "out.csv",
        "v",
        r"'v' is not allowed: one of u, or a derivative such as",
    ),
    "an order": ("t=0,x=0", "out.csv", "u.xxxxx", r"'u.xxxxx' is not allowed: .*to order 4$"),
    "a coordinate": ("t=0", "out.csv", None, r"t=0 has no column x: it must have t, x"),
    "a grid": ("t=0:1,x=0", "out.csv", None, r"points 't=0:1,x=0' are not allowed: a table"),
    "a file": ("none.csv", "out.csv", None, r"none\.csv cannot be read: .*No such file"),
    "numbers": ("t=nan,x=0", "out.csv", None, r"are not allowed: a table"),
}


@pytest.mark.parametrize("points, output, names, said", FAULTS.values(), ids=FAULTS)
def test_what_cannot_be_predicted_is_refused_in_one_line(
    trained, tmp_path, points, output, names, said
):
    with pytest.raises(InputError, match=said) as caught:
        predict(str(trained), points, f"{tmp_path}/{output}", names, 1)
    assert "\n" not in str(caught.value) and not (tmp_path / output).exists()


def test_a_run_that_goes_on_and_one_without_points_are_refused(trained, tmp_path, monkeypatch):
    from hpctrain.problems.equations.problem import PinnProblem

    monkeypatch.delattr(PinnProblem, "evaluate")
    with pytest.raises(InputError, match="the solution of a burgers problem has no points"):
        predict(str(trained), "t=0,x=0", f"{tmp_path}/out.csv", None, 1)


def test_float32_networks_predict_too(tmp_path):
    path = tmp_path / "single.h5"
    job = load_job("jobs/burgers.toml", [*SETTINGS, "precision=float32"])
    run(job, Communicator(), output=str(path))
    predict(str(path), "t=0.5,x=-1:1:9", f"{tmp_path}/out.csv", None, 1)
    assert torch.as_tensor(read_table(tmp_path / "out.csv")["u"]).isfinite().all()
