"""Systems of residuals with unknowns: several outputs, results and scalars, traced and in torch."""

from itertools import pairwise

import pytest
import torch

from hpctrain.kernels import JetShape, TorchJets, is_native_available, make_jet_evaluator
from hpctrain.kernels.residual import OF_GROUPS, TorchResidual, make_residual_loss
from hpctrain.networks.dense import DenseNetwork

BOUNDS = [0, 1, 13, 40, 73]
NETWORK = DenseNetwork(2, 8, 4, outputs=3, adaptive=True)
NAVIER_STOKES = JetShape.make_closed(2, [(0, 0), (1, 1)])
PLATE = JetShape.make_closed(2, [(0, 0, 0, 0), (0, 0, 1, 1), (1, 1, 1, 1)])
needs_native = pytest.mark.skipif(not is_native_available(), reason="native kernels are not built")


def points():
    return torch.rand(2, BOUNDS[-1], generator=torch.Generator().manual_seed(1)).double() * 2 - 1


X, Y = points()


def fields(jet, shape):
    """Of each output its derivatives by their names: "", "x", "xy"."""
    names = ["".join("xy"[i] for i in index) for index in shape.indices]
    return [dict(zip(names, (u[o] for u in jet), strict=True)) for o in range(3)]


def navier_stokes(jet, unknowns):
    """Momentum twice, and continuity; the viscosity and a force are unknown."""
    u, v, p = fields(jet, NAVIER_STOKES)
    nu, force = unknowns
    return (
        u[""] * u["x"] + v[""] * u["y"] + p["x"] - nu * (u["xx"] + u["yy"]) - force.exp() * X,
        u[""] * v["x"] + v[""] * v["y"] + p["y"] - nu * (v["xx"] + v["yy"]),
        u["x"] + v["y"],
    )


def plate(jet, unknowns):
    """A biharmonic equation with an unknown stiffness, and a second residual without one."""
    u, v, w = fields(jet, PLATE)
    (stiffness,) = unknowns
    bend = u["xxxx"] + 2 * u["xxyy"] + u["yyyy"]
    return stiffness * bend - v[""] * torch.sin(X), w["xy"] * v["xxx"] + u[""] ** 2


CASES = {
    "Navier-Stokes": (NAVIER_STOKES, navier_stokes, [0.3, -0.4]),
    "plate": (PLATE, plate, [1.7]),
}


class Case:
    """A residual in torch on torch's jets (the reference), and in other combinations."""

    def __init__(self, name):
        self.shape, self.residual, unknowns = CASES[name]
        self.q = len(unknowns)
        theta = 1.2 * NETWORK.make_initial_parameters(seed=2)
        self.theta = torch.cat([theta, torch.tensor(unknowns).double()])
        self.reference = self.in_torch(TorchJets(NETWORK, self.shape, points(), BOUNDS))

    def in_torch(self, jets):
        return TorchResidual(jets, self.residual, self.q)

    def native(self, threads=1, bounds=BOUNDS):
        return make_jet_evaluator(NETWORK, self.shape, points(), bounds, threads)

    def fused(self, threads=1):
        loss = make_residual_loss(self.native(threads), self.residual, torch.float64, self.q)
        assert loss.untraced is None and not isinstance(loss, TorchResidual)
        return loss

    def by_autograd(self, theta):
        """r (m, N) at θ (n + q,), differentiable, by nested autograd of the definition."""
        x = points().requires_grad_()
        jet = []
        values = NETWORK(theta, x)
        for index in self.shape.indices:
            by_output = []
            for value in values:
                for i in index:
                    (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=True)
                    value = gradient[i]
                by_output.append(value)
            jet.append(torch.stack(by_output))
        return torch.stack(self.residual(jet, theta[NETWORK.parameters :].unbind()))


@pytest.fixture(params=CASES)
def case(request):
    return Case(request.param)


@pytest.fixture(params=[pytest.param("fused", marks=needs_native), "torch",
                        pytest.param("residual in torch", marks=needs_native)])  # fmt: skip
def loss(case, request):
    if request.param == "fused":
        return case.fused()
    return case.reference if request.param == "torch" else case.in_torch(case.native())


def close(found, expected, tolerance=1e-11):
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(found, expected.detach(), rtol=tolerance, atol=tolerance * scale)


