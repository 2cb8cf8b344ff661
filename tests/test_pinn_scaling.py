"""Networks whose inputs are scaled: jets against autograd, twins in other units, warnings."""

import warnings

import pytest
import torch

from hpctrain.job.settings import load_job
from hpctrain.kernels import native_available
from hpctrain.kernels.pointwise import trace
from hpctrain.networks.dense import DenseNetwork
from hpctrain.objective.evaluation import Counts, Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations import PDE
from hpctrain.problems.equations.conditions import SoftConstraints
from hpctrain.problems.equations.problem import PinnProblem
from hpctrain.problems.equations.scaling import InputScaling
from hpctrain.run.train import run
from hpctrain.store.run_file import read_run

TWINS = """
import math
import torch
from hpctrain.problems.equations import PDE


class Unit(PDE):
    name = "unit"
    coordinates = ("t", "x")
    domain = ((0.0, 1.0), (0.0, 1.0))
    orders = (1, 2)
    test_grid = (21, 21)
    duration, length, weight = 1.0, 1.0, 1.0

    def lifting(self, points):
        return torch.sin(math.pi * points[1] / self.length)

    def distance(self, points):
        t, x = points
        return t * x * (self.length - x)

    def residual(self, points, u):
        return self.weight * (u.t - 0.1 * self.length**2 / self.duration * u.xx)

    def reference(self, points):
        return torch.exp(-0.1 * math.pi**2 * points[0] / self.duration) * self.lifting(points)


class Physical(Unit):
    domain = ((0.0, 1e5), (0.0, 1e-6))
    duration, length, weight = 1e5, 1e-6, 1e5


class Small(Physical):
    weight = 1.0
"""
JOB = """
problem = { points = 400 }
network = { kind = "mlp", depth = 4, width = 12, activation = "tanh" }
solver = { name = "ssbroyden" }
parallel = { threads = 1, chunks = 8 }
output = { checkpoint_every = 0, error_every = 60 }
stop = { max_iterations = 60 }
"""


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Trains an equation of the twins' file, with settings, and gives its history."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "twins.py").write_text(TWINS)
    (tmp_path / "job.toml").write_text(JOB)

    def train(name, *settings):
        job = load_job("job.toml", [f"problem.name=twins.py:{name}", *settings])
        outcome = run(job, Communicator(), output=f"{name}{len(settings)}.h5")
        return read_run(outcome.output).history

    return train


def test_an_equation_trains_in_physical_units_as_on_the_unit_square(trained):
    unit, physical = trained("Unit"), trained("Physical")
    assert physical["loss"][:11] == pytest.approx(unit["loss"][:11], rel=1e-9)
    assert unit["error"][-1] < 1e-3
    assert physical["error"][-1] == pytest.approx(unit["error"][-1], rel=1e-2)


def test_a_residual_that_is_small_in_these_units_trains_as_far_and_is_named(trained):
    with pytest.warns(UserWarning, match=r"^the loss at the start is .*e-11: multiply the resid"):
        small = trained("Small")
    unit = trained("Unit")
    assert 1e10 * small["loss"][0] == pytest.approx(unit["loss"][0], rel=1e-9)
    assert small["error"][-1] < 2 * unit["error"][-1]


RAW = ("network.scale_inputs=false", "problem.scale_distance=false", "stop.max_iterations=1")


@pytest.mark.parametrize(
    "off, said",
    [
        (RAW[:2], "network.scale_inputs and problem.scale_distance = false"),
        (RAW[:1], "network.scale_inputs = false"),
        (RAW[1:2], "problem.scale_distance = false"),
    ],
)
def test_raw_coordinates_of_extreme_size_are_named_in_one_line(trained, off, said):
    with pytest.warns(UserWarning) as caught:
        trained("Physical", *off, RAW[2])
    assert [str(each.message) for each in caught][:1] == [
        f"{said}, and t is in [0, 100000]: training suffers where the extent or magnitude of one"
        " is not within 0.001 to 1000"
    ]


def test_nothing_is_said_of_usual_coordinates_or_where_the_scaling_is_on(trained):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained("Unit", *RAW)
        trained("Physical", RAW[2])


class Oblique(PDE):
    """All components of a jet, on a box whose sides differ; u = 0 where t = 2."""

    name = "oblique"
    coordinates = ("t", "x", "y")
    domain = ((2.0, 5.0), (-1.0, 1.0), (0.0, 0.1))
    orders = (1, 2, 2)
    test_grid = (3, 4, 5)

    def lifting(self, points):
        return points[1] * 0

    def distance(self, points):
        return points[0] - 2 + 0 * points[1]

    def residual(self, points, u):
        return u.t * u.value + 0.3 * u.x + points[0] * u.xx - u.y + 0.01 * u.yy


