"""Predictions of a trained solution at points, against its definition and its reference."""

from xml.etree import ElementTree

import meshio
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
    points, out = tmp_path / "points.csv", tmp_path / "made" / "out.npz"
    write_table(points, {"x": x, "t": np.full(5, 0.7)})
    said = predict(str(trained), str(points), str(out), "u,u.x,u.xx", 2)
    assert said == f"{out}: u, u.x, u.xx at 5 points"
    found = read_table(out)
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
        monkeypatch.setattr("hpctrain.results.predict.BLOCK", block)
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
        " the solution is extrapolated there"
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
    "a folder": ("t=0,x=0", "file/out.csv", None, r"out\.csv cannot be written: Not a dir"),
    "numbers": ("t=nan,x=0", "out.csv", None, r"are not allowed: a table"),
}


@pytest.mark.parametrize("points, output, names, said", FAULTS.values(), ids=FAULTS)
def test_what_cannot_be_predicted_is_refused_in_one_line(
    trained, tmp_path, points, output, names, said
):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=said) as caught:
        predict(str(trained), points, f"{tmp_path}/{output}", names, 1)
    assert "\n" not in str(caught.value) and not (tmp_path / output).exists()


@pytest.mark.parametrize("end", ["csv", "npy", "h5", "vtu", "vts"])
def test_outputs_of_every_kind_hold_the_same_values(trained, tmp_path, end, monkeypatch):
    monkeypatch.setattr("hpctrain.results.predict.BLOCK", 7)  # what comes later is put behind
    out = tmp_path / f"out.{end}"
    predict(str(trained), "t=0:1:3,x=-1:1:9", str(out), "u,u.x", 1)
    expected = open_solution(trained).evaluate(
        {"t": np.linspace(0, 1, 3)[:, None], "x": np.linspace(-1, 1, 9)}, ["u", "u.x"]
    )
    if end == "vts":
        found = read_structured(out)
        assert found["extent"] == "0 8 0 2 0 0"
        x, t = found["Points"].reshape(-1, 3).T[:2]
    elif end == "vtu":
        mesh = meshio.read(out)
        found, (x, t) = mesh.point_data, mesh.points.T[:2]
        assert mesh.cells_dict["quad"].shape == (16, 4)
    else:
        found = read_table(out)
        x, t = found["x"], found["t"]
    assert t.tolist() == np.repeat([0, 0.5, 1], 9).tolist()
    assert x.tolist() == np.tile(np.linspace(-1, 1, 9), 3).tolist()
    for name, values in expected.items():
        assert np.array_equal(np.ravel(found[name]), values.ravel()), name
    assert [each.name for each in tmp_path.iterdir()] == [out.name]


def read_structured(path):
    """The arrays of a VTS file by name, and its extent."""
    head, _, data = path.read_bytes().partition(b'<AppendedData encoding="raw">\n_')
    root = ElementTree.fromstring(head + b"</VTKFile>")
    arrays = {}
    for each in root.iter("DataArray"):
        start = int(each.get("offset"))
        size = int.from_bytes(data[start : start + 8], "little")
        arrays[each.get("Name")] = np.frombuffer(data[start + 8 : start + 8 + size], "f8")
    return arrays | {"extent": root[0].get("WholeExtent")}