def test_losses_and_gradients_are_those_of_nested_autograd(case, loss):
    theta = case.theta.clone().requires_grad_()
    r = case.by_autograd(theta)
    close(loss.evaluate_residuals(case.theta), r.T.flatten())
    leaves = loss.sum_losses_and_gradients(case.theta, 0, NETWORK.depth - 1, None)
    assert leaves.shape == (len(BOUNDS) - 1, 1 + len(theta))
    for leaf, (start, stop) in zip(leaves, pairwise(BOUNDS), strict=True):
        part = r[:, start:stop].square().sum()
        (gradient,) = torch.autograd.grad(part, theta, retain_graph=True)
        close(leaf[:1], part[None])
        close(leaf[1:], gradient)
    close(loss.sum_losses(case.theta, 0, None), leaves[:, 0])


def test_the_jacobian_and_products_with_it_are_those_of_nested_autograd(case, loss):
    theta = case.theta.clone().requires_grad_()
    r = case.by_autograd(theta).T.flatten()
    m = len(r) // BOUNDS[-1]
    start, stop = m * BOUNDS[1], m * BOUNDS[3]
    rows = loss.evaluate_jacobian(case.theta, 1, 3)
    assert rows.shape == (stop - start, 1 + len(theta))
    close(rows[:, 0], r[start:stop])
    for row in (0, 1, m, 17, stop - start - 1):
        (gradient,) = torch.autograd.grad(r[start + row], theta, retain_graph=True)
        close(rows[row, 1:], gradient)
    generator = torch.Generator().manual_seed(5)
    v = torch.randn(len(theta), generator=generator, dtype=torch.float64)
    close(
        loss.multiply_jacobian(case.theta, v), loss.evaluate_jacobian(case.theta, 0, 4)[:, 1:] @ v
    )
    w = torch.randn(len(r), generator=generator, dtype=torch.float64)
    close(loss.pull_back(case.theta, w).sum(0), torch.autograd.grad(r, theta, w)[0])
    by_chunk = loss.multiply_gauss_newton_chunks(case.theta, v)
    for chunk in range(4):
        J = loss.evaluate_jacobian(case.theta, chunk, chunk + 1)[:, 1:]
        close(by_chunk[chunk], J.T @ (J @ v))


def test_a_suffix_has_its_own_columns_and_those_of_the_unknowns_if_wanted(case, loss):
    whole = loss.sum_losses_and_gradients(case.theta, 0, NETWORK.depth - 1, None)
    layers, n = NETWORK.layers, NETWORK.parameters
    for first in range(1, NETWORK.depth):
        activations = loss.jets.evaluate_prefix(case.theta, first)
        for last in range(first, NETWORK.depth):
            for wanted in (None, True, False):
                found = loss.sum_losses_and_gradients(
                    case.theta, first, last, activations, unknowns_wanted=wanted
                )
                parts = [whole[:, :1], whole[:, 1 + layers[first].start : 1 + layers[last].stop]]
                if wanted or (wanted is None and last == NETWORK.depth - 1):
                    parts.append(whole[:, 1 + n :])
                close(found, torch.cat(parts, dim=1))


def test_groups_of_chunks_have_the_gradients_of_their_points(case, loss):
    """Empty ones among them, whose gradients are zero, also for the unknowns."""
    weights = torch.linspace(-1, 1, len(loss.evaluate_residuals(case.theta))).double()
    bounds = [0, 0, 20, 20, BOUNDS[-1], BOUNDS[-1]]
    found = loss.regroup(bounds).pull_back(case.theta, weights)
    assert found.shape == (5, len(case.theta))
    assert not bool(found[[0, 2, 4]].any())
    close(found.sum(0), loss.pull_back(case.theta, weights).sum(0))


@needs_native
def test_fused_systems_have_the_same_bits_on_any_number_of_threads(case):
    v = torch.ones_like(case.theta)
    weights = torch.ones_like(case.reference.evaluate_residuals(case.theta))
    for one, other in zip(
        *(
            (
                loss.sum_losses_and_gradients(case.theta, 0, NETWORK.depth - 1, None),
                loss.evaluate_jacobian(case.theta, 0, 4),
                loss.multiply_jacobian(case.theta, v),
                loss.pull_back(case.theta, weights),
                loss.multiply_gauss_newton_chunks(case.theta, v),
            )
            for loss in (case.fused(1), case.fused(3))
        ),
        strict=True,
    ):
        assert torch.equal(one, other)


