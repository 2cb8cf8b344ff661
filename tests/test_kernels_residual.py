"""Residuals traced into the native kernel against the same residuals in torch."""

import math

import pytest
import torch

from hpctrain.kernels import JetShape, TorchJets, is_native_available, make_jet_evaluator
from hpctrain.kernels.pointwise import trace
from hpctrain.kernels.program import NotTraceableError
from hpctrain.kernels.residual import TorchResidual, make_residual_loss
from hpctrain.networks.dense import DenseNetwork

pytestmark = pytest.mark.skipif(not is_native_available(), reason="native kernels are not built")

NETWORK = DenseNetwork(2, 9, 4, residual=True, adaptive=True)
SHAPE = JetShape.make_closed(2, [(0,), (1, 1)])
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
    "other sizes": lambda u: u[0] * torch.ones(3),
}
REASONS = {
    "torch.erf": lambda u: torch.erf(u[0]),
    "torch.erfc": lambda u: u[0].erfc(),
    "torch.mean": lambda u: u[0] - u[0].mean(),
    "torch.stack": lambda u: torch.stack([u[0], u[1]]).sum(0),
    "torch.Tensor.add_": lambda u: T.clone().add_(u[0]),
    "torch.add with such arguments": lambda u: torch.add(u[0], u[1], alpha=2),
    "an operand of shape (3,)": lambda u: u[0] * torch.ones(3),
    "an operand of str": lambda u: u[0] * "2",
    "the operator %": lambda u: u[0] % 2,
    "an index into a value": lambda u: u[0][3:],
    "a value made a number of Python": lambda u: math.exp(u[0]),
    "a branch on values": lambda u: u[1] if u[0] > 0 else u[2],
    "a condition that is not a comparison": lambda u: torch.where(u[0], u[1], u[2]),
    # Here torch rounds 0.1 to float32 before a value in float64 comes in.
    "arithmetic of comparisons with numbers or each other": lambda u: (u[0] > 0) * 0.1 * u[1],
    "a choice between numbers that torch rounds to float32": lambda u: (
        torch.where(u[0] > 0, 0.1, 0.0) * u[1]
    ),
    "torch.float32 in a residual of torch.float64": lambda u: u[0].float() + u[1],
    "torch.maximum of a number that is no tensor": lambda u: u[0].maximum(0.0),
    "what raises ZeroDivisionError: division by zero on symbols": lambda u: u[0] * (1 / 0),
}


def single(function):
    """A function of the jet of one output as a residual."""

    def residual(jet, _unknowns):
        return (function(jet[:, 0] if isinstance(jet, torch.Tensor) else [u[0] for u in jet]),)

    return residual


def losses(function, dtype=torch.float64):
    """The fused loss and the one in torch, with θ."""
    residual = single(function)
    x = points().to(dtype)
    native = make_jet_evaluator(NETWORK, SHAPE, x, BOUNDS, threads=2)
    theta = NETWORK.make_initial_parameters(0).to(dtype)
    fused = make_residual_loss(native, residual, dtype)
    return fused, TorchResidual(native, residual), theta


