"""Jets of dense networks against nested autograd of the plain definition."""

from itertools import pairwise

import pytest
import torch

from hpctrain.kernels import (
    JetShape,
    TorchJets,
    evaluate_jets,
    is_native_available,
    make_jet_evaluator,
)
from hpctrain.networks.dense import DenseNetwork

NETWORKS = {
    "plain": DenseNetwork(2, 20, 9),
    "plain adaptive": DenseNetwork(2, 7, 4, adaptive=True),
    "residual adaptive": DenseNetwork(2, 20, 8, residual=True, adaptive=True, time_step=0.7),
    "residual tanh": DenseNetwork(2, 5, 5, residual=True, time_step=0.3),
    "gated": DenseNetwork(2, 6, 5, gated=True),
    "gated adaptive": DenseNetwork(3, 5, 4, outputs=2, adaptive=True, gated=True),
    "wide": DenseNetwork(2, 50, 4),
    "two outputs": DenseNetwork(2, 6, 3, outputs=2),
    "one hidden layer": DenseNetwork(2, 4, 2),
    "one coordinate": DenseNetwork(1, 9, 3, adaptive=True),
    "four coordinates": DenseNetwork(4, 5, 3, adaptive=True),
    "five coordinates": DenseNetwork(5, 4, 3),
    "three coordinates": DenseNetwork(3, 8, 5, residual=True, adaptive=True),
}
ORDERS = {
    1: [(2,), (0,)],
    2: [(1, 2), (2, 2), (0, 0), (2, 0), (1, 1)],
    3: [(1, 2, 2), (0, 1, 2)],
    4: [(1, 2, 0, 2), (1, 1, 2, 2), (2, 1, 2, 2)],
    5: [(1, 2, 1, 2, 2)],  # more than the native kernels are compiled for
}
CASES = [
    pytest.param(network, orders, id=f"{name} {orders}")
    for name, network in NETWORKS.items()
    for orders in ORDERS[network.inputs]
]
BOUNDS = [0, 1, 40, 73, 150]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


needs_native = pytest.mark.skipif(not is_native_available(), reason="native kernels are not built")
EVALUATORS = [pytest.param(make_jet_evaluator, marks=needs_native, id="native"), TorchJets]


def shape_of(orders):
    """The highest pure derivative along each coordinate."""
    return JetShape.make_closed(len(orders), [(i,) * order for i, order in enumerate(orders)])


def some_parameters(network, dtype=torch.float64):
    theta = network.make_initial_parameters(seed=1)
    noise = torch.randn(len(theta), generator=torch.Generator().manual_seed(2)).double()
    return (theta + 0.1 * noise).to(dtype)


