"""Equations evaluated on functions, for what they and their forms are known to give there."""

import torch

from hpctrain.problems.equations import At, Field
from hpctrain.problems.equations.ansatz import Form, evaluate_jets
from hpctrain.problems.equations.exact import make_exact_forms
from hpctrain.problems.equations.geometry.sampling import place_interior_points
from hpctrain.problems.equations.points import make_grid_points


def at(equations, points):
    return At(equations.frame.axes, points)


def inside(equations, count):
    return place_interior_points(equations.frame.region, count)


def grid_of(equations, *counts):
    return make_grid_points(equations.frame.region.bounds, counts)


def reference(equations, points):
    return equations.reference(at(equations, points))


def field_of(equations, function, points, name="u", normals=None):
    """A function of points (d, N) as a field of the equations."""
    axes = equations.frame.axes

    def component(index):
        if isinstance(index, str):
            return sum(component((i, i)) for i in axes.space)
        below = [index[:k] for k in range(len(index) + 1)]
        return evaluate_jets(function, points, below, (), name)[index]

    return Field(name, axes, component, normals)


def residual_of(equations, function, points):
    """R(u) (N,) of equations of one field, on a function."""
    u = field_of(equations, function, points)
    return equations.residuals(at(equations, points), u)


def formed(equations, points, network, index=()):
    """A derivative of G + D·N (N,) for the single field, N a function of points."""
    form = make_exact_forms(equations)[equations.fields[0]]
    below = [index[:k] for k in range(len(index) + 1)]
    G, D, N = (
        evaluate_jets(f, points, below, (), "") for f in (form.lifting, form.distance, network)
    )
    return Form(G, D).component(index, N.__getitem__)


def noise(points):
    """A function whose values look random: no network is like it."""
    return 1e3 * torch.sin(1e4 * (points * torch.arange(1, len(points) + 1)[:, None]).sum(0))
