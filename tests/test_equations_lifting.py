"""G of exact forms where no given function takes all values: what it takes, how smooth it is."""

import math
from itertools import combinations_with_replacement

import pytest
import torch

from hpctrain.problems.equations import At, Box, Dirichlet, Disk, Equations, Initial, Neumann
from hpctrain.problems.equations.ansatz import evaluate_jets
from hpctrain.problems.equations.conditions.base import place_points_on
from hpctrain.problems.equations.exact import make_exact_forms

T0 = 0.5
LINE, PLANE = Box(t=(T0, 2), x=(0, 1)), Box(t=(T0, 2), x=(0, 1), y=(0, 1))


def cool(at):
    return torch.exp(T0 - at.t)


def wave(at):
    return torch.cos(at.x) + at.x * (1 - at.x)


def start(value, **rates):
    return Initial(
        {"u": value, **{f"u.{along}": rate for along, rate in rates.items()}}, exact=True
    )


def held(value, on=None):
    return Dirichlet({"u": value}, on=on, exact=True)


ENDS = [held(cool, "x.low"), held(lambda at: cool(at) * math.cos(1), "x.high")]
# Conditions that agree at the corners t = t₀, none of whose functions takes the values of others.
AGREEING = {
    "ends": (LINE, [start(wave), *ENDS]),
    "ends and rates": (LINE, [start(wave, t=lambda at: -wave(at)), *ENDS]),
    "two sides of a square": (
        PLANE,
        [
            start(lambda at: wave(at) * (1 + at.y)),
            held(lambda at: cool(at) * (1 + at.y), "x.low"),
            held(lambda at: cool(at) * (1 + at.y) * math.cos(1), "x.high"),
        ],
    ),
    "a circle": (
        Box(t=(T0, 2)) * Disk(center=(0, 0), radius=1),
        [
            start(lambda at: 2 - at.x**2 - at.y**2, t=lambda at: -(at.x**2 + at.y**2)),
            held(cool),
        ],
    ),
    "a slope": (
        LINE,
        [
            start(lambda at: torch.cos(math.pi * at.x)),
            held(cool, "x.low"),
            Neumann({"u": lambda at: at.t - T0}, on="x.high", exact=True),
        ],
    ),
    "an input": (
        LINE,
        [
            start(lambda at: wave(at) + at.nu, t=lambda at: -at.nu * (1 + at.x * (1 - at.x))),
            held(lambda at: torch.exp(at.nu * (T0 - at.t)) + at.nu, "x.low"),
            held(lambda at: math.cos(1) + at.nu + at.nu * (T0 - at.t), "x.high"),
        ],
    ),
}
APART = (LINE, [start(lambda at: 2 + at.x), held(cool, "x.low"), held(cool, "x.high")])


def state(geometry, conditions):
    class Stated(Equations):
        inputs = {"nu": (1, 2)}

        def residuals(self, at, u):
            return u.t - u.laplacian

    return type("Mine", (Stated,), {"geometry": geometry, "conditions": tuple(conditions)})()


def list_misses(equations, moves):
    """By how much G misses what each condition gives, at points moved by a function."""
    lifting, frame = make_exact_forms(equations)["u"].lifting, equations.frame
    for condition in equations.conditions:
        points, normals = place_points_on(condition.on, frame, "", 300)
        points = moves(points)
        jets = evaluate_jets(lifting, points, [(), (0,), (1,)], (), "")
        for name, given in condition.values.items():
            wanted = given(At(frame.axes, points, normals))
            if isinstance(condition, Neumann):
                found = normals[1] * jets[1,]
            else:
                found = jets[(0,) if name == "u.t" else ()]
            yield float((found - wanted).abs().max())


def begin(points):
    return torch.cat([torch.full_like(points[:1], T0), points[1:]])


@pytest.mark.parametrize("moves", [lambda points: points, begin], ids=["all times", "the first"])
@pytest.mark.parametrize("name", AGREEING)
def test_a_lifting_takes_all_values_to_rounding(name, moves):
    assert max(list_misses(state(*AGREEING[name]), moves)) < 1e-13


def test_values_that_contradict_each_other_at_a_corner_are_taken_elsewhere():
    assert max(list_misses(state(*APART), lambda points: points)) < 1e-13


def largest_second_derivatives(equations, distances):
    """The largest of G at distances from the corner of t = t₀ and the smallest x."""
    lifting, frame = make_exact_forms(equations)["u"].lifting, equations.frame
    r = torch.tensor(distances, dtype=torch.float64)
    points = torch.stack([0.4 + 0 * r for _ in frame.axes.names])
    points[0] = T0 + r
    points[1] = frame.region.bounds[1][0] + 0.7 * r
    if "y" in frame.axes.names and frame.region.bounds[2][0] < 0:
        points[2] = 0
    points[-1] = 1.3
    indices = list(combinations_with_replacement(range(len(frame.axes.coordinates)), 2))
    lower = [(), *((i,) for i in range(len(frame.axes.coordinates)))]
    jets = evaluate_jets(lifting, points, [*lower, *indices], (), "")
    return torch.stack([jets[index].abs() for index in indices]).amax(dim=0)


@pytest.mark.parametrize("name", AGREEING)
def test_second_derivatives_stay_bounded_at_corners_where_values_agree(name):
    distances = [10.0**-k for k in range(1, 8)]
    found = largest_second_derivatives(state(*AGREEING[name]), distances)
    assert float(found.max()) < 30


def test_second_derivatives_grow_where_values_do_not_agree():
    far, near = largest_second_derivatives(state(*APART), [1e-2, 1e-4])
    assert float(near) > 1e3 * float(far)
