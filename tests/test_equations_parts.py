"""Networks of their own for fields: groups, what a field depends on, and a run from end to end."""

import numpy as np
import pytest
import torch
from job_texts import TANH, write_text

from hpctrain import cli
from hpctrain.decomposition.blocks import cut_layers
from hpctrain.linalg.arrays import to_array
from hpctrain.networks.dense import DenseNetwork
from hpctrain.objective import Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations import (
    Box,
    Dirichlet,
    Equations,
    Initial,
    Observations,
    Periodic,
    Unknown,
)
from hpctrain.problems.equations.problem import Formulation, PinnProblem
from hpctrain.problems.equations.terms import ProblemError
from hpctrain.results.export import export
from hpctrain.results.solution import open_solution
from hpctrain.store.run_file import read_run

T = np.linspace(0.1, 0.9, 9)
MEASURED = {"t": T, "x": T**2, "y": T[::-1], "u": np.sin(T)}


class Inverse(Equations):
    """An unknown conductivity of place, a rate, and a second field of all coordinates."""

    geometry = Box(t=(0, 1), x=(0, 2), y=(0, 1))
    fields = ("u", "a", "v")
    depends = {"a": ("y", "x")}
    unknowns = {"rate": Unknown(0.7)}
    conditions = (Dirichlet({"a": 1.0}, exact=True), Observations(MEASURED, ["u"]))

    def residuals(self, at, u, a, v, rate):
        flow = u.t - a.x * u.x - a.y * u.y - a * (u.xx + u.yy)
        return flow - rate * v, v.t + a * v, u + v


def made(equations=Inverse, separate=False, **options):
    formulation = Formulation(40, condition_points=10, separate=separate, **options)
    return PinnProblem(equations(), DenseNetwork(3, 5, 3), formulation)


def fields_of(problem):
    return [part.fields for part in problem.solution.parts]


def test_fields_share_a_network_where_they_depend_on_the_same_or_where_a_job_says_so():
    assert fields_of(made()) == [("u", "v"), ("a",)]
    assert fields_of(made(separate=True)) == [("u",), ("a",), ("v",)]
    groups = [["v"], ["a"], ["u"]]
    assert fields_of(made(separate=groups)) == [("v",), ("a",), ("u",)]
    assert [each.count for each in made(scale_inputs=True).solution.inputs] == [3, 2]


@pytest.mark.parametrize("separate", [False, True, [["a"], ["v", "u"]]])
def test_fields_are_those_of_their_networks_in_torch(separate):
    problem = made(separate=separate, scale_inputs=True)
    theta = problem.make_initial_parameters(1)
    points = torch.rand(3, 7, dtype=torch.float64, generator=torch.manual_seed(0))
    points.requires_grad_()
    found = problem.evaluate(theta, points.detach(), ["u", "a", "v", "u.xx", "a.x", "a.t"], 1)
    for name in ("u", "a", "v"):
        value = problem.evaluate_in_torch(theta, name, points)
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-12, atol=1e-13)
        slopes = torch.autograd.grad(value.sum(), points, create_graph=True)[0]
        if name == "a":
            torch.testing.assert_close(found["a.x"], slopes[1].detach(), rtol=1e-12, atol=1e-13)
            assert not slopes[0].any()
        if name == "u":
            second = torch.autograd.grad(slopes[1].sum(), points)[0][1]
            torch.testing.assert_close(found["u.xx"], second, rtol=1e-11, atol=1e-12)
    assert not found["a.t"].any()


@pytest.mark.parametrize("separate", [False, True])
def test_gradients_are_those_of_differences_and_of_each_block_of_layers(separate):
    problem = made(separate=separate)
    objective = Objective.of(problem, Communicator(), chunks=4)
    theta = problem.make_initial_parameters(2)
    gradient = objective.evaluate_with_gradient(theta).evaluate_gradient()
    draw = torch.Generator().manual_seed(3)
    for _ in range(3):
        p, h = torch.randn(len(theta), generator=draw).double(), 1e-5
        ahead, behind = (objective.evaluate(theta + s * p).loss for s in (h, -h))
        assert (ahead - behind) / (2 * h) == pytest.approx(float(gradient @ p), rel=1e-6)
    for block in cut_layers(objective.layers, 2, 1).blocks:
        part = objective.restrict(block, theta)
        own = part.evaluate_with_gradient(block.restrict(theta)).evaluate_gradient()
        torch.testing.assert_close(own, block.restrict(gradient), rtol=1e-11, atol=1e-11)


