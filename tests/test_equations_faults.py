"""Faults in an equation of the user's own: one line that names the place, before any work."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from faulty_equations import NU, Free, Heat, broken, pinn, probed

from hpctrain.errors import InputError
from hpctrain.problems.equations import (
    Condition,
    Dirichlet,
    Integral,
    Neumann,
    ProblemError,
    Robin,
    Unknown,
)
from hpctrain.problems.equations.checks.probe import probe

FILE = Path(__file__).read_text().splitlines()
LEARNED = torch.tensor(2.0, requires_grad=True) ** 2


class Mute(torch.autograd.Function):
    """The identity, whose derivative fails."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, adjoint):
        raise ArithmeticError("no way back")


def fail(reason):
    raise ValueError(reason)


def of_numpy(*tensors):
    return torch.from_numpy(np.sin(sum(each.detach().numpy() for each in tensors)))


# What is written in the place of the residual, and what is said of it.
RESIDUALS = {
    "two rows": (lambda s, at, u: torch.stack([u.t, u.x]), "returned a tensor of shape (2, 64)"),
    "a sum": (lambda s, at, u: (u.t - u.xx).sum(), "returned a tensor of shape ()"),
    "a number": (lambda s, at, u: 0.0, "returned a value of type float for residual"),
    "nothing": (lambda s, at, u: None, "returned None"),
    "an empty tuple": (lambda s, at, u: (), "returned (): it must be a value for each point"),
    "an empty mapping": (lambda s, at, u: {}, "returned {}: it must be a value for each point"),
    "one wrong of two": (lambda s, at, u: {"a": u.t, "b": 1}, "a value of type int for b"),
    "integers": (lambda s, at, u: u.value.round().long(), "returned values of type torch.int64"),
    "a test": (lambda s, at, u: u > 0, "returned values of type torch.bool"),
    "complex": (lambda s, at, u: u.t * 1j, "returned values of type torch.complex128"),
    "a fifth derivative": (lambda s, at, u: u.xxxxx, "derivatives are available up to order 4"),
    "another name": (lambda s, at, u: u.y, "u.y does not exist: derivatives along t, x"),
    "another coordinate": (lambda s, at, u: u.t - at.z, "at.z does not exist: at has t, x"),
    "a field that is not there": (lambda s, at, u, v: u.t, "asks for v: there is at, then u"),
    "a normal inside": (lambda s, at, u: u.normal, "u.normal is not known here"),
    "an exception": (lambda s, at, u: fail("one\ntwo"), "ValueError: one two"),
    "an exit": (lambda s, at, u: exit(3), "SystemExit: 3"),
    "math of u": (lambda s, at, u: math.sin(u.t), "ValueError: this takes one number"),
    "a branch": (lambda s, at, u: u.t if u > 0 else u.x, "use torch.where(condition, a, b)"),
    "numpy of u": (
        lambda s, at, u: u.t.numpy(),
        "RuntimeError: numpy's functions lose derivatives",
    ),
    "detached": (lambda s, at, u: (u.t - u.xx).detach(), "its derivative with respect to u.t:"),
    "half detached": (lambda s, at, u: u.t - u.xx.detach(), "respect to u.xx: torch finds 0"),
    "through numpy": (lambda s, at, u: of_numpy(u.x, u.t), "with respect to u.x: torch finds 0"),
    "coordinates only": (lambda s, at, u: at.t * at.x, "does not depend on u"),
    "no derivative": (
        lambda s, at, u: torch.heaviside(u.value, torch.ones(1).double()),
        "has no derivative in torch: ",
    ),
    "a failing derivative": (
        lambda s, at, u: Mute.apply(u.t),
        "test_equations_faults.py:LINE: ArithmeticError: no way back",
    ),
    "never finite": (lambda s, at, u: u.t / 0 - u.t / 0, "is not finite at any of 64 points"),
    "a mean": (lambda s, at, u: u.t - u.value.mean(), "it must act on each point for itself"),
    "a neighbour": (lambda s, at, u: u.t - u.x.flip(0), "it must act on each point for itself"),
    "a running sum": (lambda s, at, u: u.t.cumsum(0), "it must act on each point for itself"),
    "noise": (lambda s, at, u: u.t + torch.rand(u.t.shape), "and not draw random numbers"),
    "a parameter": (lambda s, at, u: u.t - NU * u.xx, "depends on NU, which requires gradients"),
    "a made one": (lambda s, at, u: u.t - LEARNED * u.xx, "depends on LEARNED, which requires"),
}
# In the place of G and D of the ansatz.
FUNCTIONS = {
    "a column": (lambda at: at.t[:, None], "a tensor of shape (64, 1)"),
    "a word": (lambda at: "0", "is a value of type str"),
    "a test": (lambda at: at.x > 0.5, "is values of type torch.bool"),
    "integers": (lambda at: at.x.round().int(), "is values of type torch.int32"),
    "an exception": (lambda at: fail("no"), "ValueError: no"),
    "a coordinate too many": (lambda at: at[2], "IndexError: index 2 is out of bounds"),
    "no derivative": (
        lambda at: torch.heaviside(at.x - 0.5, torch.ones(1).double()),
        "has no derivative in torch: ",
    ),
    "a failing derivative": (
        lambda at: Mute.apply(at.x),
        "test_equations_faults.py:LINE: ArithmeticError: no way back",
    ),
    "numpy": (lambda at: 2 + of_numpy(at.x), "with respect to x: torch finds 0"),
    "a mean": (lambda at: at.t + at.x.mean(), "it must act on each point for itself"),
    "noise": (lambda at: at.t + torch.rand(at.t.shape), "and not draw random numbers"),
    "a parameter": (lambda at: NU * at.t, "depends on NU, which requires gradients"),
    "not finite": (lambda at: at.t / 0, "is not finite at the point [0."),
}
DISTANCES = {
    "zero": (lambda at: 0 * at.t, "is 0 at t = "),
    "negative": (lambda at: at.t * (at.t - 1), "it must be positive inside the geometry"),
    "zero in a part": (lambda at: (at.x - 0.5).relu(), "is 0 at t = "),
    "nan": (lambda at: at.t * torch.nan, "is not finite at the point"),
}
ANSATZES = {
    "no mapping": (lambda s, at: (0.0, at.t), "it must be a mapping of fields (u) to pairs (G, D)"),
    "another field": (lambda s, at: {"v": (0.0, at.t)}, "it must be a mapping of fields (u)"),
    "no pair": (lambda s, at: {"u": at.t}, "it must be a pair (G, D)"),
    "misses the start": (
        lambda s, at: {"u": (0 * at.x, at.t * at.x * (1 - at.x))},
        "Mine.ansatz does not meet Initial: u misses it by -",
    ),
    "misses a side": (
        lambda s, at: {"u": (torch.sin(torch.pi * at.x), at.t * at.x)},
        "does not meet Dirichlet: u misses it by ",
    ),
}
CASES = {
    **{f"residuals: {name}": ("residuals", *each) for name, each in RESIDUALS.items()},
    **{f"G: {name}": ("G", *each) for name, each in FUNCTIONS.items()},
    **{f"D: {name}": ("D", *each) for name, each in (FUNCTIONS | DISTANCES).items()},
    **{f"ansatz: {name}": ("ansatz", *each) for name, each in ANSATZES.items()},
}
# Where the functions stand, and the ansatz that calls those of a form.
FILES = ("test_equations_faults", "faulty_equations")
LINE = 1 + FILE.index('        raise ArithmeticError("no way back")')


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
@pytest.mark.parametrize("name, function, said", CASES.values(), ids=CASES)
def test_a_faulty_function_is_refused_in_one_line_that_names_its_place(name, function, said):
    is_part = name in "GD"
    written = staticmethod(function) if is_part else function
    with pytest.raises(InputError) as caught:
        probed(Free if is_part else Heat, **{name: written})
    message = str(caught.value)
    title = "Mine.residuals" if name == "residuals" else "Mine.ansatz"
    assert said.replace("LINE", str(LINE)) in message and "\n" not in message
    assert title in message
    if "misses" not in said:
        assert any(f"{file}.py:" in message for file in FILES) or "must be a" in message