def test_a_grid_with_time_is_a_series_of_steps_in_xdmf(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("hpctrain.results.predict.BLOCK", 7)
    out = tmp_path / "out.xdmf"
    predict(str(trained), "x=-1:1:9,t=0:1:3", str(out), "u,u.x", 1)
    expected = open_solution(trained).evaluate(
        {"t": np.linspace(0, 1, 3)[:, None], "x": np.linspace(-1, 1, 9)}, ["u", "u.x"]
    )
    with meshio.xdmf.TimeSeriesReader(out) as steps:
        points, (cells,) = steps.read_points_cells()
        assert points[:, 0].tolist() == np.linspace(-1, 1, 9).tolist()
        assert (cells.type, cells.data.shape, steps.num_steps) == ("line", (8, 2), 3)
        for k in range(3):
            time, found, _ = steps.read_data(k)
            assert time == k / 2
            assert all(np.array_equal(found[name], expected[name][k]) for name in expected)


def test_points_of_a_mesh_keep_its_cells_and_are_taken_at_given_times(trained, tmp_path):
    points = np.array([[-1.0, 0, 0], [0.25, 0, 0], [1, 0, 0]])
    meshio.Mesh(points, [("line", [[0, 1], [1, 2]])]).write(tmp_path / "mesh.vtu")
    predict(str(trained), f"{tmp_path}/mesh.vtu", f"{tmp_path}/at.vtu", None, 1, at="t=0.5")
    found = meshio.read(tmp_path / "at.vtu")
    assert np.array_equal(found.points, points + [[0, 0.5, 0]] * 3)
    assert found.cells_dict["line"].tolist() == [[0, 1], [1, 2]]
    u = open_solution(trained).evaluate({"t": [[0], [0.5]], "x": points[:, 0]})["u"]
    assert np.array_equal(found.point_data["u"], u[1])
    predict(str(trained), f"{tmp_path}/mesh.vtu", f"{tmp_path}/t.xdmf", None, 1, at="t=0:0.5:2")
    with meshio.xdmf.TimeSeriesReader(tmp_path / "t.xdmf") as steps:
        assert np.array_equal(steps.read_points_cells()[0], points)
        for k in range(2):
            assert np.array_equal(steps.read_data(k)[1]["u"], u[k])


def test_a_coordinate_of_the_points_is_not_given_again(trained, tmp_path):
    table, mesh = tmp_path / "points.csv", tmp_path / "mesh.vtu"
    write_table(table, {"x": np.zeros(2), "t": np.full(2, 0.1)})
    line = meshio.Mesh(np.zeros((2, 3)), {"line": [[0, 1]]}, point_data={"t": np.zeros(2)})
    line.write(mesh)
    for points in (str(table), str(mesh), "t=0:1:3,x=0"):
        with pytest.raises(InputError) as caught:
            predict(str(trained), points, f"{tmp_path}/out.csv", None, 1, at="t=0.3")
        assert str(caught.value) == f"--at t=… is not allowed: {points} has t itself"


def test_a_table_without_rows_gives_one(trained, tmp_path):
    (tmp_path / "none.csv").write_text("t,x\n")
    predict(str(trained), f"{tmp_path}/none.csv", f"{tmp_path}/out.csv", None, 1)
    assert (tmp_path / "out.csv").read_text() == "t,x,u\n"


def test_what_fails_in_a_later_block_leaves_the_output_of_before(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("hpctrain.results.predict.BLOCK", 2)
    points, out = tmp_path / "points.csv", tmp_path / "out.csv"
    points.write_text("t,x\n0,0\n0,0\n0,nan\n")
    out.write_text("before")
    with pytest.raises(InputError, match="has coordinates that are not finite"):
        predict(str(trained), str(points), str(out), None, 1)
    assert out.read_text() == "before" and len(list(tmp_path.iterdir())) == 2


def test_float32_networks_predict_too(tmp_path):
    path = tmp_path / "single.h5"
    job = load_job("jobs/burgers.toml", [*SETTINGS, "precision=float32"])
    run(job, Communicator(), output=str(path))
    predict(str(path), "t=0.5,x=-1:1:9", f"{tmp_path}/out.csv", None, 1)
    assert torch.as_tensor(read_table(tmp_path / "out.csv")["u"]).isfinite().all()


def test_what_is_read_is_not_written_over(trained, tmp_path):
    points = tmp_path / "points.csv"
    points.write_text("t,x\n0,0\n")
    for output in (points, trained):
        before = output.read_bytes()
        with pytest.raises(InputError, match=r"is not allowed: .* is read, too"):
            predict(str(trained), str(points), str(output), None, 1)
        assert output.read_bytes() == before


def test_a_table_of_single_numbers_is_refused_in_one_line(trained, tmp_path):
    np.savez(tmp_path / "one.npz", t=0.5, x=0.1)
    assert read_table(tmp_path / "one.npz")["t"].shape == ()
    with pytest.raises(InputError, match=r"one\.npz must have columns of one length for t, x"):
        predict(str(trained), f"{tmp_path}/one.npz", f"{tmp_path}/out.csv", None, 1)