def some_points(network, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    return torch.rand(network.inputs, BOUNDS[-1], generator=generator, dtype=dtype) * 2 - 1


def nested_autograd(network, theta, points, orders):
    """(components, outputs, N), by differentiating the definition twice."""
    x = points.clone().requires_grad_()
    by_output = []
    for value in network(theta, x):
        (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        first = [gradient[i] for i, order in enumerate(orders) if order >= 1]
        second = [
            torch.autograd.grad(gradient[i].sum(), x, create_graph=True)[0][i]
            for i, order in enumerate(orders)
            if order == 2
        ]
        by_output.append(torch.stack([value, *first, *second]))
    return torch.stack(by_output, dim=1)


def relative(found, expected):
    return float((found - expected).detach().abs().max() / expected.detach().abs().max())


@pytest.mark.parametrize("make", EVALUATORS)
@pytest.mark.parametrize("network, orders", CASES)
def test_jets_and_their_gradient_equal_nested_autograd(make, network, orders):
    theta, points = some_parameters(network).requires_grad_(), some_points(network)
    expected = nested_autograd(network, theta, points, orders)
    evaluator = make(network, shape_of(orders), points, BOUNDS)
    found = evaluator.forward(theta.detach(), keep=True)
    assert relative(found, expected) < 1e-12
    adjoint = torch.randn(expected.shape, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((expected * adjoint).sum(), theta)
    leaves = evaluator.reverse(theta.detach(), adjoint)
    assert relative(leaves.sum(0), gradient) < 1e-12


@pytest.mark.parametrize("make", EVALUATORS)
@pytest.mark.parametrize("name", ["plain adaptive", "residual adaptive"])
def test_what_is_kept_outlasts_evaluations_elsewhere(make, name):
    network, orders = NETWORKS[name], (1, 2)
    theta, points = some_parameters(network), some_points(network)
    evaluator = make(network, shape_of(orders), points, BOUNDS)
    adjoint = torch.randn(evaluator.components, 1, BOUNDS[-1], dtype=torch.float64)
    evaluator.forward(theta, keep=True)
    expected = evaluator.reverse(theta, adjoint)
    evaluator.forward(2 * theta, keep=False)
    evaluator.differentiate_along(3 * theta, theta)
    evaluator.evaluate_prefix(4 * theta, 2)
    assert torch.equal(evaluator.reverse(theta, adjoint), expected)


@pytest.mark.parametrize("make", EVALUATORS)
def test_a_reverse_sweep_of_nothing_is_refused(make):
    network = NETWORKS["plain"]
    theta, points = some_parameters(network), some_points(network)
    evaluator = make(network, shape_of((1, 2)), points, BOUNDS)
    adjoint = evaluator.forward(theta, keep=False)
    with pytest.raises(RuntimeError, match="kept"):
        evaluator.reverse(theta, adjoint)


@pytest.mark.parametrize("make", EVALUATORS)
def test_a_leaf_is_the_gradient_of_its_chunk(make):
    network, orders = NETWORKS["residual adaptive"], (1, 2)
    theta, points = some_parameters(network).requires_grad_(), some_points(network)
    evaluator = make(network, shape_of(orders), points, BOUNDS)
    evaluator.forward(theta.detach(), keep=True)
    adjoint = torch.randn(evaluator.components, 1, BOUNDS[-1], dtype=torch.float64)
    leaves = evaluator.reverse(theta.detach(), adjoint)
    for chunk, (start, stop) in enumerate(pairwise(BOUNDS)):
        part = nested_autograd(network, theta, points[:, start:stop], orders)
        (expected,) = torch.autograd.grad((part * adjoint[:, :, start:stop]).sum(), theta)
        assert relative(leaves[chunk], expected) < 1e-12


@pytest.mark.parametrize("make", EVALUATORS)
@pytest.mark.parametrize(
    "name", ["plain", "plain adaptive", "residual adaptive", "residual tanh", "gated"]
)
def test_a_suffix_from_its_activations_equals_the_whole(make, name):
    network, orders = NETWORKS[name], (1, 2)
    theta, points = some_parameters(network), some_points(network)
    evaluator = make(network, shape_of(orders), points, BOUNDS)
    whole = evaluator.forward(theta, keep=True)
    adjoint = torch.randn(whole.shape, dtype=torch.float64)
    gradient = evaluator.reverse(theta, adjoint)
    for first in range(1, network.depth):
        for last in range(first, network.depth):
            activations = evaluator.evaluate_prefix(theta, first)
            suffix = evaluator.forward(theta, keep=True, first=first, activations=activations)
            assert relative(suffix, whole) < 1e-14
            part = evaluator.reverse(
                theta, adjoint, first=first, last=last, activations=activations
            )
            layers = network.layers
            expected = gradient[:, layers[first].start : layers[last].stop]
            assert part.shape == expected.shape
            assert relative(part, expected) < 1e-12


@needs_native
def test_values_only_have_the_bits_of_kept_evaluations_on_any_number_of_threads():
    network, orders = NETWORKS["plain"], (1, 2)
    theta, points = some_parameters(network), some_points(network)
    adjoint = torch.randn(4, 1, BOUNDS[-1], dtype=torch.float64)
    results = []
    for threads in (1, 2, 3):
        evaluator = make_jet_evaluator(network, shape_of(orders), points, BOUNDS, threads)
        kept = evaluator.forward(theta, keep=True)
        assert torch.equal(kept, evaluator.forward(theta, keep=False))
        results.append((kept, evaluator.reverse(theta, adjoint)))
    for kept, leaves in results[1:]:
        assert torch.equal(kept, results[0][0])
        assert torch.equal(leaves, results[0][1])


@needs_native
def test_a_points_jets_do_not_depend_on_the_chunk_it_lies_in():
    network, orders = NETWORKS["residual adaptive"], (1, 2)
    theta, points = some_parameters(network), some_points(network)
    whole, cut = (
        make_jet_evaluator(network, shape_of(orders), points, bounds).forward(theta, keep=False)
        for bounds in ([0, BOUNDS[-1]], BOUNDS)
    )
    assert torch.equal(whole, cut)


@needs_native
@pytest.mark.parametrize("network, orders", CASES)
def test_float32_agrees_to_its_precision(network, orders):
    theta, points = some_parameters(network), some_points(network)
    adjoint = torch.randn(make_jet_evaluator(network, shape_of(orders), points, BOUNDS).components,
                          network.outputs, BOUNDS[-1])  # fmt: skip
    found = []
    for dtype in (torch.float64, torch.float32):
        evaluator = make_jet_evaluator(network, shape_of(orders), points.to(dtype), BOUNDS)
        kept = evaluator.forward(theta.to(dtype), keep=True)
        found.append((kept, evaluator.reverse(theta.to(dtype), adjoint.to(dtype)).sum(0)))
    (jets64, gradient64), (jets32, gradient32) = found
    assert jets32.dtype == torch.float32
    assert relative(jets32, jets64) < 1e-4
    assert relative(gradient32, gradient64) < 1e-4


@pytest.mark.parametrize("make", EVALUATORS)
def test_the_autograd_function_gives_a_loss_written_in_torch_its_gradient(make):
    network, orders = NETWORKS["plain adaptive"], (1, 2)
    theta, points = some_parameters(network).requires_grad_(), some_points(network)

    def loss(u):
        return (u[1] + u[0] * u[2] - 0.01 * u[3]).square().mean()

    (expected,) = torch.autograd.grad(loss(nested_autograd(network, theta, points, orders)), theta)
    loss(evaluate_jets(make(network, shape_of(orders), points, BOUNDS), theta)).backward()
    assert relative(theta.grad, expected) < 1e-12


@pytest.mark.parametrize("make", EVALUATORS)
def test_the_gradient_equals_central_differences(make):
    network, orders = NETWORKS["residual adaptive"], (2, 2)
    theta, points = some_parameters(network), some_points(network)
    evaluator = make(network, shape_of(orders), points, BOUNDS)
    jets_at = evaluator.forward(theta, keep=True)
    adjoint = torch.randn(jets_at.shape, dtype=torch.float64)
    gradient = evaluator.reverse(theta, adjoint).sum(0)
    direction = torch.nn.functional.normalize(torch.randn(len(theta), dtype=torch.float64), dim=0)
    h = 1e-5
    ahead, behind = (
        evaluator.forward(theta + sign * h * direction, keep=False) for sign in (1, -1)
    )
    slope = ((ahead - behind) * adjoint).sum() / (2 * h)
    assert abs(float(slope - gradient @ direction)) < 1e-7 * float(slope.abs() + 1)


@needs_native
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 5e-16), (torch.float32, 3e-7)])
def test_tanh_is_accurate_relative_to_its_value_over_all_magnitudes(dtype, tolerance):
    network = DenseNetwork(1, 1, 2)
    x = torch.cat([torch.logspace(-30, 2.5, 2000), torch.tensor([0.0])]).to(dtype)[None]
    x = torch.cat([x, -x], dim=1)
    identity = torch.tensor([1, 0, 1, 0], dtype=dtype)
    evaluator = make_jet_evaluator(network, shape_of((0,)), x, [0, x.shape[1]])
    found = evaluator.forward(identity, keep=False)[0, 0]
    expected = torch.tanh(x[0].double())
    error = (found.double() - expected).abs()
    assert bool((error <= tolerance * expected.abs()).all())