@pytest.mark.parametrize("name", RESIDUALS)
def test_fused_losses_and_gradients_equal_those_of_torch(name):
    fused, plain, theta = losses(RESIDUALS[name])
    assert type(fused).__name__ == "FusedResidual"
    last = NETWORK.depth - 1
    expected = plain.sum_losses_and_gradients(theta, 0, last, None)
    found = fused.sum_losses_and_gradients(theta, 0, last, None)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    assert torch.equal(fused.sum_losses(theta, 0, None), found[:, 0])
    torch.testing.assert_close(plain.sum_losses(theta, 0, None), expected[:, 0], rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", ["Burgers", "functions"])
def test_fused_residuals_and_weighted_gradients_equal_those_of_torch(name):
    fused, plain, theta = losses(RESIDUALS[name])
    weights = torch.randn(BOUNDS[-1], dtype=torch.float64)
    torch.testing.assert_close(
        fused.evaluate_residuals(theta), plain.evaluate_residuals(theta), rtol=1e-11, atol=1e-12
    )
    torch.testing.assert_close(
        fused.pull_back(theta, weights),
        plain.pull_back(theta, weights),
        rtol=1e-10,
        atol=1e-12,
    )


@pytest.mark.parametrize("name", ["Burgers", "functions"])
def test_the_jacobian_of_a_residual_in_torch_is_that_of_the_fused_one(name):
    fused, plain, theta = losses(RESIDUALS[name])
    for at in (theta, 1.1 * theta):
        torch.testing.assert_close(
            plain.evaluate_jacobian(at, 1, 3),
            fused.evaluate_jacobian(at, 1, 3),
            rtol=1e-12,
            atol=1e-12,
        )


@pytest.mark.parametrize("first, last", [(1, 1), (1, 3), (2, 2), (3, 3)])
def test_fused_suffixes_equal_those_of_torch(first, last):
    fused, plain, theta = losses(RESIDUALS["Burgers"])
    activations = make_jet_evaluator(NETWORK, SHAPE, points(), BOUNDS).evaluate_prefix(theta, first)
    expected = plain.sum_losses_and_gradients(theta, first, last, activations)
    found = fused.sum_losses_and_gradients(theta, first, last, activations)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    assert torch.equal(fused.sum_losses(theta, first, activations), found[:, 0])


def test_fused_losses_have_the_same_bits_on_any_number_of_threads():
    theta, residual = NETWORK.make_initial_parameters(0), RESIDUALS["functions"]
    jets = [make_jet_evaluator(NETWORK, SHAPE, points(), BOUNDS, threads) for threads in (1, 2, 3)]
    found = [
        make_residual_loss(each, single(residual), torch.float64).sum_losses_and_gradients(
            theta, 0, NETWORK.depth - 1, None
        )
        for each in jets
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
    found = fused32.sum_losses_and_gradients(theta.float(), 0, NETWORK.depth - 1, None)
    expected = fused64.sum_losses_and_gradients(theta, 0, NETWORK.depth - 1, None)
    assert found.dtype == torch.float32
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


# Values at and around the places where functions have kinks.
KINKS = torch.tensor([-25.0, -3, -2, -1, -0.5, 0, 0.5, 1, 2, 3, 25]).double().repeat(14)[:150]
OTHERS = torch.tensor([-1.0, 0, 0.5, 2, -3]).double().repeat(30)
F = torch.nn.functional
# Functions of v, which takes the values KINKS, and of w, which takes the values OTHERS.
FUNCTIONS = {
    "abs": lambda v, w: v.abs() * w + torch.abs(w) + abs(v + 1),
    "sign": lambda v, w: torch.sign(v) * w + v.sign(),
    "sigmoid": lambda v, w: torch.sigmoid(v) + w.sigmoid() + torch.special.expit(v * w),
    "softplus": lambda v, w: F.softplus(v) + F.softplus(w, beta=2.0, threshold=3.0),
    "tanh": lambda v, w: torch.tanh(v) + w.tanh() + F.tanh(v * w),
    "hyperbolic": lambda v, w: torch.sinh(v / 9) + torch.cosh(w) + (v / 9).cosh() * w.sinh(),
    "trigonometric": lambda v, w: torch.sin(v) * torch.cos(w) + torch.tan(w) + v.tan(),
    "atan": lambda v, w: torch.atan(v) + torch.arctan(w * v),
    "reciprocals": lambda v, w: torch.reciprocal(v + 0.1) + (v * v + 1).rsqrt() + 1 / (w + 0.1),
    "logarithms": lambda v, w: (v.abs() + 1).log2() + torch.log10(w**2 + 1) + (v**2).log1p(),
    "exponentials": lambda v, w: torch.exp(w) + torch.expm1(v / 9) * torch.exp2(w) + v.expm1(),
    "maximum": lambda v, w: torch.maximum(v, w) * v + torch.max(w, OTHERS) + v.maximum(T),
    "minimum": lambda v, w: torch.minimum(v, w) * v + torch.min(w, OTHERS) + v.minimum(T),
    "clamp": lambda v, w: torch.clamp(v, -1, 2) * w + v.clamp(min=0.5) + w.clip(max=0.5) * v,
    "clamp by values": lambda v, w: torch.clamp(v, w, w + 2) + v.clamp_min(1) * v.clamp_max(2),
    "relu": lambda v, w: torch.relu(v) * w + F.relu(w) + v.relu() * v,
    "where": lambda v, w: torch.where(v > 0, v * w, w) + torch.where(v < 0, 2.0, w * w),
    "where on coordinates": lambda v, w: torch.where(T > X, v * w, w) + torch.where(X < 0, v, 0.0),
    "where of numbers": lambda v, w: torch.where(v >= 1, 1.0, -0.5) * w + (v <= 1).double() * v,
    "masks": lambda v, w: (v < w) * w + (v <= w) * v + (v > w) * (w * v) + (v >= 1) * v,
    "equality": lambda v, w: (v == 1) * w + (v != 1) * v + torch.eq(w, v) * w,
    "logic": lambda v, w: ((v > 0) & (w > 0)) * v + ((T > 0) | (v < 0)) * w + (~(v > 0)) * v,
    "types": lambda v, w: (v > 0).to(v.dtype) - 1 + w.double() * (w > 0).type_as(v),
    "roots": lambda v, w: (v.square() + 1) ** 0.5 + torch.pow(w.abs() + 1, -0.5),
    "negative powers": lambda v, w: (v + 0.1) ** -2 + torch.pow(w + 0.1, -1) + (v + 0.1).pow(-3),
    "real powers": lambda v, w: (v.abs() + 1) ** 1.7 + (w**2 + 1) ** -2.3 + (v / 9) ** 17,
    "the power zero": lambda v, w: v**0 * w,
    "powers of a tensor": lambda v, w: w ** torch.tensor(2.0) + v ** torch.tensor([3.0]).double(),
    "a field to a field": lambda v, w: (v.abs() + 1) ** w + 2**w + T.abs() ** w.abs(),
    "a field to coordinates": lambda v, w: (w + 0.1) ** X.round() + v.abs() ** X.abs().ceil(),
    "constants": lambda v, w: torch.zeros_like(v) + torch.ones_like(w) * v,
    "a given constant": lambda v, w: torch.full_like(v, 3.0) * w + v,
    "a scalar tensor": lambda v, w: torch.tensor(0.1).double() * v + w * torch.tensor([2.0]),
    "shapes": lambda v, w: v * torch.ones(v.shape, dtype=v.dtype) + w * len(w),
}  # fmt: skip


def at_the_kinks(function):
    """The function as a residual of a jet u: v and w have given values, with slope 1 in u."""
    u0 = make_jet_evaluator(NETWORK, SHAPE, points(), BOUNDS).forward(
        NETWORK.make_initial_parameters(0), keep=False
    )[:, 0]
    return lambda u: function(u[0] - u0[0] + KINKS, u[1] - u0[1] + OTHERS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_and_their_derivatives_are_those_of_torch_at_kinks_too(name):
    fused, plain, theta = losses(at_the_kinks(FUNCTIONS[name]))
    assert fused.untraced is None
    weights = torch.randn(BOUNDS[-1], dtype=torch.float64)
    for found, expected in (
        (fused.evaluate_residuals(theta), plain.evaluate_residuals(theta)),
        (fused.pull_back(theta, weights), plain.pull_back(theta, weights)),
    ):
        assert bool(expected.isfinite().all())
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_branch_that_is_not_taken_leaves_no_nan_in_the_gradient():
    def safe(v, w):
        return torch.where(v > 0, torch.log(v) + v**0.5 + 1 / v, w) + torch.clamp(1 / v, max=2) * w

    inside = lambda v, w: torch.where(v > 0, safe(v, w), w)  # noqa: E731
    fused, _, theta = losses(at_the_kinks(inside))
    weights = torch.ones(BOUNDS[-1], dtype=torch.float64)
    assert bool(fused.evaluate_residuals(theta).isfinite().all())
    assert bool(fused.pull_back(theta, weights).isfinite().all())


@pytest.mark.parametrize("reason", REASONS)
def test_what_is_not_traced_is_named(reason):
    fused, _, _ = losses(REASONS[reason])
    assert isinstance(fused, TorchResidual) and fused.untraced == reason


@pytest.mark.parametrize("name", UNTRACEABLE)
def test_what_cannot_be_traced_says_so(name):
    with pytest.raises(NotTraceableError):
        trace(single(UNTRACEABLE[name]), COMPONENTS, BOUNDS[-1])


def test_a_residual_that_cannot_be_traced_stays_in_torch():
    fused, plain, theta = losses(lambda u: torch.erf(u[0]) + u[1])
    assert isinstance(fused, TorchResidual)
    last = NETWORK.depth - 1
    assert torch.equal(
        fused.sum_losses_and_gradients(theta, 0, last, None),
        plain.sum_losses_and_gradients(theta, 0, last, None),
    )


def test_jets_in_torch_keep_the_residual_in_torch():
    evaluator = TorchJets(NETWORK, SHAPE, points(), BOUNDS)
    loss = make_residual_loss(evaluator, single(RESIDUALS["Burgers"]), torch.float64)
    assert isinstance(loss, TorchResidual)