def test_networks_start_from_weights_of_their_own():
    problem = made(separate=[["u"], ["v"], ["a"]])
    theta = problem.make_initial_parameters(0)
    u, v, _ = (part.layers[1].weight(theta) for part in problem.network.parts)
    assert not torch.isclose(u, v).any()


def test_embeddings_go_into_the_networks_that_take_their_coordinates():
    class Wound(Inverse):
        conditions = (Periodic("t", harmonics=2), Observations(MEASURED, ["u"]))

    problem = made(Wound, scale_inputs=True, fourier=torch.ones(4, 3, dtype=torch.float64))
    assert [each.count for each in problem.solution.inputs] == [4 + 2 + 8, 2 + 8]
    theta = problem.make_initial_parameters(0)
    points = torch.rand(3, 5, dtype=torch.float64, generator=torch.manual_seed(1))
    later = points.clone()
    later[0] = 0.1
    found = [problem.evaluate(theta, x, ["u", "a", "a.tx"], 1) for x in (points, later)]
    assert torch.equal(found[0]["a"], found[1]["a"]) and not found[0]["a.tx"].any()
    assert not torch.isclose(found[0]["u"], found[1]["u"]).any()


def one_line(equations, separate=False):
    with pytest.raises(ProblemError) as caught:
        made(equations, separate)
    (line,) = str(caught.value).splitlines()
    return line


def test_groups_and_dependence_that_make_no_sense_are_refused_in_a_line():
    assert one_line(Inverse, [["u", "a"], ["v"]]) == (
        "network.separate = [['u', 'a'], ['v']] is not allowed: the fields of a group depend on"
        " u on t, x, y and a on x, y"
    )
    for groups in ([["u", "v"]], [["u"], ["v"], ["a"], ["u"]], [["u", "v"], ["a"], []]):
        assert one_line(Inverse, groups).endswith("each of u, a, v in one of the groups")

    class Alone(Equations):
        geometry = Box(x=(0, 1))

        def residuals(self, at, u):
            return u.xx

    assert one_line(Alone, True) == (
        "network.separate = True is not allowed: Alone has one field, u"
    )
    for given, said in (
        ({"a": "xy"}, "a is given 'xy'"),
        ({"a": ("z",)}, "must be a tuple of one or more of t, x, y"),
        ({"w": ("x",)}, "must be a mapping of fields (u, a, v) to coordinates"),
    ):
        assert said in one_line(type("Odd", (Inverse,), {"depends": given}))

    class Moving(Inverse):
        conditions = (Initial({"a": 1.0}, exact=True), Observations(MEASURED, ["u"]))

    assert one_line(Moving) == (
        "Moving: the exact form of a: it depends on t, where a depends on x, y only"
    )


JOB = write_text(
    'name = "heat-inverse"\npoints = 40',
    network=f"{TANH}\nseparate = true",
    solver='name = "gauss-newton"',
    output='checkpoint_every = 2\nerror_every = 2\npath = "{folder}/{name}.h5"',
    stop="max_iterations = {iterations}",
    chunks=4,
)


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")
def test_a_run_goes_on_is_predicted_and_exported(tmp_path):
    def write(name, iterations):
        text = JOB.format(folder=tmp_path, name=name, iterations=iterations)
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        return path

    whole, half = tmp_path / "whole.h5", tmp_path / "half.h5"
    assert cli.main(["run", str(write("whole", 4))]) == 0
    assert cli.main(["run", str(write("half", 2))]) == 0
    assert cli.main(["resume", str(half), "--set", "stop.max_iterations=4"]) == 0
    assert np.array_equal(read_run(whole).parameters, read_run(half).parameters)
    solution = open_solution(whole)
    x = np.random.default_rng(0).uniform(-1, 1, (3, 11))
    found = solution.evaluate(dict(zip(("t", "x", "y"), x, strict=True)), ["u", "a", "a.t"])
    assert not found["a.t"].any()
    export(str(whole), str(tmp_path / "model.pt"))
    exported = to_array(torch.jit.load(str(tmp_path / "model.pt"))(torch.tensor(x.T)).detach())
    assert exported == pytest.approx(np.stack([found["u"], found["a"]], axis=1), abs=1e-12)
