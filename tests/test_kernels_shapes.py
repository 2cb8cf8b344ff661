"""Jets of any shape against nested autograd: high and mixed derivatives, Laplacians, embeddings."""

import math

import pytest
import torch

from hpctrain.kernels import JetShape, TorchJets, is_native_available, make_jet_evaluator
from hpctrain.kernels.jets import make_input_jets
from hpctrain.kernels.shape import list_partitions
from hpctrain.networks.dense import DenseNetwork

BOUNDS = [0, 1, 14, 14, 40, 73]
needs_native = pytest.mark.skipif(not is_native_available(), reason="native kernels are not built")
EVALUATORS = [
    pytest.param(make_jet_evaluator, marks=needs_native, id="native"),
    pytest.param(TorchJets, id="torch"),
]
PLAIN = DenseNetwork(2, 9, 4, outputs=3)
CASES = {
    "u_xxx": (DenseNetwork(2, 12, 4), JetShape.make_closed(2, [(0,), (1, 1, 1)])),
    "biharmonic": (PLAIN, JetShape.make_closed(2, [(0, 0, 0, 0), (0, 0, 1, 1), (1, 1, 1, 1)])),
    "mixed, of three coordinates": (
        DenseNetwork(3, 7, 3, residual=True, adaptive=True, time_step=0.6),
        JetShape.make_closed(3, [(0, 1), (1, 2, 2), (0, 0, 1, 2)]),
    ),
    "three outputs, compiled": (PLAIN, JetShape.make_closed(2, [(0, 0), (1, 1)])),
    "sine": (DenseNetwork(2, 6, 4, activation="sin"), JetShape.make_closed(2, [(0, 0, 1), (1, 1)])),
    "adaptive sine, skips": (
        DenseNetwork(2, 6, 4, 1, True, True, 0.4, "sin"),
        JetShape.make_closed(2, [(0, 0, 0, 1)]),
    ),
    "values of sines": (DenseNetwork(2, 5, 3, activation="sin"), JetShape.make_closed(2, [])),
    "a Laplacian of ten coordinates": (
        DenseNetwork(10, 8, 3, outputs=2), JetShape.make_closed(10, [], range(10)),
    ),
    "a Laplacian of three coordinates, and others": (
        DenseNetwork(4, 8, 4), JetShape.make_closed(4, [(0,), (1, 2), (3, 3, 3)], (1, 2, 3)),
    ),
    "seven coordinates": (
        DenseNetwork(7, 6, 3), JetShape.make_closed(7, [(i, i) for i in range(6)]),
    ),
    "gated, mixed": (
        DenseNetwork(2, 5, 4, gated=True), JetShape.make_closed(2, [(0, 0, 1, 1), (1, 1, 1)]),
    ),
    "gated, a Laplacian": (
        DenseNetwork(3, 5, 4, 2, gated=True), JetShape.make_closed(3, [(0, 1)], (1, 2)),
    ),
    "one hidden layer": (DenseNetwork(1, 5, 2), JetShape.make_closed(1, [(0, 0, 0, 0)])),
}  # fmt: skip


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def some_parameters(network):
    theta = network.make_initial_parameters(seed=1)
    return theta + 0.1 * drawn(len(theta), seed=2)


def some_points(network):
    return drawn(network.inputs, BOUNDS[-1], seed=3).clamp(-1.5, 1.5)


def derivative(values, points, index):
    """∂values/∂x_i … for the coordinates i of an index, (N,)."""
    for i in index:
        (gradient,) = torch.autograd.grad(values.sum(), points, create_graph=True)
        values = gradient[i]
    return values


def nested_autograd(function, points, shape):
    """(components, outputs, N) of a function (d, N) → (outputs, N)."""
    x = points.clone().requires_grad_()
    by_output = []
    for value in function(x):
        jet = [derivative(value, x, index) for index in shape.indices]
        if shape.laplacian:
            jet.append(sum(derivative(value, x, (i, i)) for i in shape.laplacian))
        by_output.append(torch.stack(jet))
    return torch.stack(by_output, dim=1)


def difference(found, expected):
    """The largest, of each component relative to its largest value."""
    found, expected = found.detach().flatten(1), expected.detach().flatten(1)
    assert found.shape == expected.shape
    return float(((found - expected).abs().amax(1) / expected.abs().amax(1)).max())


def relative(found, expected):
    return difference(found.flatten()[None], expected.flatten()[None])


@pytest.mark.parametrize("order, bell", [(0, 1), (1, 1), (2, 2), (3, 5), (4, 15), (5, 52)])
def test_there_are_as_many_partitions_as_bell_numbers_say(order, bell):
    found = {frozenset(map(frozenset, each)) for each in list_partitions(tuple(range(order)))}
    assert len(found) == len(list(list_partitions(tuple(range(order))))) == bell


@pytest.mark.parametrize("index", [(0, 0, 0, 0), (0, 1, 2, 3), (0, 0, 1, 1), (1, 1, 1, 2)])
def test_merged_products_have_the_coefficients_of_all_partitions(index):
    shape = JetShape.make_closed(4, [index])
    assert sum(p.coefficient for p in shape.products[shape.find_position(index)]) == 15