@needs_native
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_shows(bad):
    network = NETWORKS["plain"]
    theta = some_parameters(network)
    theta[-2] = bad
    evaluator = make_jet_evaluator(network, shape_of((1, 2)), some_points(network), BOUNDS)
    assert not bool(evaluator.forward(theta, keep=False).isfinite().any())
    theta = some_parameters(network)
    theta[0] = float("nan")
    assert bool(evaluator.forward(theta, keep=False).isnan().all())


@needs_native
def test_results_are_written_where_they_are_wanted_or_refused():
    network, orders = NETWORKS["plain"], (1, 2)
    kernel = make_jet_evaluator(network, shape_of(orders), some_points(network), BOUNDS).kernel
    theta = some_parameters(network).numpy()
    jets = torch.empty(4, 1, 2 * BOUNDS[-1], dtype=torch.float64)
    for wrong in (jets[..., ::2], jets[..., : BOUNDS[-1]], jets.float()[..., : BOUNDS[-1]].clone()):
        with pytest.raises(TypeError):
            kernel.forward(theta, 0, None, False, wrong.numpy())
        with pytest.raises(TypeError):
            kernel.tangent(theta, theta, wrong.numpy())


@needs_native
def test_activations_of_another_precision_are_refused():
    network, orders = NETWORKS["plain"], (1, 2)
    theta, points = some_parameters(network), some_points(network)
    evaluator = make_jet_evaluator(network, shape_of(orders), points, BOUNDS)
    activations = evaluator.evaluate_prefix(theta, 2)
    evaluator.forward(theta, keep=True, first=2, activations=activations)
    wrong = {"first": 2, "activations": activations.float()}
    with pytest.raises(TypeError):
        evaluator.forward(theta, keep=False, **wrong)
    adjoint = torch.ones(4, 1, BOUNDS[-1], dtype=torch.float64)
    with pytest.raises(TypeError):
        evaluator.reverse(theta, adjoint, **wrong)