NO_NORMAL = "u.normal is not known here: there are normals on pieces of the boundary"
CONDITIONS = {
    "a failing value": (Dirichlet({"u": lambda at: fail("no")}), "Mine: Dirichlet fails: "),
    "a value of one point": (
        Dirichlet({"u": lambda at: at.x[0]}),
        "the value of u is a tensor of shape ()",
    ),
    "an expression of nothing": (Condition(lambda at: at.x), "does not depend on u"),
    "an expression of two": (
        Condition(lambda at, u: torch.stack([u, u])),
        "returned a tensor of shape (2, 20) for condition",
    ),
    "an empty expression": (
        Condition(lambda at, u: ()),
        "returned (): it must be a value for each",
    ),
    "a mean of a mean": (
        Integral(lambda at, u: u.mean()),
        "the integrand is a tensor of shape (): it must be a number or a tensor of shape (20, 1)",
    ),
    "a mean of a number": (Integral(lambda at: 1.0), "does not depend on u"),
    "a mean of a word": (Integral(lambda at: "a"), "the integrand is a value of type str"),
    "numbers for truth": (
        Dirichlet({"u": 0.0}, on=lambda at: at.x),
        "one truth value for each point, such as at.x > 0",
    ),
    "numbers for truth, exactly": (
        Dirichlet({"u": 0.0}, on=lambda at: at.x, exact=True),
        "one truth value for each point, such as at.x > 0",
    ),
    "a failing part": (Dirichlet({"u": 0.0}, on=lambda at: fail("no")), "ValueError: no"),
    "a failing part, exactly": (
        Dirichlet({"u": 0.0}, on=lambda at: fail("no"), exact=True),
        "ValueError: no",
    ),
    "another field": (Condition(lambda at, w: w), "asks for w: there is at, then u"),
    "a slope at fixed coordinates": (Neumann({"u": 0.0}, on={"x": 1.0}), NO_NORMAL),
    "a mixed one there": (Robin("u", on={"x": 1.0}), NO_NORMAL),
    "a normal there": (Condition(lambda at, u: u.normal - 1, on={"x": 1.0}), NO_NORMAL),
    "its direction": (Condition(lambda at, u: u * at.normal.x, on={"x": 1.0}), "at.normal is not"),
    "a mean of slopes there": (Integral(lambda at, u: u.normal, over={"x": 1.0}), NO_NORMAL),
    "a slope inside": (Neumann({"u": 0.0}, on="inside"), NO_NORMAL),
    "a truth for all": (Dirichlet({"u": 0.0}, on=lambda at: True), "one truth value for each"),
    "nowhere": (
        Dirichlet({"u": 0.0}, on=lambda at: at.x == 7),
        "is true at no point of the boundary",
    ),
}