def test_products_are_those_of_the_formula_written_out():
    shape = JetShape.make_closed(2, [(0, 0, 1)])
    x, y, xx, xy, xxy = (shape.find_position(i) for i in [(0,), (1,), (0, 0), (0, 1), (0, 0, 1)])
    found = {p.factors: p.coefficient for p in shape.products[xxy]}
    assert found == {(xxy,): 1, (y, xx): 1, (x, xy): 2, (x, x, y): 1}


def test_todays_orders_give_value_first_and_second_derivatives():
    shape = JetShape.make_closed(3, [(0,), (1, 1), (2, 2)])
    assert shape.indices == ((), (0,), (1,), (2,), (1, 1), (2, 2))


@pytest.mark.parametrize(
    "wrong, message",
    [
        ((2, ((), (0, 0))), "not closed"),
        ((2, ((0,), ())), "in order"),
        ((1, ((), (1,))), "not among 1 coordinates"),
        ((1, tuple((0,) * k for k in range(6))), "of order 4"),
        ((2, ((), (0,)), (0, 1)), "not closed"),
    ],
)
def test_what_is_no_jet_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        JetShape(*wrong)


@pytest.mark.parametrize("make", EVALUATORS)
@pytest.mark.parametrize("case", CASES)
def test_jets_and_their_gradient_equal_nested_autograd(make, case):
    network, shape = CASES[case]
    theta, points = some_parameters(network).requires_grad_(), some_points(network)
    expected = nested_autograd(lambda x: network(theta, x), points, shape)
    evaluator = make(network, shape, points, BOUNDS)
    found = evaluator.forward(theta.detach(), keep=True)
    assert difference(found, expected) < 1e-11
    adjoint = drawn(*expected.shape, seed=4)
    (gradient,) = torch.autograd.grad((expected * adjoint).sum(), theta)
    assert relative(evaluator.reverse(theta.detach(), adjoint).sum(0), gradient) < 1e-11


@pytest.mark.parametrize("make", EVALUATORS)
def test_a_laplacian_of_a_hundred_coordinates_is_that_of_nested_autograd(make):
    network, shape = DenseNetwork(100, 6, 3), JetShape.make_closed(100, [], range(100))
    theta, points = some_parameters(network).requires_grad_(), some_points(network)[:, :9]
    expected = nested_autograd(lambda x: network(theta, x), points, shape)
    evaluator = make(network, shape, points, [0, 4, 9])
    found = evaluator.forward(theta.detach(), keep=True)
    assert difference(found, expected) < 1e-11
    adjoint = drawn(*expected.shape, seed=4)
    (gradient,) = torch.autograd.grad((expected * adjoint).sum(), theta)
    assert relative(evaluator.reverse(theta.detach(), adjoint).sum(0), gradient) < 1e-11


@pytest.mark.parametrize("make", EVALUATORS)
@pytest.mark.parametrize("case", CASES)
def test_a_suffix_from_its_activations_equals_the_whole(make, case):
    network, shape = CASES[case]
    theta, points = some_parameters(network), some_points(network)
    evaluator = make(network, shape, points, BOUNDS)
    whole = evaluator.forward(theta, keep=True)
    adjoint = drawn(*whole.shape, seed=4)
    gradient, layers = evaluator.reverse(theta, adjoint), network.layers
    for first in range(1, network.depth):
        activations = evaluator.evaluate_prefix(theta, first)
        suffix = evaluator.forward(theta, keep=True, first=first, activations=activations)
        assert relative(suffix, whole) < 1e-14
        for last in range(first, network.depth):
            part = evaluator.reverse(
                theta, adjoint, first=first, last=last, activations=activations
            )
            expected = gradient[:, layers[first].start : layers[last].stop]
            assert relative(part, expected) < 1e-12


@pytest.mark.parametrize("make", EVALUATORS)
@pytest.mark.parametrize("case", CASES)
def test_the_tangent_is_the_derivative_along_a_direction(make, case):
    network, shape = CASES[case]
    theta, points, v = some_parameters(network), some_points(network), drawn(network.parameters)
    evaluator = make(network, shape, points, BOUNDS)
    adjoint = drawn(shape.components, network.outputs, BOUNDS[-1], seed=4)
    evaluator.forward(theta, keep=True)
    slope = evaluator.reverse(theta, adjoint).sum(0) @ v
    found = evaluator.differentiate_along(theta, v)
    # <adjoint, J v> = <Jᵀ adjoint, v>, where the sums cancel.
    assert abs(float((adjoint * found).sum() - slope)) < 1e-12 * float((adjoint * found).norm()) * 9
    h = 1e-5
    ahead, behind = (evaluator.forward(theta + s * h * v, keep=False) for s in (1, -1))
    assert difference(found, (ahead - behind) / (2 * h)) < 1e-5


