"""Modules of torch as networks over one flat vector, cut into layers."""

from functools import partial

import pytest
import torch
from torch import nn

from hpctrain.networks import classifiers
from hpctrain.networks.faults import NetworkError
from hpctrain.networks.module import ModuleNetwork

GREY, COLOUR, SMALL = (1, 28, 28), (3, 32, 32), (3, 8, 8)
SHIPPED = {
    "fcnn": (partial(classifiers.make_fcnn, 784, [32, 32], 10, nn.ReLU), GREY, 26_506, 3),
    "large fcnn": (partial(classifiers.make_fcnn, 784, [256, 256], 10, nn.ReLU), GREY, 269_322, 3),
    "lenet": (partial(classifiers.lenet, COLOUR, 10), COLOUR, 62_006, 5),
    "lenet, grey": (partial(classifiers.lenet, GREY, 10), GREY, 61_706, 5),
    "resnet-18": (partial(classifiers.resnet18, SMALL, 10), SMALL, 11_173_962, 10),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_networks_are_chains_of_the_published_size(name):
    make, shape, parameters, layers = SHIPPED[name]
    network = ModuleNetwork(name, make, shape)
    assert (network.parameters, network.outputs) == (parameters, (10,))
    assert network.is_chain and len(network.layers) == layers
    starts = [layer.start for layer in network.layers[1:]]
    assert starts == [before.stop for before in network.layers[:-1]]
    assert (network.layers[0].start, network.layers[-1].stop) == (0, parameters)


def test_costs_are_multiply_adds_of_one_sample():
    costs = [layer.cost for layer in ModuleNetwork("lenet", *SHIPPED["lenet"][:2]).layers]
    convolutions = [28 * 28 * 6 * 3 * 25, 10 * 10 * 16 * 6 * 25]
    assert costs == [*convolutions, 400 * 120, 120 * 84, 84 * 10]


@pytest.mark.parametrize("name", ["fcnn", "lenet, grey"])
def test_a_network_cut_anywhere_is_the_module(name):
    make, shape, _, _ = SHIPPED[name]
    network = ModuleNetwork(name, make, shape)
    theta = network.make_initial_parameters(0)
    replica = network.replica(torch.float32)
    replica.load(theta, 0)
    module = make()
    with torch.no_grad():
        nn.utils.vector_to_parameters(theta, module.parameters())
        x = torch.rand(3, *shape)
        expected = module(x)
        for cut in range(len(network.layers) + 1):
            assert torch.equal(replica.run(replica.run(x, 0, cut), cut), expected)


class Wrapped(nn.Module):
    """What many users write: a sequence inside a module."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.LayerNorm(3), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(3, 5), nn.PReLU(), nn.Linear(5, 2))

    def forward(self, x):
        return self.head(self.body(x))


class Reversed(Wrapped):
    """Children that do not run in the order of their names."""

    def __init__(self):
        super().__init__()
        self.head, self.body = self.body, self.head

    def forward(self, x):
        return self.body(self.head(x))


class Skipping(nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2))
        self.first = nn.Linear(4, 2)
        self.second = nn.Linear(4, 2)

    def forward(self, x):
        return self.first(x) * self.second(x) + self.bias


def test_sequences_within_a_chain_are_taken_apart_and_norms_go_with_the_layer_before():
    network = ModuleNetwork("wrapped", Wrapped, (4,))
    assert network.is_chain
    assert [layer.name for layer in network.layers] == ["body.1", "head.0", "head.2"]
    assert [layer.stop - layer.start for layer in network.layers] == [15 + 6, 20 + 1, 12]


@pytest.mark.parametrize(
    ("make", "names"),
    [(Reversed, ["body", "head"]), (Skipping, ["skipping", "first", "second"])],
)
def test_a_module_that_is_no_chain_has_its_children_as_layers(make, names):
    network = ModuleNetwork("skipping", make, (4,))
    assert not network.is_chain
    assert [layer.name for layer in network.layers] == names
    assert network.parameters == sum(each.numel() for each in make().parameters())


def test_a_chain_that_uses_a_layer_twice_has_its_parameters_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.again = nn.Sequential(nn.Tanh(), self.layer)

        def forward(self, x):
            return self.again(self.layer(x))

    network = ModuleNetwork("twice", Twice, (4,))
    assert not network.is_chain and network.parameters == 20


def test_groups_of_lenet_see_small_images_with_a_border_of_zeros():
    module = classifiers.lenet((1, 28, 28), 10)
    padded = nn.Sequential(*list(module.children())[1:])
    x = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(module(x), padded(nn.functional.pad(x, (2, 2, 2, 2))))


def test_the_loss_of_a_sample_of_resnet_does_not_depend_on_the_others():
    torch.manual_seed(0)
    block = classifiers.ResidualBlock(64, 128, 2)
    x = torch.rand(3, 64, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(block(x)[1:2], block(x[1:2]))


def test_a_part_that_writes_over_what_it_is_fed_with_is_refused():
    with pytest.raises(NetworkError, match=r"^mine changes its inputs in place: leave out inplace"):
        ModuleNetwork("mine", lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2)), (4,))


def test_a_module_that_fails_on_a_sample_is_named_with_its_shape():
    with pytest.raises(NetworkError, match=r"^mine fails on samples of 3 x 5: RuntimeError: mat1"):
        ModuleNetwork("mine", lambda: nn.Linear(4, 2), (3, 5))
    with pytest.raises(NetworkError, match=r"^mine has no parameters$"):
        ModuleNetwork("mine", nn.ReLU, (3,))
    with pytest.raises(NetworkError, match="lenet takes images up to 32 x 32, not 40 x 30"):
        classifiers.lenet((1, 40, 30), 10)
    with pytest.raises(NetworkError, match="takes images, channels x height x width, not samples"):
        classifiers.resnet18((12,), 10)


class Tuned(nn.Module):
    """A body that stays as it is, a new part, one that is fixed too, and a new head."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6)).requires_grad_(False)
        self.new = nn.Linear(6, 5)
        self.fixed = nn.Linear(5, 7).requires_grad_(False)
        self.head = nn.Linear(7, 3)

    def forward(self, x):
        return self.head(self.fixed(self.new(self.body(x))))


def test_fixed_parameters_are_no_part_of_theta_nor_layers_of_their_own():
    network = ModuleNetwork("tuned", Tuned, (4,), seed=2)
    assert network.is_chain and [layer.name for layer in network.layers] == ["new", "head"]
    assert [layer.stop - layer.start for layer in network.layers] == [35, 24]
    assert sum(shape.numel() for shape in network.fixed) == 40 + 54 + 42
    # Forward through all; the gradient of the first layer passes through what is fixed behind it.
    assert [layer.cost for layer in network.layers] == [32 + 48 + 30 + 35, 21]
    assert (network.trained_costs, network.behind_costs) == ([30, 21], [35, 0])


def test_fixed_values_are_made_by_the_seed_and_stay():
    networks = [ModuleNetwork("tuned", Tuned, (4,), seed=seed) for seed in (2, 2, 3)]
    fixed = [dict(each.replica(torch.float32).module.named_parameters()) for each in networks]
    name = "body.0.weight"
    assert torch.equal(fixed[0][name], fixed[1][name])
    assert not torch.equal(fixed[0][name], fixed[2][name])
    replica = networks[0].replica(torch.float32)
    replica.load(networks[0].make_initial_parameters(2) + 1, 0, trained=(0, 1))
    found = dict(replica.module.named_parameters())
    assert torch.equal(found[name], fixed[0][name]) and not found[name].requires_grad
    assert found["new.weight"].requires_grad


def test_a_fixed_branch_of_what_is_no_chain_counts_with_the_first_layer():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.old = nn.Linear(4, 3).requires_grad_(False)
            self.left, self.right = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.old(x) + self.left(x) * self.right(x)

    network = ModuleNetwork("branches", Branches, (4,))
    assert [layer.name for layer in network.layers] == ["left", "right"]
    assert [layer.cost for layer in network.layers] == [24, 12]


def test_a_module_without_a_parameter_to_train_is_refused():
    with pytest.raises(NetworkError, match=r"^mine has no parameters to train: all have requires_"):
        ModuleNetwork("mine", lambda: nn.Linear(4, 2).requires_grad_(False), (4,))


def test_biases_alone_can_be_trained():
    def make():
        module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        for part in (module[0], module[2]):
            part.weight.requires_grad_(False)
        return module

    network = ModuleNetwork("biases", make, (4,))
    assert [(layer.start, layer.stop) for layer in network.layers] == [(0, 5), (5, 8)]
