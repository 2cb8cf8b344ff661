"""Networks beside each other: one program over the outputs of all, each with inputs of its own."""

from itertools import pairwise

import pytest
import torch

from hpctrain.kernels import (
    JetShape,
    TorchJets,
    is_native_available,
    make_jet_evaluator,
    make_joint_evaluator,
)
from hpctrain.kernels.jets import make_input_jets
from hpctrain.kernels.joint import JointJets
from hpctrain.kernels.residual import TorchResidual, make_residual_loss
from hpctrain.networks.dense import DenseNetwork
from hpctrain.networks.joint import JointNetwork

BOUNDS = [0, 1, 7, 16]
needs_native = pytest.mark.skipif(not is_native_available(), reason="native kernels are not built")
# Of two coordinates (t, x), the second network takes x alone.
TAKEN = ([0, 1], [1])
HEAT = JetShape.make_closed(2, [(0,), (1, 1)])
MIXED = JetShape.make_closed(2, [(0, 1), (1, 1, 1)])
Q = 1


def joint(**options):
    return JointNetwork.join(
        [
            DenseNetwork(2, 6, 4, outputs=2, adaptive=True, **options),
            DenseNetwork(1, 6, 4, outputs=1, adaptive=True, **options),
        ]
    )


def points():
    return torch.rand(2, BOUNDS[-1], generator=torch.Generator().manual_seed(1)).double() * 2 - 1


def heat(jet, unknowns):
    u, v, a = ([component[o] for component in jet] for o in range(3))
    (rate,) = unknowns
    return u[1] - a[0] * u[3] - a[2] * u[2] - rate * v[0], v[1] * a[0] + rate.exp() * a[1]


def mixed(jet, unknowns):
    u, v, a = ([component[o] for component in jet] for o in range(3))
    return u[3] * a[2] - unknowns[0] * v[5], a[5] * u[4] + v[0] ** 2


CASES = {
    "compiled": (HEAT, heat, {"residual": True, "time_step": 0.3}),
    "by lists": (MIXED, mixed, {"activation": "sin"}),
}


class Case:
    def __init__(self, name):
        self.shape, self.residual, options = CASES[name]
        self.network = joint(**options)
        theta = 1.3 * self.network.make_initial_parameters(seed=2)
        self.theta = torch.cat([theta, torch.tensor([0.3]).double()])
        whole = make_input_jets(self.shape, points())
        self.inputs = [whole[:, taken] for taken in TAKEN]
        theta = self.theta.clone().requires_grad_()
        r = self.by_autograd(theta)
        rows = (torch.autograd.grad(each, theta, retain_graph=True)[0] for each in r.T.flatten())
        self.r, self.J = r.detach(), torch.stack(list(rows))

    def evaluator(self, make, bounds=BOUNDS, threads=1):
        if make == "native":
            return make_joint_evaluator(
                self.network, self.shape, points(), bounds, threads, self.inputs
            )
        kind = TorchJets if make == "torch" else make_jet_evaluator
        pairs = zip(self.network.parts, self.inputs, strict=True)
        parts = [kind(part, self.shape, points(), bounds, inputs=own) for part, own in pairs]
        return JointJets(self.network, parts)

    def by_autograd(self, theta):
        """r (m, N), differentiable, by nested autograd of the networks in plain torch."""
        x = points().requires_grad_()
        jet = []
        values = self.network(theta, [x[taken] for taken in TAKEN])
        for index in self.shape.indices:
            by_output = []
            for value in values:
                for i in index:
                    value = torch.autograd.grad(value.sum(), x, create_graph=True)[0][i]
                by_output.append(value)
            jet.append(torch.stack(by_output))
        return torch.stack(self.residual(jet, theta[-Q:].unbind()))


@pytest.fixture(params=CASES, scope="module")
def case(request):
    return Case(request.param)


@pytest.fixture(params=[pytest.param("native", marks=needs_native), "torch",
                        pytest.param("one after the other", marks=needs_native)])  # fmt: skip
def loss(case, request):
    evaluator = case.evaluator(request.param)

    def choose(chosen):
        return case.residual, len(chosen)

    made = make_residual_loss(evaluator, case.residual, torch.float64, Q, choose=choose)
    assert isinstance(made, TorchResidual) == (request.param != "native")
    assert made.untraced is None
    return made


