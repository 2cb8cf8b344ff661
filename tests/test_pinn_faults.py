"""Faults in an equation of the user's own: one line that names the place, before any work."""

import warnings

import numpy as np
import pytest
import torch

from hpctrain.errors import InputError, UserCodeError
from hpctrain.job.settings import load_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations import PDE, ProblemError
from hpctrain.problems.equations.checks.guard import guard
from hpctrain.problems.equations.checks.jumps import describe_jumps
from hpctrain.problems.equations.checks.probe import probe
from hpctrain.problems.equations.library import EQUATIONS
from hpctrain.run.assemble import make_objective, make_problem

NU = torch.nn.Parameter(torch.tensor(0.1, dtype=torch.float64))
LEARNED = torch.tensor(2.0, requires_grad=True) ** 2


class Mute(torch.autograd.Function):
    """The identity, whose derivative fails."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, adjoint):
        raise ArithmeticError("no way back")


class Heat(PDE):
    """u_t = u_xx / 10, right as it stands."""

    name = "heat"
    coordinates = ("t", "x")
    domain = ((0.0, 1.0), (0.0, 1.0))
    orders = (1, 2)
    test_grid = (11, 11)

    def lifting(self, points):
        return torch.sin(torch.pi * points[1])

    def distance(self, points):
        t, x = points
        return t * x * (1 - x)

    def residual(self, points, u):
        return u.t - 0.1 * u.xx


def broken(attributes=None, **functions):
    """The equation with other functions, each given as a lambda, and guarded as in a job."""
    return guard(type("Mine", (Heat,), {**(attributes or {}), **functions})())


def fail(reason):
    raise ValueError(reason)


def of_numpy(*tensors):
    return torch.from_numpy(np.sin(sum(each.detach().numpy() for each in tensors)))


# What is written in the place of the residual, and what is said of it.
RESIDUALS = {
    "two rows": (lambda s, p, u: torch.stack([u.t, u.x]), "returned a tensor of shape (2, 64)"),
    "a sum": (lambda s, p, u: (u.t - u.xx).sum(), "returned a tensor of shape ()"),
    "a number": (lambda s, p, u: 0.0, "returned a value of type float"),
    "nothing": (lambda s, p, u: None, "returned None"),
    "integers": (lambda s, p, u: u.value.round().long(), "returned values of type torch.int64"),
    "a test": (lambda s, p, u: u.value > 0, "returned values of type torch.bool"),
    "complex": (lambda s, p, u: u.t * 1j, "returned values of type torch.complex128"),
    "an order too low": (lambda s, p, u: u.tt, "u.tt needs orders = (2, 2), but orders is (1, 2)"),
    "a mixed derivative": (lambda s, p, u: u.xt, "u.xt does not exist: mixed derivatives"),
    "a third derivative": (lambda s, p, u: u.xxx, "derivatives are available up to order 2"),
    "another name": (lambda s, p, u: u.y, "u.y does not exist: u has value, t, x, xx"),
    "a jet added": (lambda s, p, u: u.t + u, "u is a jet, the values with their derivatives"),
    "a jet doubled": (lambda s, p, u: 2 * u, "u is a jet, the values with their derivatives"),
    "a sine of a jet": (lambda s, p, u: torch.sin(u), "write u.value"),
    "an exception": (lambda s, p, u: fail("one\ntwo"), "ValueError: one two"),
    "an exit": (lambda s, p, u: exit(3), "SystemExit: 3"),
    "numpy of u": (lambda s, p, u: u.t.numpy(), "RuntimeError: Can't call numpy()"),
    "a wrong signature": (lambda s, p: p[0], "TypeError: "),
    "detached": (lambda s, p, u: (u.t - u.xx).detach(), "its derivative with respect to u.t:"),
    "half detached": (lambda s, p, u: u.t - u.xx.detach(), "with respect to u.xx: torch finds 0"),
    "through numpy": (lambda s, p, u: of_numpy(u.x, u.t), "with respect to u.t: torch finds 0"),
    "coordinates only": (lambda s, p, u: p[0] * p[1], "does not depend on u"),
    "no derivative": (
        lambda s, p, u: torch.heaviside(u.value, torch.ones(1).double()),
        "has no derivative in torch: ",
    ),
    "a failing derivative": (
        lambda s, p, u: Mute.apply(u.t),
        "test_pinn_faults.py:32: ArithmeticError: no way back",
    ),
    "never finite": (lambda s, p, u: u.t / 0 - u.t / 0, "is not finite at any of 64 points"),
    "a mean": (lambda s, p, u: u.t - u.value.mean(), "it must act on each point for itself"),
    "a neighbour": (lambda s, p, u: u.t - u.x.flip(0), "it must act on each point for itself"),
    "a running sum": (lambda s, p, u: u.t.cumsum(0), "it must act on each point for itself"),
    "noise": (lambda s, p, u: u.t + torch.rand(u.t.shape), "and not draw random numbers"),
    "a parameter": (lambda s, p, u: u.t - NU * u.xx, "depends on NU, which requires gradients"),
    "a made one": (lambda s, p, u: u.t - LEARNED * u.xx, "depends on LEARNED, which requires"),
}
# In the place of lifting and distance.
FUNCTIONS = {
    "a column": (lambda s, p: p[0][:, None], "returned a tensor of shape (64, 1)"),
    "a number": (lambda s, p: 1.0, "returned a value of type float"),
    "a test": (lambda s, p: p[1] > 0.5, "returned values of type torch.bool"),
    "integers": (lambda s, p: p[1].round().int(), "returned values of type torch.int32"),
    "an exception": (lambda s, p: fail("no"), "ValueError: no"),
    "a coordinate too many": (lambda s, p: p[2], "IndexError: index 2 is out of bounds"),
    "no derivative": (
        lambda s, p: torch.heaviside(p[1] - 0.5, torch.ones(1).double()),
        "has no derivative in torch: ",
    ),
    "a failing derivative": (
        lambda s, p: Mute.apply(p[1]),
        "test_pinn_faults.py:32: ArithmeticError: no way back",
    ),
    "numpy": (lambda s, p: 2 + of_numpy(p[1]), "with respect to x: torch finds 0"),
    "a mean": (lambda s, p: p[0] + p[1].mean(), "it must act on each point for itself"),
    "noise": (lambda s, p: p[0] + torch.rand(p[0].shape), "and not draw random numbers"),
    "a parameter": (lambda s, p: NU * p[0], "depends on NU, which requires gradients"),
    "not finite": (lambda s, p: p[0] / 0, "is not finite at the point [0."),
}
DISTANCES = {
    "zero": (lambda s, p: 0 * p[0], "is 0 at t = "),
    "negative": (lambda s, p: p[0] * (p[0] - 1), "it must be positive inside the domain"),
    "zero in a part": (lambda s, p: (p[1] - 0.5).relu(), "is 0 at t = "),
    "nan": (lambda s, p: p[0] * torch.nan, "is not finite at the point"),
}
CASES = [
    *(("residual", *each) for each in RESIDUALS.values()),
    *(("lifting", *each) for each in FUNCTIONS.values()),
    *(("distance", *each) for each in FUNCTIONS.values()),
    *(("distance", *each) for each in DISTANCES.values()),
]
NAMES = [*RESIDUALS, *FUNCTIONS, *FUNCTIONS, *DISTANCES]


@pytest.mark.parametrize(
    "name, function, said",
    CASES,
    ids=[f"{each[0]}: {name}" for each, name in zip(CASES, NAMES, strict=True)],
)
def test_a_faulty_function_is_refused_in_one_line_that_names_its_place(name, function, said):
    with pytest.raises(InputError) as caught:
        probe(broken(**{name: function}))
    message = str(caught.value)
    assert said in message and f"Mine.{name}" in message and "\n" not in message
    assert "test_pinn_faults.py:" in message


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "residual",
    [
        Heat.residual,
        lambda s, p, u: torch.relu(u.value - 100) + 1,
        lambda s, p, u: 0 * u.t,
        lambda s, p, u: u.t + torch.where(u.value > 0, u.x, 2 * u.x),
        lambda s, p, u: torch.stack(u).square().sum(0) + torch.exp(torch.sin(u.value) * 3) * u.xx,
        lambda s, p, u: torch.log(u.value - 100) + u.t if s.unlucky else u.t + u.value.abs(),
        lambda s, p, u: u.t - torch.tensor(0.1) * u.xx + p[0].round(),
    ],
)
def test_a_residual_with_a_true_gradient_passes_even_if_it_is_zero(residual, dtype):
    probe(broken({"unlucky": False}, residual=residual), dtype)


def test_a_parameter_is_found_wherever_the_equation_has_it():
    inner = torch.nn.Parameter(torch.ones(1).double())
    places = {
        "self.nu": {"nu": NU},
        "self.net.weight": {"net": torch.nn.Linear(1, 1, bias=False).double()},
        "self.held['a']": {"held": {"a": NU}},
        "inner": {"f": staticmethod(lambda: inner)},
    }
    uses = {
        "self.nu": lambda s, p, u: u.t - s.nu * u.xx,
        "self.net.weight": lambda s, p, u: u.t - s.net(u.xx[:, None])[:, 0],
        "self.held['a']": lambda s, p, u: u.t - s.held["a"] * u.xx,
        "inner": lambda s, p, u: u.t - inner * u.xx,
    }
    for name, attributes in places.items():
        with pytest.raises(ProblemError) as caught:
            probe(broken(attributes, residual=uses[name]))
        assert f"depends on {name}, which requires gradients" in str(caught.value)


def test_an_attribute_of_one_object_is_named_too():
    pde = broken(residual=lambda s, p, u: u.t - s.own * u.xx)
    pde.own = torch.nn.Parameter(torch.tensor(1.0).double())
    with pytest.raises(ProblemError, match=r"depends on self\.own, which requires gradients"):
        probe(pde)


def job(*overrides):
    return load_job("jobs/burgers.toml", ["problem.points=64", "network.depth=2", *overrides])


def mine(tmp_path, text):
    """An override that names an equation made of Heat's lines in a file."""
    (tmp_path / "mine.py").write_text(text)
    return f"problem.name={tmp_path / 'mine.py'}:Mine"


