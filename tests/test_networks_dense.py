"""Dense networks: what they start from, and the functions that they are, written down once more."""

import math

import numpy as np
import pytest
import torch

from hpctrain.networks.dense import DenseNetwork
from hpctrain.networks.kinds.dense import DenseOptions
from hpctrain.problems.equations.library.klein_gordon import KleinGordon
from hpctrain.problems.equations.problem import Formulation, PinnProblem

NETWORKS = {
    "plain": DenseNetwork(2, 40, 4),
    "adaptive": DenseNetwork(2, 40, 4, adaptive=True),
    "residual": DenseNetwork(2, 40, 4, residual=True, time_step=0.5),
    "adaptive residual": DenseNetwork(2, 40, 4, residual=True, adaptive=True, time_step=0.5),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_xavier_uniform_and_biases_zero(name):
    """Uniform on ±√(6 / (in + out)), whose variance is 2 / (in + out)."""
    network = NETWORKS[name]
    theta = network.make_initial_parameters(0)
    assert len(theta) == network.parameters == network.layers[-1].stop
    for layer, (inputs, outputs) in zip(
        network.layers, [(2, 40), (40, 40), (40, 40), (40, 1)], strict=True
    ):
        W = layer.weight(theta)
        assert W.shape == (outputs, inputs)
        limit = math.sqrt(6 / (inputs + outputs))
        assert 0.9 * limit < float(W.abs().max()) <= limit
        assert float(W.min()) < -0.8 * limit and float(W.max()) > 0.8 * limit
        if W.numel() > 1000:
            assert float(W.var()) == pytest.approx(2 / (inputs + outputs), rel=0.05)
        assert not layer.bias(theta).any()
        if layer.scale_index is not None:
            assert float(theta[layer.scale_index]) == 0.1


def test_other_seeds_and_other_layers_have_other_weights():
    network = NETWORKS["plain"]
    first, second = (network.make_initial_parameters(seed) for seed in (0, 1))
    layers = network.layers
    assert not torch.equal(layers[1].weight(first), layers[1].weight(second))
    assert not torch.equal(layers[1].weight(first), layers[2].weight(first))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_the_function_of_its_docstring(name):
    network = NETWORKS[name]
    random = np.random.default_rng(0)
    theta = random.standard_normal(network.parameters)
    x = random.standard_normal((2, 5))
    found = network(torch.from_numpy(theta), torch.from_numpy(x)).numpy()

    position = 0

    def take(*shape):
        nonlocal position
        size = math.prod(shape)
        position += size
        return theta[position - size : position].reshape(shape)

    y = x
    for number in range(3):
        z = take(40, len(y)) @ y + take(40, 1)
        is_residual = network.residual and number > 0
        if network.adaptive and (is_residual or not network.residual):
            z = 10 * take(1) * z
        y = y + 0.5 * np.tanh(z) if is_residual else np.tanh(z)
    expected = take(1, 40) @ y + take(1, 1)
    assert position == len(theta)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_gated_network_whose_encoders_agree_is_a_linear_map_of_them():
    network = DenseNetwork(2, 5, 4, gated=True)
    theta, x = network.make_initial_parameters(0), torch.rand(2, 7, dtype=torch.float64)
    first, last = network.layers[0], network.layers[-1]
    weight = first.weight(theta)
    weight[5:10] = weight[:5]
    U = torch.tanh(weight[:5] @ x)
    assert torch.allclose(network(theta, x), last.weight(theta) @ U, rtol=0, atol=1e-14)


def test_weights_of_encoders_are_as_large_as_those_of_a_layer_of_their_own():
    network = DenseNetwork(2, 500, 3, gated=True)
    theta, layer = network.make_initial_parameters(0), network.layers[0]
    largest = float(layer.weight(theta).abs().max())
    assert largest == pytest.approx((6 / 502) ** 0.5, rel=1e-2)


def test_a_problem_says_that_the_jets_of_a_modified_network_are_torchs():
    network = DenseOptions(kind="modified", depth=3, width=4).make(2)
    text = PinnProblem(KleinGordon(), network, Formulation(points=20)).describe()
    assert "modified mlp network, 3 layers x 4" in text and text.endswith("jets in torch")
