"""Computed reference solutions: differences of their values solve the equations."""

from functools import cache

import numpy as np
import pytest
import torch

from hpctrain.networks.dense import DenseNetwork
from hpctrain.problems.equations.errors import find_test_points
from hpctrain.problems.equations.fields import LAPLACIAN, At, Field
from hpctrain.problems.equations.geometry.sampling import place_interior_points
from hpctrain.problems.equations.library import (
    EQUATIONS,
    gray_scott,
    heat_long,
    laplace_holes,
    poisson_boltzmann,
    wave_variable,
)
from hpctrain.problems.equations.library.methods import trefftz
from hpctrain.problems.equations.problem import Formulation, PinnProblem
from hpctrain.problems.equations.requests import take_points
from hpctrain.problems.equations.terms import EQUATION

# Weights of values at −2, …, 2 steps, for the first and the second derivative.
FIRST = (1 / 12, -2 / 3, 0.0, 2 / 3, -1 / 12)
SECOND = (-1 / 12, 4 / 3, -5 / 2, 4 / 3, -1 / 12)
# The step, as a part of the extent; how far residuals and conditions may be from zero.
SOLVED = {
    "laplace-holes": (1e-3, 1e-6, 1e-9),
    "poisson-blocks": (1e-3, 1e-3, 1e-4),
    "poisson-boltzmann": (5e-4, 2e-5, 1e-8),
}
# Solutions of less resolution, the step of time, a time, and how far residuals may be from 0 there.
QUICK = {
    "gray-scott": (lambda: gray_scott.solve(128, 1600).at, 0.125, 1.0, 1e-4),
    "heat-long": (lambda: heat_long.solve(127, 2000).at, 0.0025, 0.05, 5e-3),
    "wave-variable": (lambda: lambda x: [wave_variable.find_values(x, 64)], 0.005, 0.5, 1e-2),
}


@pytest.fixture(autouse=True, scope="module")
def measure_coarsely():
    """Not here: references are compared on the true grids."""


def value_fields(equations, solution, at, normals, steps):
    """A solution as fields whose derivatives are differences of order four, by steps of each axis.

    Args:
        solution: takes points, gives the values of each field.
    """
    frame = equations.frame

    @cache
    def moved(axis, k):
        """The values of all fields, k steps along an axis."""
        points = at.all.clone()
        points[axis] += k * steps[axis]
        return solution(points)

    def make(number, name):
        def component(index):
            if index == LAPLACIAN:
                return sum(component((i, i)) for i in frame.axes.space)
            if not index:
                return moved(0, 0)[number]
            axis, order = index[0], len(index)
            assert index in ((axis,), (axis, axis))
            pairs = zip((FIRST, SECOND)[order - 1], range(-2, 3), strict=True)
            parts = [w * moved(axis if k else 0, k)[number] for w, k in pairs if w]
            return sum(parts) / steps[axis] ** order

        return Field(name, frame.axes, component, normals)

    return {name: make(i, name) for i, name in enumerate(frame.fields)}


def reference_of(equations):
    """A function of points that gives the values of each field."""

    def solution(points):
        found = equations.reference(At(equations.frame.axes, points))
        return list(found.values()) if isinstance(found, dict) else [found]

    return solution


@pytest.mark.parametrize("name", SOLVED)
def test_differences_of_a_reference_solve_its_equations_and_meet_its_conditions(name):
    step, most_inside, most_around = SOLVED[name]
    network = DenseNetwork(inputs=1, width=4, depth=2)
    problem = PinnProblem(EQUATIONS[name](), network, Formulation(60, is_soft=True))
    steps = [step * (high - low) for low, high in problem.frame.region.bounds]
    solution = reference_of(problem.equations)
    for term in problem.terms:
        at, normals = take_points(term, problem.frame, slice(0, 40), torch.float64)
        fields = value_fields(problem.equations, solution, at, normals, steps)
        most = most_inside if term.name == EQUATION else most_around
        for row, values in term.zero(at, fields, {}).items():
            assert float(values.abs().max()) <= most, (term.name, row)


@pytest.mark.parametrize("name", QUICK)
def test_differences_of_an_evolution_solve_its_equations(name):
    make, step, time, most = QUICK[name]
    equations, solution = EQUATIONS[name](), make()
    points = place_interior_points(equations.frame.region, 40)
    points[0] = time
    at = At(equations.frame.axes, points)
    steps = [step] + [1e-3 * (high - low) for low, high in equations.frame.region.bounds[1:]]
    fields = value_fields(equations, solution, at, None, steps)
    found = equations.residuals(at, **fields)
    for values in found.values() if isinstance(found, dict) else [found]:
        assert float(values.abs().max()) <= most


@pytest.mark.parametrize("name", QUICK)
def test_bits_of_an_evolution_at_a_point_depend_on_that_point_alone(name):
    make, step, *_ = QUICK[name]
    solution = make()
    points = find_test_points(EQUATIONS[name]())[:, ::97][:, :300]
    points[0] = points[0].clamp(max=2.5 * step)
    few = points[:, 1::8].contiguous()
    for every, some in zip(solution(points), solution(few), strict=True):
        assert torch.equal(every[1::8], some)


@pytest.mark.parametrize("name", SOLVED)
def test_bits_of_a_computed_reference_at_a_point_depend_on_that_point_alone(name):
    equations = EQUATIONS[name]()
    points = find_test_points(equations)[:, ::97][:, :300]
    few = points[:, 1::8].contiguous()
    (every,), (some,) = (reference_of(equations)(x) for x in (points, few))
    assert torch.equal(every[1::8], some)


def test_what_trefftz_functions_miss_on_the_boundary_bounds_the_error():
    """By the maximum principle: at points between those that were fitted, corners among them."""
    line = np.linspace(-1, 1, 801)
    for module, half, around in ((laplace_holes, 0.5, 1.0), (poisson_boltzmann, 1.0, 0.0)):
        side, end = half * line, np.full(801, half)
        for points in ((side, end), (side, -end), (end, side), (-end, side)):
            found = module.solve().at(torch.from_numpy(np.stack(points)))
            assert float((found - around).abs().max()) < 1e-8
        for x, y in trefftz.place_points(half, module.HOLES, 101)[1:]:
            found = module.solve().at(torch.from_numpy(np.stack((x, y)))).numpy()
            wanted = 0.0 if half < 1 else 1.0 - poisson_boltzmann.solve_square(x, y)
            assert np.abs(found - wanted).max() < 1e-9


def test_laplaces_equation_around_four_holes_has_the_known_values():
    """Those of another fit, good to 1e-7."""
    points = torch.tensor([[0.0, 0.4, 0.45], [0.0, 0.0, 0.45]], dtype=torch.float64)
    known = [0.233584922, 0.635127359, 0.860132507]
    assert laplace_holes.solve().at(points).tolist() == pytest.approx(known, abs=1e-7)