HEAD = """\
import torch
from hpctrain.problems.equations import PDE
class Mine(PDE):
    name, coordinates, domain = "mine", ("t", "x"), ((0.0, 1.0), (0.0, 1.0))
    orders, test_grid = (1, 2), (11, 11)
    def lifting(self, points):
        return torch.sin(torch.pi * points[1])
    def distance(self, points):
        return points[0] * points[1] * (1 - points[1])
"""
LATE = f"""{HEAD}
    def residual(self, points, u):
        if bool((points[0] > 0.997).any()):
            raise ValueError("not beyond 0.997")
        return u.t - u.xx
"""
RIGHT = f"""{HEAD}
    def residual(self, points, u):
        return u.t - u.xx
"""
REFERENCES = {
    "three numbers": ("torch.ones(3)", r"mine\.py:13: Mine\.reference returned a tensor of shape"),
    "a number": ("1.0", r"mine\.py:13: Mine\.reference returned a value of type float"),
    "an error": ("[].pop()", r"Mine\.reference fails: .*mine\.py:14: IndexError: pop from empty"),
    "noise": ("torch.rand(points.shape[1])", "it must act on each point for itself"),
    "a mean": ("points[0] - points[1].mean()", "it must act on each point for itself"),
    "a parameter": (
        "torch.ones(1).double().requires_grad_() * points[0]",
        r"mine\.py:13: Mine\.reference depends on a tensor of shape \(1,\), which requires",
    ),
    "not finite": ("1 / points[0]", r"Mine\.reference is inf at t = 0, x = 0: it must be finite"),
}


