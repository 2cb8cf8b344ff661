"""Exported networks, evaluated by other programs, against predictions."""

import sys

import numpy as np
import onnxruntime
import pytest
import torch

from hpctrain.errors import InputError
from hpctrain.job.settings import load_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.data.tables import read_table
from hpctrain.results.export import export
from hpctrain.results.predict import predict
from hpctrain.results.solution import open_solution
from hpctrain.run.train import run

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")

ENDS = (".pt2", ".pt", ".onnx")
SMALL = ("network.depth=3", "network.width=5", "parallel.chunks=4", "parallel.threads=1")
# A field that meets a condition by its form, and one that is the network's output.
BOTH = """
import torch
from hpctrain.problems.equations import Box, Equations, Initial

class Both(Equations):
    geometry = Box(t=(0, 2), x=(0, 1))
    fields = ("u", "v")
    conditions = (Initial({"u": lambda at: torch.cos(at.x)}, exact=True), Initial({"v": 1.0}))

    def residuals(self, at, u, v):
        return {"first": u.t + v.x, "second": v.t + u.x}
"""
DIGITS = """
precision = "float64"
[problem]
name = "classification"
data = "mnist"
data_path = "{data}/digits"
output = "sigmoid"
[network]
kind = "fcnn"
hidden = [5]
[solver]
name = "adam"
[parallel]
chunks = 4
threads = 1
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "both.py").write_text(BOTH)
    (folder / "job.toml").write_text('[solver]\nname = "lbfgs"\n')
    settings = [*SMALL, f"problem.name={folder}/both.py:Both", "problem.points=40"]
    settings += ["problem.scale_distance=true", "stop.max_iterations=2"]
    run(load_job(str(folder / "job.toml"), settings), Communicator(), str(folder / "both.h5"))
    return folder / "both.h5"


def evaluate(path, name, x):
    """What an exported file gives, to a program that has no hpctrain."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path)
        return session.run(None, {name: x})[0], session.get_modelmeta().custom_metadata_map
    facts = dict.fromkeys(
        ("coordinates", "fields") if name == "points" else ("shape", "classes"), ""
    )
    if path.suffix == ".pt2":
        found = torch.export.load(str(path), extra_files=facts).module()
    else:
        found = torch.jit.load(str(path), _extra_files=facts)
    read = {k: v.decode() if isinstance(v, bytes) else v for k, v in facts.items()}
    return found(torch.tensor(x)).detach().numpy(), read


@pytest.mark.parametrize("end", ENDS)
def test_exported_fields_are_those_of_predict(trained, tmp_path, end):
    out = tmp_path / "made" / f"model{end}"
    solution = open_solution(trained)
    names, fields = ", ".join(solution.coordinates), ", ".join(solution.outputs)
    said = export(str(trained), str(out))
    assert said == f"{out}: points to fields (coordinates: {names}; fields: {fields})"
    x = np.random.default_rng(0).uniform(0, 1, (37, len(solution.coordinates)))
    found, facts = evaluate(out, "points", x)
    assert facts == {"coordinates": names, "fields": fields}
    expected = solution.evaluate(dict(zip(solution.coordinates, x.T, strict=True)))
    for k, values in enumerate(expected.values()):
        np.testing.assert_allclose(found[:, k], values, rtol=0, atol=1e-12)
    assert [each.name for each in out.parent.iterdir()] == [out.name]


