"""The loss of a classifier against torch's on all samples, and against finite differences."""

import math

import numpy as np
import pytest
import torch
from classifiers import CLASSES, objective_of, tiny_problem
from torch import nn
from torch.nn import functional

from hpctrain.decomposition.blocks import (
    Block,
    LayerSet,
    count_tensors,
    cut_layers,
    cut_tensors,
)
from hpctrain.errors import InputError
from hpctrain.networks.module import ModuleNetwork
from hpctrain.objective import FiniteSumLoss
from hpctrain.parallel.communicator import Communicator


def theta_of(problem, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return 0.5 * torch.randn(problem.parameters, generator=generator, dtype=torch.float64)


def direct_loss(problem, theta, chosen=None):
    """torch's loss over the samples with these numbers, of a network with θ's values."""
    rows = problem._order if chosen is None else problem._order[chosen]
    inputs = torch.from_numpy(problem.scaling(problem.data.train.rows(rows), np.dtype("f8")))
    labels = torch.from_numpy(problem.data.train.labels[rows].astype(np.int64))
    replica = problem.network.replica(torch.float64)
    replica.load(theta, 0, range(len(problem.layers)))
    parameters = [each for layer in replica.parameters for each in layer]
    outputs = replica.run(inputs, 0)
    if problem.output == "sigmoid":
        outputs = torch.sigmoid(outputs)
    loss = functional.cross_entropy(outputs, labels)
    gradients = torch.autograd.grad(loss, parameters)
    return float(loss.detach()), torch.cat([each.reshape(-1) for each in gradients])


class Branches(nn.Module):
    """No chain: two ways from input to output, and a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.left = nn.Linear(36, CLASSES)
        self.right = nn.Linear(36, CLASSES)

    def forward(self, x):
        x = x.flatten(1)
        return self.scale * torch.tanh(self.left(x)) + self.right(x)


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Tanh(), nn.GroupNorm(1, 3), nn.Flatten(), nn.Linear(48, CLASSES)
    )


PROBLEMS = {
    "dense": {},
    "sigmoid": {"output": "sigmoid"},
    "convolutional": {"make": convolutional},
    "branches": {"make": Branches},
    "fewer samples": {"samples": 31},
}


@pytest.mark.parametrize("options", PROBLEMS.values(), ids=PROBLEMS)
def test_loss_and_gradient_are_those_of_torch_on_all_samples(options):
    problem = tiny_problem(**options)
    theta = theta_of(problem)
    loss, gradient = direct_loss(problem, theta)
    objective = objective_of(problem)
    found = objective.evaluate_with_gradient(theta)
    assert found.loss == pytest.approx(loss, rel=1e-13)
    assert objective.evaluate(theta).loss == found.loss
    torch.testing.assert_close(found.evaluate_gradient(), gradient, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("options", PROBLEMS.values(), ids=PROBLEMS)
def test_hessian_vector_products_are_differences_of_gradients(options):
    problem = tiny_problem(**options)
    theta, v, h = theta_of(problem), theta_of(problem, seed=4), 1e-6
    objective = objective_of(problem)
    ahead, behind = (
        objective.evaluate_with_gradient(theta + e * v).evaluate_gradient() for e in (h, -h)
    )
    product = objective.multiply_hessian(theta, v)
    torch.testing.assert_close(product, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("options", PROBLEMS.values(), ids=PROBLEMS)
def test_a_restriction_is_the_loss_with_all_other_parameters_frozen(options):
    problem = tiny_problem(**options)
    theta, other = theta_of(problem), theta_of(problem, seed=5)
    objective = objective_of(problem)
    blocks = cut_layers(problem.layers, len(problem.layers)).blocks
    tensors = cut_tensors(problem.layers, count_tensors(problem.layers)).blocks
    for region in (*blocks, LayerSet((blocks[0], blocks[-1])), *tensors):
        restricted = objective.restrict(region, theta)
        full = theta.clone()
        region.replace(full, region.restrict(other))
        part = region.restrict(other).clone()
        expected, found = (
            objective.evaluate_with_gradient(full),
            restricted.evaluate_with_gradient(part),
        )
        assert found.loss == pytest.approx(expected.loss, rel=1e-13)
        gradient = region.restrict(expected.evaluate_gradient())
        torch.testing.assert_close(found.evaluate_gradient(), gradient, rtol=1e-11, atol=1e-13)
        v = theta_of(problem, seed=6)
        v = region.restrict(v).clone()
        torch.testing.assert_close(
            restricted.multiply_hessian(part, v),
            region.restrict(objective.multiply_hessian(full, objective_vector(region, v, theta))),
            rtol=1e-9, atol=1e-12,
        )  # fmt: skip


def test_a_gradient_by_a_bias_costs_less_than_one_by_its_layer():
    """Beside the sweeps there is a product for each parameter, of which a bias has few."""
    problem = tiny_problem()
    share, theta = problem.share(4, 0, 1, 1), theta_of(problem)
    layer = share.restrict(cut_layers(problem.layers, 3).blocks[1], theta)
    weight, bias = (share.restrict(b, theta) for b in cut_tensors(problem.layers, 6).blocks[2:4])
    swept = layer.gradient_cost - 7 * 5
    assert weight.gradient_cost == swept + 35 * 35 // 40
    assert bias.gradient_cost == swept + 35 * 5 // 40


def test_a_gradient_goes_back_through_what_is_fixed_behind_the_first_trained_layer():
    def make():
        fixed = nn.Linear(7, 8).requires_grad_(False)
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 7), fixed, nn.Linear(8, CLASSES))

    share = tiny_problem(make=make).share(4, 0, 1, 1)
    first, fixed, last = 36 * 7, 7 * 8, 8 * CLASSES
    assert share.loss_cost == first + fixed + last
    assert share.gradient_cost == share.loss_cost + (fixed + last) + (first + last)


def objective_vector(region, v, like):
    full = torch.zeros_like(like)
    region.replace(full, v)
    return full


def test_a_block_does_not_evaluate_the_layers_below_it_again():
    class Counted(nn.Linear):
        calls = 0

        def forward(self, x):
            Counted.calls += len(x) > 0
            return super().forward(x)

    def make():
        return nn.Sequential(nn.Flatten(), Counted(36, 7), nn.Tanh(), nn.Linear(7, CLASSES))

    problem = tiny_problem(make=make)
    share = problem.share(4, 0, 1, 1)
    layers = problem.layers
    top = Block(1, 1, 1, layers[1].start, layers[1].stop)
    theta = theta_of(problem)
    before = Counted.calls
    restricted = share.restrict(top, theta)
    assert Counted.calls == before + 4
    for _ in range(3):
        restricted.sum_losses_and_gradients(top.restrict(theta))
        restricted.sum_losses(top.restrict(theta))
    assert Counted.calls == before + 4
    assert restricted.prefix_cost == layers[0].cost == 36 * 7
    assert restricted.loss_cost == layers[1].cost == 7 * CLASSES
    assert restricted.gradient_cost == 2 * layers[1].cost
    assert share.gradient_cost == 3 * share.loss_cost - layers[0].cost


def test_a_subset_is_the_mean_over_its_samples_also_of_a_restriction():
    problem = tiny_problem()
    theta = theta_of(problem)
    chosen = torch.tensor([0, 1, 5, 17, 18, 19, 40, 52])
    objective = objective_of(problem)
    part = objective.subset(chosen)
    loss, gradient = direct_loss(problem, theta, chosen.numpy())
    found = part.evaluate_with_gradient(theta)
    assert found.loss == pytest.approx(loss, rel=1e-13)
    torch.testing.assert_close(found.evaluate_gradient(), gradient, rtol=1e-11, atol=1e-13)
    top = cut_layers(problem.layers, 3).blocks[2]
    restricted = objective.restrict(top, theta).subset(chosen)
    local = restricted.evaluate_with_gradient(top.restrict(theta).clone())
    torch.testing.assert_close(
        local.evaluate_gradient(), top.restrict(gradient), rtol=1e-11, atol=1e-13
    )


def test_a_batch_that_leaves_chunks_empty_goes_through_layers_that_take_no_empty_one():
    class Rows(nn.Module):
        def forward(self, x):
            return x.view(len(x), -1)

    problem = tiny_problem(
        make=lambda: nn.Sequential(nn.Conv2d(1, 2, 3), Rows(), nn.Linear(32, CLASSES))
    )
    theta, chosen = theta_of(problem), torch.tensor([0, 5, 50])
    top = cut_layers(problem.layers, 2).blocks[1]
    part = objective_of(problem).subset(chosen)
    found = part.restrict(top, theta).evaluate_with_gradient(top.restrict(theta).clone())
    expected = part.evaluate_with_gradient(theta)
    assert found.loss == pytest.approx(expected.loss, rel=1e-13)
    torch.testing.assert_close(
        found.evaluate_gradient(), top.restrict(expected.evaluate_gradient())
    )


def test_a_share_of_given_samples_is_the_loss_over_these():
    problem = tiny_problem()
    theta = theta_of(problem)
    samples = torch.tensor([2, 3, 11, 30, 31, 32, 33, 50])
    sums = problem.share_samples(samples, 4, 0, 1, 1).sum_losses_and_gradients(theta).sum(dim=0)
    loss, gradient = direct_loss(problem, theta, samples.numpy())
    assert float(sums[0]) / 8 == pytest.approx(loss, rel=1e-13)
    torch.testing.assert_close(sums[1:] / 8, gradient, rtol=1e-11, atol=1e-13)
    chosen = torch.tensor([3, 31, 33])
    part = problem.share_samples(samples, 4, 0, 1, 1).subset(chosen).sum_losses(theta).sum()
    assert float(part) / 3 == pytest.approx(direct_loss(problem, theta, chosen.numpy())[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("make", [None, convolutional], ids=["dense", "convolutional"])
def test_sums_have_the_same_bits_for_any_threads_and_ranks(make, dtype):
    """33 samples in 8 chunks: of 4 and of 5."""
    problem = tiny_problem(train=33, dtype=dtype, hidden=(19, 11), make=make)
    theta = problem.make_initial_parameters(0)
    v = theta.flip(0)
    share = problem.share(8, 0, 1, 1)
    for ranks, threads in ((1, 2), (1, 3), (3, 1), (4, 2), (8, 1)):
        shares = [problem.share(8, rank, ranks, threads) for rank in range(ranks)]
        assert torch.equal(
            torch.cat([each.sum_losses_and_gradients(theta) for each in shares]),
            share.sum_losses_and_gradients(theta),
        )
        assert torch.equal(
            torch.cat([each.multiply_hessians(theta, v) for each in shares]),
            share.multiply_hessians(theta, v),
        )
        assert torch.equal(
            torch.cat([s.sum_losses(theta) for s in shares]), share.sum_losses(theta)
        )


def test_a_finite_sum_is_what_it_says_it_is():
    share = tiny_problem().share(8, 0, 1, 1)
    assert isinstance(share, FiniteSumLoss)
    objective = objective_of(tiny_problem())
    assert objective.has_subsets and not objective.has_residuals


def test_sigmoid_outputs_keep_the_loss_above_its_floor():
    """The best outputs are 1 for the right class and 0 for the nine others: ln(1 + 9/e)."""
    floor = math.log(1 + 9 / math.e)
    problem = tiny_problem(output="sigmoid")
    losses = [
        objective_of(problem).evaluate(100 * theta_of(problem, seed)).loss for seed in range(5)
    ]
    assert min(losses) > floor == pytest.approx(1.461, abs=1e-3)


def test_training_samples_are_permuted_by_the_seed_and_scaled_by_their_statistics():
    problem = tiny_problem(seed=1)
    chunks = problem.share(8, 0, 1, 1)._chunks
    inputs = torch.cat([chunk.inputs for chunk in chunks])
    assert float(inputs.mean()) == pytest.approx(0, abs=1e-12)
    assert float(inputs.square().mean()) == pytest.approx(1, abs=1e-12)
    order = problem._order
    assert sorted(order) == list(range(53)) and not np.array_equal(order, np.arange(53))
    assert np.array_equal(order, tiny_problem(seed=1)._order)
    assert not np.array_equal(order, tiny_problem(seed=2)._order)


def test_accuracy_counts_the_test_samples_whose_largest_output_is_right():
    problem = tiny_problem(train_accuracy=True)
    monitor = problem.make_monitor(Communicator(), 8, 1)
    theta = theta_of(problem)
    values = monitor.measure(theta)
    replica = problem.network.replica(torch.float64)
    replica.load(theta, 0)
    for name, part in (("train", problem.data.train), ("test", problem.data.test)):
        inputs = problem.scaling(part.rows(np.arange(part.count)), np.dtype("f8"))
        guesses = replica.run(torch.from_numpy(inputs), 0).argmax(dim=1).numpy()
        assert values[f"{name}_accuracy"] == (guesses == part.labels).mean()
    assert tuple(values) == monitor.columns
    assert values["train_loss"] == pytest.approx(direct_loss(problem, theta)[0], rel=1e-12)


def test_accuracy_on_some_test_samples_counts_these_alone():
    problem = tiny_problem(test_samples=7)
    theta, tested, part = theta_of(problem), problem._tested, problem.data.test
    assert len(set(tested)) == 7 and not np.array_equal(tested, np.arange(7))
    assert not np.array_equal(tested, tiny_problem(test_samples=7, seed=1)._tested)
    probabilities = torch.tensor(problem.make_classifier(theta)(part.rows(tested)))
    labels = torch.tensor(part.labels[tested], dtype=torch.int64)
    values = problem.make_monitor(Communicator(), 8, 1).measure(theta)
    assert values["test_accuracy"] == (probabilities.argmax(1) == labels).double().mean()
    expected = -probabilities[range(7), labels].log().mean()
    assert values["test_loss"] == pytest.approx(float(expected), rel=1e-12)


def test_outputs_that_do_not_fit_the_classes_are_refused():
    with pytest.raises(
        InputError, match=r"^net: outputs of shape \(4,\), but tiny has 10 classes$"
    ):
        tiny_problem(make=lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 4)))
    with pytest.raises(InputError, match=r"problem.samples = 54 is not allowed: tiny has 53"):
        tiny_problem(samples=54)
    with pytest.raises(InputError, match=r"problem.test_samples = 21 is not allowed: tiny has 20"):
        tiny_problem(test_samples=21)


def test_initial_parameters_depend_on_the_seed_alone_and_leave_torchs_generator_alone():
    def make():
        return nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES))

    one, other = (ModuleNetwork(name, make, (1, 6, 6)) for name in "ab")
    assert torch.equal(one.make_initial_parameters(3), other.make_initial_parameters(3))
    assert not torch.equal(one.make_initial_parameters(3), one.make_initial_parameters(4))
    state = torch.get_rng_state()
    one.make_initial_parameters(3)
    assert torch.equal(torch.get_rng_state(), state)