@pytest.mark.parametrize("fault", REFERENCES)
def test_a_faulty_reference_is_refused_before_the_run(tmp_path, fault):
    written, said = REFERENCES[fault]
    text = f"{RIGHT}    def reference(self, points):\n        return {written}\n"
    problem = make_problem(job(mine(tmp_path, text)))
    with pytest.raises(InputError, match=said) as caught:
        problem.monitor(Communicator(), 64, 1)
    assert "\n" not in str(caught.value)


def test_a_residual_that_fails_at_some_points_is_refused_before_the_run(tmp_path):
    asked = job(mine(tmp_path, LATE), "problem.points=300")
    problem = make_problem(asked)
    with pytest.raises(InputError, match=r"mine\.py:13: ValueError: not beyond 0\.997$"):
        make_objective(asked, problem, Communicator(), 1)


SPOILT = f"""{HEAD}
    spoil = False
    def residual(self, points, u):
        e = torch.exp(u.value)
        r = u.t + torch.erf(e)
        if self.spoil:
            e.zero_()
        return r
"""


def test_a_derivative_that_torch_cannot_take_later_on_is_told_with_the_residuals_place(tmp_path):
    asked = job(mine(tmp_path, SPOILT))
    problem = make_problem(asked)
    objective = make_objective(asked, problem, Communicator(), 1)
    theta = problem.initial_parameters(0)
    objective.with_gradient(theta)
    problem.pde.spoil = True
    with pytest.raises(UserCodeError, match=r"residual fails: .*mine\.py:12: RuntimeError: one of"):
        objective.with_gradient(theta + 1)


