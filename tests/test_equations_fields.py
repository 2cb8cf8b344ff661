"""Fields in arithmetic, their derivatives by name, products with distances, and exact forms."""

import math
from itertools import combinations_with_replacement

import pytest
import torch

from hpctrain.kernels.jets import JetShape
from hpctrain.problems.equations import (
    At,
    Box,
    Dirichlet,
    Disk,
    Equations,
    Field,
    Initial,
    Polygon,
    ProblemError,
)
from hpctrain.problems.equations.ansatz import Form, evaluate_jets, splits
from hpctrain.problems.equations.conditions.base import place_points_on
from hpctrain.problems.equations.exact import describe_corners, make_exact_forms
from hpctrain.problems.equations.fields import LAPLACIAN, Axes
from hpctrain.problems.equations.geometry.sampling import place_interior_points

AXES = Axes(("t", "x", "y"), ("nu",))


def field(values):
    return Field("u", AXES, lambda index: values[index])


def test_derivatives_are_named_in_any_order_of_their_coordinates():
    values = {(0, 1, 1): 1.0, (): 2.0, LAPLACIAN: 3.0}
    u = field(values)
    assert u.txx == u.xtx == u.xxt == 1 and u.value == 2 and u.laplacian == 3


def test_names_of_several_letters_are_read_in_one_way():
    axes = Axes(("x1", "x10", "t"))
    assert axes.index("x1x10") == (0, 1) and axes.index("x10x1t") == (0, 1, 2)
    assert axes.index("x2") is None and axes.index("x1x") is None
    assert axes.derivative((0, 1)) == "x1x10"


def test_a_field_is_its_value_in_arithmetic_and_in_torch():
    v = torch.tensor([0.5, 2.0], dtype=torch.float64)
    u = field({(): v, (1,): 3 * v})
    cases = [
        (u + 1, v + 1),
        (2 - u, 2 - v),
        (u * u.x, 3 * v * v),
        (1 / u, 1 / v),
        (u**2, v**2),
        (2**u, 2**v),
        (-u, -v),
        (abs(-1 * u), v),
        (v * u, v * v),
        (torch.sin(u), torch.sin(v)),
        (torch.stack([u, u]), torch.stack([v, v])),
        (u.exp(), v.exp()),
        (torch.where(u > 1, u, 0.0), torch.where(v > 1, v, 0.0)),
        (u - u, 0 * v),
    ]
    for found, expected in cases:
        assert torch.equal(found, expected)


def test_the_normal_derivative_is_the_sum_along_the_normals():
    normals = torch.tensor([[0.0, 0.0], [0.6, 0.0], [0.8, -1.0], [0.0, 0.0]], dtype=torch.float64)
    slopes = {
        (0,): torch.tensor([9.0, 9.0]).double(),
        (1,): torch.tensor([2.0, 3.0]).double(),
        (2,): torch.tensor([5.0, 7.0]).double(),
    }
    u = Field("u", AXES, lambda index: slopes[index], normals)
    assert torch.allclose(u.normal, torch.tensor([0.6 * 2 + 0.8 * 5, -7.0]).double())


@pytest.mark.parametrize(
    "name, said",
    [
        ("z", "u.z does not exist: derivatives along t, x, y"),
        ("xxxxx", "up to order 4"),
        ("xnu", "u.xnu does not exist"),
        ("normal", "u.normal is not known here: there are normals on pieces of the boundary"),
    ],
)
def test_what_a_field_has_not_is_named(name, said):
    with pytest.raises(AttributeError, match=said.replace(".", r"\.")):
        getattr(field({}), name)


def test_points_have_their_coordinates_by_name_and_number():
    points = torch.arange(8.0).reshape(4, 2)
    at = At(AXES, points)
    assert torch.equal(at.x, points[1]) and torch.equal(at[3], at.nu) and len(at) == 4
    t, x, _, _ = at
    assert torch.equal(t + x, points[0] + points[1]) and torch.equal(at.all, points)
    with pytest.raises(AttributeError, match=r"at\.z does not exist: at has t, x, y, nu"):
        _ = at.z


def test_splits_are_the_terms_of_leibniz_rule():
    for index in [(), (0,), (0, 1), (1, 1), (0, 1, 1), (0, 0, 1, 1), (1, 1, 1, 1)]:
        found = splits(index)
        assert sum(ways for ways, _, _ in found) == 2 ** len(index)
        assert all(tuple(sorted(beta + rest)) == index for _, beta, rest in found)
    assert splits((1, 1))[2] == (2, (1,), (1,))


def lifting(x):
    return torch.exp(x[0]) * torch.sin(2 * x[1]) + x[2] ** 3


def distance(x):
    return torch.cos(x[0] * x[1]) + x[1] ** 4 * x[2]


def network(x):
    return torch.sin(x[0] + 2 * x[1]) * torch.exp(x[1] * x[2])