@needs_native
@pytest.mark.parametrize("count", [1, 8, 9, 16, 17, 32])
def test_bits_of_a_sum_do_not_depend_on_how_long_its_tile_is(case, count):
    """A chunk of few points against one that holds others too, which have no weight."""
    results = len(case.reference.evaluate_residuals(case.theta)) // BOUNDS[-1]
    weights = torch.zeros(BOUNDS[-1], results).double()
    weights[:count] = torch.linspace(-1, 2, count * results).double().reshape(count, results)
    found = [
        case.fused().regroup(bounds).pull_back(case.theta, weights.flatten())[0]
        for bounds in ([0, count, BOUNDS[-1]], [0, BOUNDS[-1]])
    ]
    assert torch.equal(*found)


@needs_native
def test_float32_agrees_to_its_precision(case):
    evaluator = make_jet_evaluator(NETWORK, case.shape, points().float(), BOUNDS)
    single = make_residual_loss(evaluator, case.residual, torch.float32, case.q)
    last = NETWORK.depth - 1
    found = single.sum_losses_and_gradients(case.theta.float(), 0, last, None)
    assert found.dtype == torch.float32
    close(found.double(), case.fused().sum_losses_and_gradients(case.theta, 0, last, None), 1e-4)


@needs_native
def test_what_is_infinite_in_one_residual_stays_out_of_the_others_rows():
    shape = JetShape.make_closed(2, [])
    evaluator = make_jet_evaluator(NETWORK, shape, points(), BOUNDS)
    theta = NETWORK.make_initial_parameters(0)
    values = evaluator.forward(theta, keep=False)[0]
    roots = make_residual_loss(
        evaluator, lambda u, _: ((u[0][0] - values[0]).sqrt(), u[0][1]), torch.float64
    )
    rows = roots.evaluate_jacobian(theta, 0, 4)
    assert not bool(rows[0::2].isfinite().all())
    assert bool(rows[1::2].isfinite().all())


GROUP = 3
SAMPLES = [0, 2, 7, 9]


def periodic(jet, unknowns):
    """Of three points each: a jump between two of them, and a sum by an unknown quadrature."""
    (weight,) = unknowns
    assert jet.shape[2:] == (GROUP, SAMPLES[-1])
    value, slope = jet[0], jet[1]
    return value[0, 0] - value[0, 2], weight * slope[1].sum(0) + value[2].prod(0)


@pytest.mark.parametrize("make", [pytest.param(make_jet_evaluator, marks=needs_native), TorchJets])
def test_residuals_of_groups_read_the_jets_of_their_own_points(make):
    """Against autograd: sample j owns points 3j, 3j + 1, 3j + 2."""
    shape, count = JetShape.make_closed(2, [(0,)]), GROUP * SAMPLES[-1]
    own, bounds = points()[:, :count], [GROUP * bound for bound in SAMPLES]
    loss = make_residual_loss(
        make(NETWORK, shape, own, bounds), periodic, torch.float64, unknowns=1, group=GROUP
    )
    assert loss.untraced == (OF_GROUPS if make is make_jet_evaluator else None)
    theta = torch.cat([NETWORK.make_initial_parameters(3), torch.tensor([0.7]).double()])

    def residuals(theta):
        x = own.clone().requires_grad_()
        values = NETWORK(theta, x)
        slopes = [torch.autograd.grad(u.sum(), x, create_graph=True)[0][0] for u in values]
        jet = torch.stack([values, torch.stack(slopes)])
        by_sample = torch.stack([jet[:, :, i::GROUP] for i in range(GROUP)], dim=2)
        return torch.stack(periodic(by_sample, theta[-1:])).T.flatten()

    at = theta.clone().requires_grad_()
    r = residuals(at)
    J = torch.stack([torch.autograd.grad(each, at, retain_graph=True)[0] for each in r])
    close(loss.evaluate_residuals(theta), r)
    leaves = loss.sum_losses_and_gradients(theta, 0, NETWORK.depth - 1, None)
    close(leaves.sum(0)[0], r.square().sum())
    close(leaves.sum(0)[1:], 2 * J.T @ r.detach())
    close(leaves[1, 0], r[4:14].square().sum())
    close(loss.evaluate_jacobian(theta, 1, 2), torch.cat([r[4:14, None], J[4:14]], dim=1))
    v = torch.linspace(-1, 1, len(theta)).double()
    close(loss.multiply_jacobian(theta, v), J @ v)
    close(loss.pull_back(theta, torch.ones_like(r.detach())).sum(0), J.sum(0))
    cut = loss.regroup([0, 4, 9])
    close(cut.sum_losses(theta, 0, None)[0], r[:8].square().sum())