JUMPS = {
    "a step": ("lifting", lambda s, p: torch.where(p[1] > 0.3, 1.0, 0.0).double(), "x = 0.3"),
    "a test made a number": ("lifting", lambda s, p: (p[0] < 0.7).double(), "t = 0.7"),
    "a step beside a layer": (
        "lifting",
        lambda s, p: torch.tanh(100 * p[1]) + 1e-3 * (p[0] > 0.25),
        "along t at t = 0.25",
    ),
    "a start": ("lifting", lambda s, p: torch.where(p[0] == 0, p[1] * 0, 1.0), "along t at t = "),
    "a kink": ("lifting", lambda s, p: (p[1] - 0.4).abs(), "x = 0.4"),
    "of the distance": (
        "distance",
        lambda s, p: p[0] * torch.where(p[1] > 0.5, 2.0, 1.0),
        "x = 0.5",
    ),
}


@pytest.mark.parametrize("name, function, place", JUMPS.values(), ids=JUMPS)
def test_a_jump_is_told_with_function_coordinate_and_place(name, function, place):
    (line,) = describe_jumps(broken(**{name: function}))
    assert f"Mine.{name} jumps by " in line and place in line and "\n" not in line


@pytest.mark.parametrize(
    "lifting",
    [
        lambda s, p: torch.tanh(100 * (p[1] - 0.3)),
        lambda s, p: torch.tanh(1e6 * (p[1] - 0.3)),
        lambda s, p: torch.exp(-300 * p[0]) * torch.sin(50 * p[1]),
        lambda s, p: torch.full_like(p[0], 3.0),
        lambda s, p: (p[0] - 0.4).abs(),  # its slope along t is used, and may jump
        lambda s, p: torch.sqrt(p[0]) + (p[1] - 0.5).abs() ** 1.5,
    ],
)
def test_no_jump_is_told_of_a_steep_or_rough_function_without_one(lifting):
    assert list(describe_jumps(broken(lifting=lifting))) == []


@pytest.mark.parametrize("name", EQUATIONS)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_shipped_equations_pass_without_a_warning(name, precision):
    asked = job(f"problem.name={name}", f"precision={precision}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        problem = make_problem(asked)
    assert problem.cautions == ()


STEEP = f"""{HEAD}
    def residual(self, points, u):
        limit(u.value)
        return torch.clamp(u.t, -9e9) - u.xx

def limit(value):
    if float(value.min()) < -0.01:
        raise ValueError("below zero")
"""
MUTE = f"""{HEAD}
    def residual(self, points, u):
        return Mute.apply(u.t) - u.xx

class Mute(torch.autograd.Function):
    calls = 0
    @staticmethod
    def forward(ctx, x):
        return x.clone()
    @staticmethod
    def backward(ctx, adjoint):
        Mute.calls += 1
        if Mute.calls > 9:
            raise ArithmeticError("no way back")
        return adjoint
"""
JOB = """
[problem]
name = "{file}:Mine"
points = 300
[network]
depth = 2
width = 8
[solver]
name = "lbfgs"
[parallel]
threads = 1
[stop]
max_iterations = 50
"""


@pytest.mark.parametrize(
    "text, said",
    [
        (LATE, "Mine.residual fails: {file}:13: ValueError: not beyond 0.997"),
        (STEEP, "Mine.residual fails: {file}:17: ValueError: below zero"),
        (MUTE, "the derivative of the residual fails: {file}:23: ArithmeticError: no way back"),
    ],
    ids=["at one rank's points", "at a later iterate", "in its derivative"],
)
def test_a_failing_residual_ends_all_ranks_with_one_line_and_status_2(
    mpirun, write_job, tmp_path, text, said
):
    file = tmp_path / "mine.py"
    file.write_text(text)
    ended = mpirun(2, "-m", "hpctrain", "run", write_job(JOB.format(file=file)))
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count(f"hpctrain: {said.format(file=file)}\n") == 1
    assert "Traceback" not in ended.stderr


def test_on_one_rank_it_does_too_and_the_traceback_is_shown_when_asked_for(
    python, write_job, tmp_path
):
    file = tmp_path / "mine.py"
    file.write_text(STEEP)
    job = write_job(JOB.format(file=file))
    ended = python("-m", "hpctrain", "run", job, HPCTRAIN_DEBUG="1")
    assert ended.returncode == 2
    assert ended.stderr.endswith(f"{file}:17: ValueError: below zero\n")
    assert f'File "{file}", line 12, in residual' in ended.stderr