NETWORK = DenseNetwork(3, 6, 3)


def by_autograd(problem, theta, points, soft):
    """u and the residual (N,) at points, from the definition of the scaled network."""
    points = points.clone().requires_grad_()
    low, high = torch.tensor(Oblique.domain, dtype=torch.float64).T
    inputs = 2 * (points - low[:, None]) / (high - low)[:, None] - 1
    network = NETWORK(theta, inputs)[0]
    u = network if soft else problem.pde.distance(points) * network
    (first,) = torch.autograd.grad(u.sum(), points, create_graph=True)
    second = [torch.autograd.grad(f.sum(), points, create_graph=True)[0] for f in first]
    jet = problem.pde.jet([u, *first, second[1][1], second[2][2]])
    return u, problem.pde.residual(points, jet)


@pytest.mark.parametrize("kernels", ["native", "torch"])
@pytest.mark.parametrize("soft", [None, SoftConstraints(10, 1.0)], ids=["hard", "soft"])
def test_loss_gradient_and_prediction_are_those_of_the_network_of_scaled_inputs(
    kernels, soft, monkeypatch
):
    if kernels == "torch":
        monkeypatch.setenv("HPCTRAIN_KERNELS", "torch")
    elif not native_available():
        pytest.skip("native kernels are not built")
    problem = PinnProblem(Oblique(), NETWORK, 40, soft=soft, scale_inputs=True)
    share = problem.share(4, 0, 1, 1)
    objective = Objective(share, Communicator(), problem.samples, 4, Counts(1, 1))
    theta = problem.initial_parameters(0).requires_grad_()
    interior, faces = problem._points[:, :40], problem._points[:, 40:]
    loss = by_autograd(problem, theta, interior, soft)[1].square().mean()
    if soft:
        loss = loss + by_autograd(problem, theta, faces, soft)[0].square().mean()
    (gradient,) = torch.autograd.grad(loss, theta)
    found = objective.with_gradient(theta.detach())
    assert found.loss == pytest.approx(float(loss.detach()), rel=1e-12)
    torch.testing.assert_close(found.evaluate_gradient(), gradient, rtol=1e-10, atol=1e-12)
    grid = torch.cartesian_prod(*map(torch.as_tensor, problem.grid_axes().values())).T
    u = problem.error(4, 0, 1, 1).prediction(theta.detach())
    torch.testing.assert_close(u, by_autograd(problem, theta, grid, soft)[0].detach())


def test_a_component_whose_factor_is_one_gets_no_instruction():
    raw = trace(lambda jet, _: (sum_of(jet),), 4, 5)
    for domain, more in (
        (((-1.0, 1.0), (-1.0, 1.0)), 0),
        (((0.0, 2.0), (3.0, 5.0)), 0),
        (((-1.0, 1.0), (0.0, 1.0)), 4),  # 2 and 4, each a constant and a product
    ):
        scaling = InputScaling(domain, (1, 2))
        scaled = trace(lambda jet, _, scaling=scaling: (scaled_sum(scaling, jet),), 4, 5)
        assert len(scaled.instructions) == len(raw.instructions) + more


def sum_of(jet):
    return jet[0][0] + jet[1][0] + jet[2][0] + jet[3][0]


def scaled_sum(scaling, jet):
    return sum_of([[u] for u in scaling.jet([component[0] for component in jet])])


def test_ends_of_the_domain_become_ends_of_the_network_inputs():
    scaling = InputScaling(((0.0, 1e5), (0.0, 1e-6), (-1.0, 1.0)), (0, 0, 0))
    ends = torch.tensor([[0.0, 1e5], [0.0, 1e-6], [-1.0, 1.0]], dtype=torch.float64)
    expected = torch.tensor([[-1.0, 1.0]] * 3).double()
    torch.testing.assert_close(scaling.inputs(ends), expected, rtol=1e-15, atol=0)
    x = torch.rand(1, 9).double()
    assert torch.equal(InputScaling(((-1.0, 1.0),), (1,)).inputs(x), x)


def test_a_run_says_what_the_network_takes():
    for scaled, said in ((True, "inputs scaled to [-1, 1]"), (False, "raw inputs")):
        assert said in PinnProblem(Oblique(), NETWORK, 9, scale_inputs=scaled).describe()