@pytest.mark.parametrize("condition, said", CONDITIONS.values(), ids=CONDITIONS)
def test_a_faulty_condition_is_refused_in_one_line(condition, said):
    with pytest.raises(InputError) as caught:
        probed(Free, conditions=(condition,), ansatz=lambda s, at: {})
    message = str(caught.value)
    assert said in message and "Mine" in message and "\n" not in message


def test_fields_and_unknowns_that_nothing_depends_on_are_named():
    with pytest.raises(ProblemError, match=r"^Mine: no residual or condition uses the field v$"):
        probed(fields=("u", "v"))
    with pytest.raises(ProblemError, match=r"^Mine: nothing depends on the unknown k: it could"):
        probed(unknowns={"k": Unknown(1.0)})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "residual",
    [
        Heat.residuals,
        lambda s, at, u: torch.relu(u - 100) + 1,
        lambda s, at, u: 0 * u.t,
        lambda s, at, u: u.t + torch.where(u > 0, u.x, 2 * u.x),
        lambda s, at, u: u.t**2 + torch.exp(torch.sin(u) * 3) * u.xx,
        lambda s, at, u: torch.log(u - 100) + u.t if s.unlucky else u.t + abs(u),
        lambda s, at, u: u.t - torch.tensor(0.1) * u.xx + at.t.round(),
        lambda s, at, u: (u.t, u.xx),
        lambda s, at, u: [u.t * u.xxxx, u.tx],
    ],
)
def test_a_residual_with_a_true_gradient_passes_even_if_it_is_zero(residual, dtype):
    probed(dtype=dtype, unlucky=False, residuals=residual)


def test_a_parameter_is_found_wherever_the_equation_has_it():
    inner = torch.nn.Parameter(torch.ones(1).double())
    places = {
        "self.nu": {"nu": NU},
        "self.net.weight": {"net": torch.nn.Linear(1, 1, bias=False).double()},
        "self.held['a']": {"held": {"a": NU}},
        "inner": {"f": staticmethod(lambda: inner)},
    }
    uses = {
        "self.nu": lambda s, at, u: u.t - s.nu * u.xx,
        "self.net.weight": lambda s, at, u: u.t - s.net(u.xx[:, None])[:, 0],
        "self.held['a']": lambda s, at, u: u.t - s.held["a"] * u.xx,
        "inner": lambda s, at, u: u.t - inner * u.xx,
    }
    for name, attributes in places.items():
        with pytest.raises(ProblemError) as caught:
            probed(**attributes, residuals=uses[name])
        assert f"depends on {name}, which requires gradients" in str(caught.value)


def test_an_attribute_of_one_object_is_named_too():
    equations = broken(residuals=lambda s, at, u: u.t - s.own * u.xx)
    equations.own = torch.nn.Parameter(torch.tensor(1.0).double())
    with pytest.raises(ProblemError, match=r"depends on self\.own, which requires gradients"):
        probe(pinn(equations))