def close(found, expected):
    expected = expected.detach()
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11 * scale)


def test_parameters_stand_layer_by_layer_without_gaps(case):
    layers = case.network.layers
    places = [
        place
        for depth in range(case.network.depth)
        for part in case.network.parts
        for place in range(part.layers[depth].start, part.layers[depth].stop)
    ]
    assert places == list(range(case.network.parameters))
    assert all(below.stop == above.start for below, above in pairwise(layers))


def test_losses_and_gradients_are_those_of_nested_autograd(case, loss):
    r, J = case.r.T.flatten(), case.J
    close(loss.evaluate_residuals(case.theta), r)
    leaves = loss.sum_losses_and_gradients(case.theta, 0, case.network.depth - 1, None)
    assert leaves.shape == (len(BOUNDS) - 1, 1 + len(case.theta))
    for leaf, (start, stop) in zip(leaves, pairwise(BOUNDS), strict=True):
        own = slice(2 * start, 2 * stop)
        close(leaf[0], r[own].square().sum())
        close(leaf[1:], 2 * J[own].T @ r[own])
    close(loss.sum_losses(case.theta, 0, None), leaves[:, 0])


@pytest.mark.parametrize(("first", "last"), [(1, 2), (2, 3)])
def test_gradients_of_some_layers_are_parts_of_the_whole_one(case, loss, first, last):
    depth, layers = case.network.depth, case.network.layers
    whole = loss.sum_losses_and_gradients(case.theta, 0, depth - 1, None)
    below = loss.jets.evaluate_prefix(case.theta, first) if first else None
    part = loss.sum_losses_and_gradients(case.theta, first, last, below)
    stop = len(case.theta) if last == depth - 1 else layers[last].stop
    close(part[:, 0], whole[:, 0])
    close(part[:, 1:], whole[:, 1 + layers[first].start : 1 + stop])


def test_products_with_the_jacobian_are_those_of_autograd(case, loss):
    r, J = case.r, case.J
    draw = torch.Generator().manual_seed(5)
    v, w = (torch.randn(n, generator=draw).double() for n in (len(case.theta), len(J)))
    rows = loss.evaluate_jacobian(case.theta, 1, 3)
    close(rows, torch.cat([r.T.reshape(-1, 1), J], dim=1)[2 * BOUNDS[1] :])
    close(loss.multiply_jacobian(case.theta, v), J @ v)
    close(loss.pull_back(case.theta, w).sum(0), J.T @ w)
    close(loss.multiply_gauss_newton_chunks(case.theta, v).sum(0), J.T @ (J @ v))


def test_some_points_and_other_chunks_have_the_rows_of_all(case, loss):
    chosen = torch.tensor([0, 5, 6, 12, 15])
    part = loss.select(chosen, [0, 2, 2, 5])
    rows = loss.evaluate_residuals(case.theta).reshape(-1, 2)
    close(part.evaluate_residuals(case.theta).reshape(-1, 2), rows[chosen])
    other = loss.regroup([0, 9, 16])
    close(other.sum_losses(case.theta, 0, None).sum(), rows.square().sum())


@needs_native
def test_bits_do_not_depend_on_threads_or_on_what_else_a_rank_holds(case):
    losses = [
        make_residual_loss(case.evaluator("native", threads=k), case.residual, torch.float64, Q)
        for k in (1, 2)
    ]
    one, two = (
        each.sum_losses_and_gradients(case.theta, 0, case.network.depth - 1, None)
        for each in losses
    )
    assert torch.equal(one, two)
    part = losses[0].select(torch.arange(1, 16), [0, 6, 15])
    found = part.sum_losses_and_gradients(case.theta, 0, case.network.depth - 1, None)
    assert torch.equal(found, one[1:])


def test_a_coordinate_that_a_network_does_not_take_has_derivatives_that_are_zero(case, loss):
    jets = loss.jets.forward(case.theta, keep=False)
    along_t = [k for k, index in enumerate(case.shape.indices) if 0 in index]
    assert along_t and not jets[along_t, 2].any()
    assert jets[along_t, 0].all()