@pytest.fixture(scope="module")
def digits(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    (folder / "job.toml").write_text(DIGITS.format(data=data))
    job = load_job(str(folder / "job.toml"), ["stop.max_iterations=5"])
    run(job, Communicator(), output=str(folder / "run.h5"))
    return folder / "run.h5"


@pytest.mark.parametrize("end", ENDS)
def test_exported_probabilities_are_those_of_predict(digits, tmp_path, end):
    out = tmp_path / f"model{end}"
    export(str(digits), str(out))
    x = np.random.default_rng(0).integers(0, 256, (7, 1, 6, 6)).astype(float)
    np.save(tmp_path / "x.npy", x)
    predict(str(digits), str(tmp_path / "x.npy"), str(tmp_path / "p.npz"), None, 1)
    expected = read_table(tmp_path / "p.npz")
    found, facts = evaluate(out, "samples", x)
    assert facts["shape"] == "1 x 6 x 6" and facts["classes"].startswith("0, 1, 2")
    for k in range(10):
        np.testing.assert_allclose(found[:, k], expected[f"p_{k}"], rtol=0, atol=1e-12)


AROUND = """
import torch
from hpctrain.problems.equations import Box, Equations, Initial, Periodic

class Around(Equations):
    geometry = Box(t=(0, 1), x=(0, 2))
    conditions = (Initial({"u": lambda at: torch.cos(torch.pi * at.x)}, exact=True), Periodic("x"))

    def residuals(self, at, u):
        return u.t + u.x
"""


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    """Three windows, whose times single precision does not hold."""
    folder = tmp_path_factory.mktemp("windows")
    (folder / "around.py").write_text(AROUND)
    (folder / "job.toml").write_text('[solver]\nname = "lbfgs"\nstop = { max_iterations = 2 }\n')
    settings = ["problem.points=40", "problem.slabs=3", "stop.max_iterations=6"]
    settings += [f"problem.name={folder}/around.py:Around", *SMALL]
    run(load_job(str(folder / "job.toml"), settings), Communicator(), str(folder / "run.h5"))
    return folder / "run.h5"


@pytest.mark.parametrize("end", ENDS)
def test_each_window_of_time_is_exported_with_its_network(windows, tmp_path, end):
    export(str(windows), str(tmp_path / f"model{end}"))
    x = np.random.default_rng(0).uniform(0, 1, (37, 2))
    found, _ = evaluate(tmp_path / f"model{end}", "points", x)
    solution = open_solution(windows)
    expected = solution.evaluate(dict(zip(solution.coordinates, x.T, strict=True)))["u"]
    np.testing.assert_allclose(found[:, 0], expected, rtol=0, atol=1e-12)


def test_a_program_that_torch_does_not_keep_is_refused_in_one_line(windows, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no such node\nat all")

    monkeypatch.setattr(torch.export, "save", fail)
    with pytest.raises(
        InputError, match=r"^model\.pt2: torch cannot export the network: no such node$"
    ):
        export(str(windows), str(tmp_path / "model.pt2"))
    assert not list(tmp_path.iterdir())


def test_windows_that_begin_with_rates_are_refused(tmp_path):
    settings = [*SMALL, "problem.points=40", "problem.slabs=2", "stop.max_iterations=2"]
    settings += ["solver.stop={max_iterations=1}"]
    job = load_job("jobs/library/wave.toml", settings)
    run(job, Communicator(), output=str(tmp_path / "run.h5"))
    with pytest.raises(InputError, match=r"that begin with rates \(u\.t of an exact Initial\)"):
        export(str(tmp_path / "run.h5"), str(tmp_path / "model.pt"))


def test_what_cannot_be_exported_is_refused_in_one_line(digits, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"model\.h5 is not allowed: its name must end in one of"):
        export(str(digits), str(tmp_path / "model.h5"))
    for end in ENDS:
        with pytest.raises(InputError, match=rf"model{end} cannot be written: Not a directory$"):
            export(str(digits), f"{digits}/model{end}")
    monkeypatch.setattr("hpctrain.results.export.TRACED", 0)  # what torch's exporter refuses
    with pytest.raises(InputError, match=r"^model\.pt2: torch cannot export the network: ") as said:
        export(str(digits), str(tmp_path / "model.pt2"))
    assert "\n" not in str(said.value) and not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match="onnxscript is not installed: pip install"):
        export(str(digits), str(tmp_path / "model.onnx"))


def test_what_loses_its_precision_is_refused(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("hpctrain.results.export._make_exact", lambda value: value * 1.0001)
    with pytest.raises(InputError, match="what was written differs from the network, by"):
        export(str(digits), str(tmp_path / "model.onnx"))
    assert not list(tmp_path.iterdir())