@needs_native
@pytest.mark.parametrize("case", CASES)
def test_bits_do_not_depend_on_threads_nor_on_chunks(case):
    network, shape = CASES[case]
    theta, points, v = some_parameters(network), some_points(network), drawn(network.parameters)
    adjoint = drawn(shape.components, network.outputs, BOUNDS[-1], seed=4)
    found = []
    for threads in (1, 3):
        evaluator = make_jet_evaluator(network, shape, points, BOUNDS, threads)
        kept = evaluator.forward(theta, keep=True)
        found.append(
            (kept, evaluator.reverse(theta, adjoint), evaluator.differentiate_along(theta, v))
        )
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    whole = make_jet_evaluator(network, shape, points, [0, BOUNDS[-1]])
    others = whole.forward(theta, keep=False), whole.differentiate_along(theta, v)
    for one, other in zip(others, found[0][::2], strict=True):
        if network.gated:  # in torch, whose products depend on how many points there are
            torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)
        else:
            assert torch.equal(one, other)


@needs_native
@pytest.mark.parametrize("case", CASES)
def test_float32_agrees_to_its_precision(case):
    network, shape = CASES[case]
    theta, points, v = some_parameters(network), some_points(network), drawn(network.parameters)
    adjoint = drawn(shape.components, network.outputs, BOUNDS[-1], seed=4)
    found = []
    for dtype in (torch.float64, torch.float32):
        evaluator = make_jet_evaluator(network, shape, points.to(dtype), BOUNDS)
        kept = evaluator.forward(theta.to(dtype), keep=True)
        leaves = evaluator.reverse(theta.to(dtype), adjoint.to(dtype))
        found.append((kept, leaves, evaluator.differentiate_along(theta.to(dtype), v.to(dtype))))
    for double, single in zip(*found, strict=True):
        assert single.dtype == torch.float32
        assert relative(single, double) < 3e-4


@pytest.mark.parametrize("make", EVALUATORS)
@pytest.mark.parametrize(
    "shape", [JetShape.make_closed(2, [(0,), (1, 1)]), JetShape.make_closed(2, [(0, 1), (1, 1, 1)])]
)
def test_given_input_jets_are_those_of_an_embedding(make, shape):
    """x ↦ (t, cos x, sin x, sin 2x): a network that is periodic in x."""

    def embedding(points):
        t, x = points
        return torch.stack([t, torch.cos(x), torch.sin(x), torch.sin(2 * x)])

    network = DenseNetwork(4, 7, 3, outputs=2)
    theta, points = some_parameters(network).requires_grad_(), some_points(network)[:2]
    inputs = nested_autograd(embedding, points.requires_grad_(), shape).detach()
    points = points.detach()
    expected = nested_autograd(lambda x: network(theta, embedding(x)), points, shape)
    evaluator = make(network, shape, points, BOUNDS, inputs=inputs)
    found = evaluator.forward(theta.detach(), keep=True)
    assert difference(found, expected) < 1e-11
    adjoint = drawn(*expected.shape, seed=4)
    (gradient,) = torch.autograd.grad((expected * adjoint).sum(), theta)
    assert relative(evaluator.reverse(theta.detach(), adjoint).sum(0), gradient) < 1e-11


@pytest.mark.parametrize("make", EVALUATORS)
@pytest.mark.parametrize("case", ["u_xxx", "three outputs, compiled"])
def test_the_coordinates_own_jets_may_be_given(make, case):
    network, shape = CASES[case]
    theta, points = some_parameters(network), some_points(network)
    bare = make(network, shape, points, BOUNDS)
    given = make(network, shape, points, BOUNDS, inputs=make_input_jets(shape, points))
    assert torch.equal(bare.forward(theta, keep=False), given.forward(theta, keep=False))


@needs_native
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 4e-16), (torch.float32, 2e-7)])
def test_sine_and_cosine_are_accurate_at_all_magnitudes(dtype, tolerance):
    network = DenseNetwork(1, 1, 2, activation="sin")
    x = torch.cat([torch.logspace(-30, 7, 3000), torch.arange(-900, 900) * math.pi / 4]).to(dtype)
    x = torch.cat([x, -x])[None]
    identity = torch.tensor([1, 0, 1, 0], dtype=dtype)
    evaluator = make_jet_evaluator(network, JetShape.make_closed(1, [(0,)]), x, [0, x.shape[1]])
    sine, cosine = evaluator.forward(identity, keep=False)[:, 0].double()
    assert float((sine - torch.sin(x[0].double())).abs().max()) < tolerance
    assert float((cosine - torch.cos(x[0].double())).abs().max()) < tolerance


@needs_native
@pytest.mark.parametrize("case", ["biharmonic", "sine", "a Laplacian of ten coordinates"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_shows(case, bad):
    network, shape = CASES[case]
    theta = some_parameters(network)
    theta[network.layers[1].bias_start] = bad
    evaluator = make_jet_evaluator(network, shape, some_points(network), BOUNDS)
    jets = evaluator.forward(theta, keep=False)
    if network.activation == "sin" or math.isnan(bad):
        assert not bool(jets.isfinite().any())
    else:  # tanh saturates: a unit is 1 and its derivatives are 0 · w
        assert bool(jets[0].isfinite().all())
