"""Residuals traced into the native kernel against the same residuals in torch."""

import pytest
import torch

from hpctrain.kernels import TorchJets, jet_evaluator, native_available
from hpctrain.kernels.pointwise import NotTraceableError, trace
from hpctrain.kernels.residual import TorchResidual, residual_loss
from hpctrain.networks.dense import DenseNetwork

pytestmark = pytest.mark.skipif(not native_available(), reason="native kernels are not built")

NETWORK = DenseNetwork(2, 9, 4, residual=True, adaptive=True)
ORDERS = (1, 2)
BOUNDS = [0, 1, 40, 73, 150]
COMPONENTS = 4


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def points():
    return torch.rand(2, BOUNDS[-1], generator=torch.Generator().manual_seed(1)).double() * 2 - 1


T, X = points()
RESIDUALS = {
    "Burgers": lambda u: u[1] + u[0] * u[2] - 0.003 * u[3],
    "numbers and coordinates on either side": lambda u: 2 * u[0] + T * u[1] - X / (3 + u[2] ** 2),
    "reflected operators": lambda u: 1 - u[0] + T - u[1] + 2 / (2 + u[3] * u[3]),
    "functions": lambda u: torch.exp(-u[0].square()) + torch.sin(u[1]) * u[2].cos() + u[3].tanh(),
    "roots and logarithms": lambda u: (1 + u[0] ** 2).sqrt() + torch.log(3 + u[2].square()),
    "torch functions": lambda u: torch.mul(X, u[0]) + torch.sub(u[1], T) + torch.neg(u[2]),
    "powers": lambda u: 5 * (u[0] - u[0] ** 3) + u[2].pow(4) + torch.pow(u[1], 2.0),
    "a component alone": lambda u: u[0],
    "a constant tensor": lambda u: u[0] * torch.tensor(2.0).double() + T.sin() * T.cos(),
    "what is used first": lambda u: [u[0] * u[1], u[2] + 1][0],
    "a value used twice": lambda u: (u[0] + u[1]) * (u[0] + u[1]),
}
UNTRACEABLE = {
    "a mean over points": lambda u: u[0] - u[0].mean(),
    "a branch on values": lambda u: u[0] if u[0].max() > 0 else u[1],
    "a function without an instruction": lambda u: torch.erf(u[0]),
    "a fractional power": lambda u: u[0].square() ** 0.5,
    "a base raised to a value": lambda u: 2 ** u[0],
    "other sizes": lambda u: u[0] * torch.ones(3),
}


def losses(residual, dtype=torch.float64):
    """The fused loss and the one in torch, with θ."""
    x = points().to(dtype)
    native = jet_evaluator(NETWORK, ORDERS, x, BOUNDS, threads=2)
    theta = NETWORK.initial_parameters(0).to(dtype)
    fused = residual_loss(native, residual, dtype)
    return fused, TorchResidual(native, residual), theta


@pytest.mark.parametrize("name", RESIDUALS)
def test_fused_losses_and_gradients_equal_those_of_torch(name):
    fused, plain, theta = losses(RESIDUALS[name])
    assert type(fused).__name__ == "FusedResidual"
    last = NETWORK.depth - 1
    expected = plain.losses_and_gradients(theta, 0, last, None)
    found = fused.losses_and_gradients(theta, 0, last, None)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    assert torch.equal(fused.losses(theta, 0, None), found[:, 0])
    torch.testing.assert_close(plain.losses(theta, 0, None), expected[:, 0], rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", ["Burgers", "functions"])
def test_fused_residuals_and_weighted_gradients_equal_those_of_torch(name):
    fused, plain, theta = losses(RESIDUALS[name])
    weights = torch.randn(BOUNDS[-1], dtype=torch.float64)
    torch.testing.assert_close(
        fused.residuals(theta), plain.residuals(theta), rtol=1e-11, atol=1e-12
    )
    torch.testing.assert_close(
        fused.weighted_gradients(theta, weights),
        plain.weighted_gradients(theta, weights),
        rtol=1e-10,
        atol=1e-12,
    )


@pytest.mark.parametrize("first, last", [(1, 1), (1, 3), (2, 2), (3, 3)])
def test_fused_suffixes_equal_those_of_torch(first, last):
    fused, plain, theta = losses(RESIDUALS["Burgers"])
    activations = jet_evaluator(NETWORK, ORDERS, points(), BOUNDS).prefix(theta, first)
    expected = plain.losses_and_gradients(theta, first, last, activations)
    found = fused.losses_and_gradients(theta, first, last, activations)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    assert torch.equal(fused.losses(theta, first, activations), found[:, 0])


def test_fused_losses_have_the_same_bits_on_any_number_of_threads():
    theta, residual = NETWORK.initial_parameters(0), RESIDUALS["functions"]
    found = [
        residual_loss(
            jet_evaluator(NETWORK, ORDERS, points(), BOUNDS, threads), residual, torch.float64
        ).losses_and_gradients(theta, 0, NETWORK.depth - 1, None)
        for threads in (1, 2, 3)
    ]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_float32_agrees_to_its_precision():
    fused64, _, theta = losses(RESIDUALS["powers"])
    x = [row.float() for row in points()]
    residual = lambda u: 5 * (u[0] - u[0] ** 3) + u[2].pow(4) + x[0] * u[1]  # noqa: E731
    same = lambda u: 5 * (u[0] - u[0] ** 3) + u[2].pow(4) + T * u[1]  # noqa: E731
    fused32, *_ = losses(residual, torch.float32)
    fused64, _, theta = losses(same)
    found = fused32.losses_and_gradients(theta.float(), 0, NETWORK.depth - 1, None)
    expected = fused64.losses_and_gradients(theta, 0, NETWORK.depth - 1, None)
    assert found.dtype == torch.float32
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


@pytest.mark.parametrize("name", UNTRACEABLE)
def test_what_cannot_be_traced_says_so(name):
    with pytest.raises(NotTraceableError):
        trace(UNTRACEABLE[name], COMPONENTS, BOUNDS[-1])


def test_a_residual_that_cannot_be_traced_stays_in_torch():
    fused, plain, theta = losses(lambda u: torch.erf(u[0]) + u[1])
    assert isinstance(fused, TorchResidual)
    last = NETWORK.depth - 1
    assert torch.equal(
        fused.losses_and_gradients(theta, 0, last, None),
        plain.losses_and_gradients(theta, 0, last, None),
    )


def test_jets_in_torch_keep_the_residual_in_torch():
    evaluator = TorchJets(NETWORK, ORDERS, points(), BOUNDS)
    assert isinstance(residual_loss(evaluator, RESIDUALS["Burgers"], torch.float64), TorchResidual)