@needs_native
def test_sizes_and_layers_that_a_network_does_not_have_are_refused():
    network, orders = NETWORKS["plain adaptive"], (1, 2)
    theta, points = some_parameters(network), some_points(network)
    evaluator = make_jet_evaluator(network, shape_of(orders), points, BOUNDS)
    adjoint, activations = evaluator.forward(theta, keep=True), evaluator.evaluate_prefix(theta, 1)
    suffix, short = {"first": 1, "activations": activations}, theta[:-1]
    calls = [
        lambda: evaluator.forward(short, keep=False),
        lambda: evaluator.evaluate_prefix(short, 1),
        lambda: evaluator.reverse(short, adjoint),
        lambda: evaluator.reverse(theta, adjoint[..., 1:]),
        lambda: evaluator.differentiate_along(short, theta),
        lambda: evaluator.differentiate_along(theta, short),
        lambda: evaluator.forward(theta, keep=False, first=-1, activations=activations),
        lambda: evaluator.forward(theta, keep=False, first=4, activations=activations),
        lambda: evaluator.evaluate_prefix(theta, 4),
        lambda: evaluator.reverse(theta, adjoint, **suffix, last=4),
        lambda: evaluator.reverse(theta, adjoint, **suffix, last=0),
        lambda: evaluator.reverse(theta, adjoint, first=1),
    ]
    for call in calls:
        with pytest.raises(ValueError):
            call()
    with pytest.raises(ValueError):
        evaluator.kernel.forward(theta.numpy(), 0, None, False, adjoint[:-1].numpy())
