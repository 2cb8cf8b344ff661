"""Networks whose inputs are scaled: jets against autograd, twins in other units, warnings."""

import warnings

import pytest
import torch

from hpctrain.errors import InputError
from hpctrain.job.settings import load_job
from hpctrain.kernels import is_native_available
from hpctrain.kernels.jets import JetShape
from hpctrain.networks.dense import DenseNetwork
from hpctrain.networks.kinds.dense import DenseOptions
from hpctrain.objective import Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations import Box, Dirichlet, Equations
from hpctrain.problems.equations.problem import Formulation, PinnProblem
from hpctrain.problems.equations.scaling import NetworkInputs
from hpctrain.run.train import run
from hpctrain.store.run_file import read_run

TWINS = """
import math
import torch
from hpctrain.problems.equations import Box, Equations


class Unit(Equations):
    geometry = Box(t=(0.0, 1.0), x=(0.0, 1.0))
    test_grid = (21, 21)
    duration, length, weight = 1.0, 1.0, 1.0

    def ansatz(self, at):
        wave = torch.sin(math.pi * at.x / self.length)
        return {"u": (wave, at.t * at.x * (self.length - at.x))}

    def residuals(self, at, u):
        return self.weight * (u.t - 0.1 * self.length**2 / self.duration * u.xx)

    def reference(self, at):
        decay = torch.exp(-0.1 * math.pi**2 * at.t / self.duration)
        return decay * torch.sin(math.pi * at.x / self.length)


class Physical(Unit):
    geometry = Box(t=(0.0, 1e5), x=(0.0, 1e-6))
    duration, length, weight = 1e5, 1e-6, 1e5


class Small(Physical):
    weight = 1.0


class Large(Physical):
    weight = 1e11
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


def test_a_residual_that_is_large_in_these_units_is_named(trained):
    with pytest.warns(UserWarning, match=r"^the loss at the start is .*e\+1\d: multiply the resid"):
        trained("Large", "stop.max_iterations=1")


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


class Oblique(Equations):
    """All components of a jet, on a box whose sides differ; u = 0 where t = 2."""

    geometry = Box(t=(2.0, 5.0), x=(-1.0, 1.0), y=(0.0, 0.1))
    conditions = (Dirichlet({"u": 0.0}, on="t.low"),)
    test_grid = (3, 4, 5)

    def ansatz(self, at):
        return {"u": (0.0, at.t - 2)}

    def residuals(self, at, u):
        return u.t * u + 0.3 * u.x + at.t * u.xx - u.y + 0.01 * u.yy


NETWORK = DenseNetwork(3, 6, 3)


def oblique(soft=False, **settings):
    formulation = Formulation(40, condition_points=10, is_soft=soft, **settings)
    return PinnProblem(Oblique(), NETWORK, formulation)


def by_autograd(problem, theta, points, soft):
    """u and the residual (N,) at points, from the definition of the scaled network."""
    points = points.clone().requires_grad_()
    low, high = torch.tensor(problem.frame.region.bounds, dtype=torch.float64).T
    inputs = 2 * (points - low[:, None]) / (high - low)[:, None] - 1
    network = NETWORK(theta, inputs)[0]
    u = network if soft else (points[0] - 2) * network
    (first,) = torch.autograd.grad(u.sum(), points, create_graph=True)
    second = [torch.autograd.grad(f.sum(), points, create_graph=True)[0] for f in first]
    t, (u_t, u_x, u_y) = points[0], first
    return u, u_t * u + 0.3 * u_x + t * second[1][1] - u_y + 0.01 * second[2][2]


@pytest.mark.parametrize("kernels", ["native", "torch"])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_loss_gradient_and_prediction_are_those_of_the_network_of_scaled_inputs(
    kernels, soft, monkeypatch
):
    if kernels == "torch":
        monkeypatch.setenv("HPCTRAIN_KERNELS", "torch")
    elif not is_native_available():
        pytest.skip("native kernels are not built")
    problem = oblique(soft, scale_inputs=True)
    objective = Objective.of(problem, Communicator(), 4, 1)
    theta = problem.make_initial_parameters(0).requires_grad_()
    loss = by_autograd(problem, theta, problem.terms[0].points, soft)[1].square().mean()
    if soft:
        faces = problem.terms[1].points
        loss = loss + by_autograd(problem, theta, faces, soft)[0].square().mean()
    (gradient,) = torch.autograd.grad(loss, theta)
    found = objective.evaluate_with_gradient(theta.detach())
    assert found.loss == pytest.approx(float(loss.detach()), rel=1e-12)
    torch.testing.assert_close(found.evaluate_gradient(), gradient, rtol=1e-10, atol=1e-12)
    fields = problem.make_monitor(Communicator(), 4, 1).evaluate_solution(theta.detach())
    grid = torch.cartesian_prod(*(torch.as_tensor(fields[name]) for name in "txy")).T
    u = by_autograd(problem, theta, grid, soft)[0].detach()
    torch.testing.assert_close(torch.as_tensor(fields["prediction"]).flatten(), u)


def inputs_of(**sides):
    made = type("Mine", (Oblique,), {"geometry": Box(**sides), "conditions": (), "test_grid": None})
    return NetworkInputs(made().frame)


def test_derivatives_along_the_coordinates_are_those_of_the_scaled_ones_times_the_slopes():
    shape = JetShape.make_closed(2, {(0,), (1, 1), (0, 1)})
    factors = inputs_of(t=(0.0, 0.5), x=(3.0, 5.0)).factors(shape)
    assert dict(zip(shape.indices, factors, strict=True)) == {
        (): 1, (0,): 4, (1,): 1, (0, 1): 4, (1, 1): 1,
    }  # fmt: skip


def test_ends_of_the_domain_become_ends_of_the_network_inputs():
    ends = torch.tensor([[0.0, 1e5], [0.0, 1e-6], [-1.0, 1.0]], dtype=torch.float64)
    inputs = inputs_of(t=(0.0, 1e5), x=(0.0, 1e-6), y=(-1.0, 1.0))
    expected = torch.tensor([[-1.0, 1.0]] * 3).double()
    torch.testing.assert_close(inputs.values(ends), expected, rtol=1e-15, atol=0)


def test_jets_of_scaled_and_fourier_inputs_are_their_derivatives_along_the_coordinates():
    frame = inputs_of(t=(0.0, 0.5), x=(3.0, 5.0)).frame
    frequencies = torch.tensor([[1.0, 2.0], [0.5, -3.0]], dtype=torch.float64)
    inputs = NetworkInputs(frame, True, (), frequencies)
    assert inputs.count == 2 + 4
    points = torch.tensor([[0.1, 0.4], [3.3, 4.9]], dtype=torch.float64)
    shape = JetShape.make_closed(2, {(0, 1, 1)}, (0, 1))
    jets = inputs.jets(points, shape)
    scaled = torch.stack([4 * points[0] - 1, points[1] - 4])
    angle = frequencies @ scaled
    slope, curve = 4 * frequencies[:, :1], frequencies[:, 1:] ** 2
    torch.testing.assert_close(jets[0], torch.cat([scaled, angle.sin(), angle.cos()]))
    mixed = jets[shape.find_position((0, 1, 1))]
    torch.testing.assert_close(mixed[2:4], -slope * curve * angle.cos())
    laplacian = -(slope**2 + curve) * angle.sin()
    torch.testing.assert_close(jets[-1][2:4], laplacian)


def test_a_run_says_what_the_network_takes():
    for scaled, said in ((True, "inputs scaled to [-1, 1]"), (False, "raw inputs")):
        assert said in oblique(scale_inputs=scaled).describe()


def test_frequencies_have_the_deviations_of_their_coordinates():
    options = {"kind": "mlp", "depth": 2, "width": 3, "fourier": 4000}
    even = DenseOptions(**options, fourier_scale=3.0).draw_frequencies("tx", 0)
    waves = DenseOptions(**options, fourier_scale={"x": 30.0, "y": 0.5})
    frequencies = waves.draw_frequencies("txy", 0)
    assert even is not None and even.shape == (4000, 2)
    assert frequencies is not None and not frequencies[:, 0].any()
    expected = torch.tensor([30.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(frequencies[:, 1:].std(0), expected, rtol=0.05, atol=0)
    torch.testing.assert_close(even.std(0), torch.full_like(expected, 3.0), rtol=0.05, atol=0)
    with pytest.raises(InputError, match=r"network\.fourier_scale names 'y': one of t, x"):
        waves.draw_frequencies("tx", 0)
