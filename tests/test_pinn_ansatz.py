"""The ansatz: conditions hold exactly, and its jets are those of the function G₀ + len·N."""

import math

import pytest
import torch

from hpctrain.problems.equations import PDE, NotSmoothError, ProblemError
from hpctrain.problems.equations.ansatz import Ansatz, jets
from hpctrain.problems.equations.checks.guard import guard
from hpctrain.problems.equations.library.burgers import Burgers
from hpctrain.problems.equations.points import grid_points, hammersley_points


class Wave(PDE):
    """Second order in both coordinates, and a lifting that is a constant."""

    name = "wave"
    coordinates = ("t", "x")
    domain = ((0.0, 12.0), (-1.0, 1.0))
    orders = (2, 2)

    def lifting(self, points):
        return torch.full_like(points[0], 2.0)

    def distance(self, points):
        t, x = points
        return t**2 * (1 - x**2)

    def residual(self, points, u):
        return u.tt - u.xx


class Transport(Wave):
    """First order in one coordinate, none in the other, a lifting linear in both."""

    name = "transport"
    orders = (0, 1)

    def lifting(self, points):
        t, x = points
        return t + 3 * x


class Solid(Wave):
    """Three coordinates, the middle one of order zero."""

    name = "solid"
    coordinates = ("t", "x", "y")
    domain = ((0.0, 1.0),) * 3
    orders = (1, 0, 2)
    test_grid = (3, 3, 3)

    def lifting(self, points):
        t, x, y = points
        return torch.exp(t * x * y)

    def distance(self, points):
        return (points * (1 - points)).prod(dim=0)


EQUATIONS = [Burgers, Wave, Transport, Solid]


def smooth(points):
    """A stand-in for a network, no polynomial and not separable."""
    return torch.sin(3.0 * points[0]) * torch.cos(2.0 * points[-1]) + (points.sum(dim=0) / 5).exp()


def nested_derivatives(function, points, orders):
    """Every derivative by autograd of its own leaf coordinates, one at a time."""
    rows = [row.clone().requires_grad_() for row in points]
    value = function(torch.stack(rows))

    def derivative(f, row):
        return torch.autograd.grad(f.sum(), row, create_graph=True)[0]

    first = [derivative(value, rows[i]) for i, order in enumerate(orders) if order >= 1]
    second = [
        derivative(derivative(value, rows[i]), rows[i]) for i, o in enumerate(orders) if o == 2
    ]
    return torch.stack([value, *first, *second]).detach()


@pytest.mark.parametrize("equation", EQUATIONS)
def test_jets_equal_nested_autograd_of_the_composed_function(equation):
    pde = equation()
    points = hammersley_points(pde.domain, 300)
    expected = nested_derivatives(
        lambda p: pde.lifting(p) + pde.distance(p) * smooth(p), points, pde.orders
    )
    ansatz = Ansatz(pde, points)
    computed = ansatz.apply(jets(smooth, points, pde.orders))
    assert computed.dtype == torch.float64
    scale = expected.abs().amax(dim=1, keepdim=True).clamp(min=1)
    assert ((computed - expected).abs() / scale).max() < 1e-12
    torch.testing.assert_close(ansatz.apply_to_values(smooth(points)), computed[0])


def test_burgers_initial_and_boundary_conditions_hold_exactly_for_any_network():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    x = torch.linspace(-1, 1, 21, dtype=torch.float64)
    network = 1e3 * torch.randn(21, dtype=torch.float64)
    initial = Ansatz(Burgers(), torch.stack([torch.zeros_like(x), x]))
    assert torch.equal(initial.apply_to_values(network), -torch.sin(math.pi * x))
    for end in (-1.0, 1.0):
        boundary = Ansatz(Burgers(), torch.stack([t, torch.full_like(t, end)]))
        # sin π is 1.2e-16 in floating point; the network contributes nothing at all.
        assert boundary.apply_to_values(network[:11]).abs().max() < 2e-16


def test_jets_of_constant_and_linear_functions_have_zero_derivatives():
    points = hammersley_points(((0.0, 1.0), (0.0, 1.0)), 7)
    constant = jets(lambda p: torch.ones(7), points, (2, 2))
    assert torch.equal(constant, torch.tensor([1.0, 0, 0, 0, 0]).double()[:, None].expand(5, 7))
    linear = jets(lambda p: 3 * p[1], points, (2, 2))
    slopes = torch.tensor([0.0, 3, 0, 0]).double()[:, None].expand(4, 7)
    assert torch.equal(linear[1:], slopes)


def test_jets_are_computed_where_gradients_are_switched_off():
    points = hammersley_points(((0.0, 1.0), (0.0, 1.0)), 7)
    with torch.no_grad():
        assert torch.equal(jets(smooth, points, (1, 2)), jets(smooth, points, (1, 2)).detach())
        assert jets(smooth, points, (1, 2))[1].abs().max() > 0


@pytest.mark.parametrize(("equation", "maximum"), [(Burgers, 1.0), (Wave, 144.0), (Solid, 1 / 64)])
def test_scaled_distance_is_divided_by_its_maximum_over_the_domain(equation, maximum):
    pde = equation()
    points = hammersley_points(pde.domain, 5)
    network = jets(smooth, points, pde.orders)
    zero = torch.zeros_like(network)
    scaled, plain = Ansatz(pde, points, scale_distance=True), Ansatz(pde, points)
    torch.testing.assert_close(
        maximum * (scaled.apply(network) - scaled.apply(zero)),
        plain.apply(network) - plain.apply(zero),
    )


@pytest.mark.parametrize("equation", EQUATIONS)
def test_apply_has_the_right_first_and_second_derivatives_in_the_network(equation):
    pde = equation()
    points = hammersley_points(pde.domain, 3)
    ansatz = Ansatz(pde, points)
    network = jets(smooth, points, pde.orders).requires_grad_()
    assert torch.autograd.gradcheck(lambda n: ansatz.apply(n), network)
    assert torch.autograd.gradgradcheck(lambda n: ansatz.apply(n) ** 2, network)


def test_a_lifting_of_the_wrong_shape_is_named():
    class Scalar(Burgers):
        def lifting(self, points):
            return 0.0

    with pytest.raises(ProblemError, match=r"Scalar\.lifting returned a value of type float: "):
        Ansatz(guard(Scalar()), grid_points(Burgers.domain, (2, 3)))


def test_a_distance_with_an_infinite_derivative_is_named_with_the_point():
    class Root(Burgers):
        def distance(self, points):
            return torch.sqrt(points[0])

    with pytest.raises(NotSmoothError, match=r"Root\.distance.*not finite at the point \[0\.0, -1"):
        Ansatz(Root(), grid_points(Burgers.domain, (2, 3)))


def test_a_distance_that_is_nowhere_positive_cannot_be_scaled():
    class Flat(Burgers):
        def distance(self, points):
            return torch.zeros_like(points[0])

    with pytest.raises(ProblemError, match=r"burgers: the largest distance in the domain is 0\.0"):
        Ansatz(Flat(), grid_points(Burgers.domain, (2, 3)), scale_distance=True)
