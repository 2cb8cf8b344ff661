"""The interface of an equation: named jets, and class data checked when an object is made."""

import pytest
import torch

from hpctrain.problems.equations import PDE, ProblemError
from hpctrain.problems.equations.library.burgers import Burgers
from hpctrain.problems.equations.system import jet_fields


class Heat(PDE):
    """u_t = u_xx, as a user would write it, with an __init__ that knows nothing of the base."""

    name = "heat"
    coordinates = ("t", "x")
    domain = ((0.0, 1.0), (0.0, 1.0))
    orders = (1, 2)

    def __init__(self, conductivity=1.0):
        self.conductivity = conductivity

    def lifting(self, points):
        return torch.sin(torch.pi * points[1])

    def distance(self, points):
        t, x = points
        return t * x * (1 - x)

    def residual(self, points, u):
        return u.t - self.conductivity * u.xx


@pytest.mark.parametrize(
    ("coordinates", "orders", "fields"),
    [
        (("t", "x"), (1, 2), ("value", "t", "x", "xx")),
        (("t", "x"), (2, 2), ("value", "t", "x", "tt", "xx")),
        (("x1", "x2"), (2, 0), ("value", "x1", "x1x1")),
        (("t", "x", "y"), (0, 1, 2), ("value", "x", "y", "yy")),
        (("x",), (0,), ("value",)),
    ],
)
def test_jet_lists_the_value_then_first_then_second_derivatives(coordinates, orders, fields):
    assert jet_fields(coordinates, orders)._fields == fields


def test_residual_reads_the_rows_of_a_jet_by_name():
    value, u_t, u_x, u_xx = jet = torch.randn(4, 5, dtype=torch.float64)
    burgers = Burgers()
    residual = burgers.residual(torch.zeros(2, 5), burgers.jet(jet))
    torch.testing.assert_close(residual, u_t + value * u_x - 0.01 / torch.pi * u_xx)


def test_a_jet_of_the_wrong_number_of_components_is_an_error():
    with pytest.raises(TypeError):
        Burgers().jet(torch.zeros(5, 3))


def test_a_users_equation_keeps_its_own_constructor_and_has_no_reference():
    heat = Heat(conductivity=2.0)
    assert heat.conductivity == 2.0
    assert heat.test_grid == (200, 400)
    assert heat.reference(torch.zeros(2, 3)) is None


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("name", "", "non-empty string"),
        ("coordinates", "tx", "Python names"),
        ("coordinates", ["t", "x"], "Python names"),
        ("coordinates", (), "1 to 4"),
        ("coordinates", ("t", "value"), "differ"),
        ("coordinates", ("x", "xx"), "differ"),
        ("coordinates", ("t", "in"), "Python names"),
        ("coordinates", ("t", "_x"), "Python names"),
        ("domain", ((0.0, 1.0),), "2 pairs"),
        ("domain", ((0.0, 1.0), (1.0, -1.0)), "low < high"),
        ("domain", ((0.0, float("inf")), (0.0, 1.0)), "finite"),
        ("orders", (1, 3), "0, 1 or 2"),
        ("orders", (1, True), "0, 1 or 2"),
        ("orders", (1,), "2 integers"),
        ("test_grid", (200, 1), "2 or more"),
    ],
)
def test_impossible_class_data_are_named_with_what_is_allowed(field, value, allowed):
    broken = type("Broken", (Heat,), {field: value})
    with pytest.raises(ProblemError, match=rf"^Broken\.{field} is .*{allowed}"):
        broken()


def test_missing_class_data_are_named():
    class Nameless(PDE):
        coordinates = ("x",)
        domain = ((0.0, 1.0),)
        orders = (2,)
        lifting = distance = residual = None

    with pytest.raises(ProblemError, match=r"^Nameless\.name is missing"):
        Nameless()