def test_a_form_has_the_derivatives_of_the_product_to_order_four():
    points = torch.rand(3, 7, dtype=torch.float64, generator=torch.manual_seed(0))
    indices = [
        index for order in range(5) for index in combinations_with_replacement(range(3), order)
    ]
    components = [*indices, LAPLACIAN]
    space = (1, 2)
    G, D, N, u = (
        evaluate_jets(f, points, components, space, "")
        for f in (lifting, distance, network, lambda x: lifting(x) + distance(x) * network(x))
    )
    form = Form(G, D, space)
    for component in components:
        assert torch.allclose(form.component(component, N.__getitem__), u[component], rtol=1e-12)


class Stated(Equations):
    """u_t = u_xx + u_yy, with what a test adds."""

    geometry = Box(t=(0, 1), x=(0, 2), y=(0, 1))

    def residuals(self, at, u):
        return u.t - u.xx - u.yy


def stated(*conditions, geometry=Stated.geometry):
    return type("Mine", (Stated,), {"conditions": conditions, "geometry": geometry})()


def sine(at):
    return torch.sin(math.pi * at.x) * at.y * (1 - at.y)


def slope(at):
    return at.x * (2 - at.x) * at.y * (1 - at.y) * (1 + at.t)


FORMS = {
    "zero": [Dirichlet({"u": 0.0}, exact=True)],
    "initial": [Initial({"u": sine}, exact=True)],
    "both": [Initial({"u": sine}, exact=True), Dirichlet({"u": 0.0}, exact=True)],
    "with a rate": [
        Initial({"u": sine, "u.t": slope}, exact=True),
        Dirichlet({"u": 0}, exact=True),
    ],
    "moving sides": [
        Initial({"u": lambda at: at.x}, exact=True),
        Dirichlet({"u": lambda at: at.x * torch.cos(at.t)}, exact=True),
    ],
    "two sides": [
        Dirichlet({"u": lambda at: torch.sin(at.t)}, on="x.low", exact=True),
        Dirichlet({"u": lambda at: 1 + at.t}, on=lambda at: at.x == 2, exact=True),
    ],
}
SPACES = {
    "disk": Box(t=(0, 1)) * Disk(center=(1, 1), radius=1),
    "polygon": Box(t=(0, 1)) * Polygon([(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)]),
    "hole": Box(t=(0, 1)) * (Box(x=(0, 2), y=(0, 2)) - Disk(center=(1, 1), radius=0.5)),
    "union": Box(t=(0, 1)) * (Box(x=(0, 2), y=(0, 1)) | Disk(center=(1, 1), radius=0.5)),
}


def misses(equations, values):
    """By how much u = G + D·N misses each condition, for two functions N."""
    form = make_exact_forms(equations)["u"]
    frame = equations.frame
    for condition in values:
        points, _ = place_points_on(condition.on, frame, "", 300)
        for N in (network, lambda x: 3 + 0 * x[0]):
            components = [(), (0,)]
            jets = [
                evaluate_jets(f, points, components, (), "")
                for f in (form.lifting, form.distance, N)
            ]
            made = Form(jets[0], jets[1])
            at = At(frame.axes, points)
            for name, given in condition.values.items():
                index = (0,) if name == "u.t" else ()
                wanted = given(at) if callable(given) else given
                yield float((made.component(index, jets[2].__getitem__) - wanted).abs().max())


@pytest.mark.parametrize("name", FORMS)
def test_exact_forms_meet_their_conditions_for_every_network(name):
    equations = stated(*FORMS[name])
    assert max(misses(equations, FORMS[name])) < 1e-12
    form = make_exact_forms(equations)["u"]
    inside = place_interior_points(equations.frame.region, 200)
    assert float(form.distance(inside).min()) > 0


@pytest.mark.parametrize("shape", SPACES)
def test_exact_forms_meet_values_on_the_whole_boundary_of_any_shape(shape):
    condition = Dirichlet({"u": lambda at: torch.exp(at.x) * at.y}, exact=True)
    equations = stated(condition, geometry=SPACES[shape])
    assert max(misses(equations, [condition])) < 1e-9
    form = make_exact_forms(equations)["u"]
    inside = place_interior_points(equations.frame.region, 500)
    assert float(form.distance(inside).min()) > 0


def test_a_part_of_a_piece_cannot_be_met_exactly():
    equations = stated(Dirichlet({"u": 0.0}, on=lambda at: at.x < 0.3, exact=True))
    with pytest.raises(ProblemError, match=r"takes a part of .*take exact = False"):
        make_exact_forms(equations)


def test_conditions_that_contradict_at_a_corner_are_warned_of():
    apart = stated(Initial({"u": 1.0}), Dirichlet({"u": 0.0}))
    (line, *_) = describe_corners(apart)
    assert "Initial gives u = 1 and Dirichlet gives 0" in line and "\n" not in line
    assert list(describe_corners(stated(*FORMS["both"]))) == []
    assert list(describe_corners(stated(*FORMS["moving sides"]))) == []


def test_the_least_jet_that_holds_the_asked_derivatives_is_closed():
    shape = JetShape.make_closed(2, {(0,), (1, 1)})
    assert shape.indices == ((), (0,), (1,), (1, 1))
