"""Shapes, set operations, and evenly distributed points inside and on boundaries."""

import math

import numpy as np
import pytest
import torch
from scipy.special import ellipe

from hpctrain.problems.equations import (
    Ball,
    Box,
    Dirichlet,
    Disk,
    Ellipse,
    Equations,
    GeometryError,
    HalfSpace,
    Interval,
    Polygon,
    ProblemError,
)
from hpctrain.problems.equations.exact import make_exact_forms
from hpctrain.problems.equations.geometry.sampling import (
    place_boundary_points,
    place_cube_points,
    place_interior_points,
)

SQUARE = Box(x=(-1, 1), y=(-1, 1))
L_SHAPE = Polygon([(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)])
CUT = HalfSpace(point=(0.5, 0), normal=(1, 0))
BELOW, LEFT = HalfSpace((0, 0), (0, 1)), HalfSpace((0, 0), (1, 0))
DISK = Disk(center=(0, 0), radius=1)
HALF_DISK = DISK & BELOW
SLANTED = HalfSpace((0, 0, 0), (1, -2, 2), axes="xyz")
# Length, area or volume, and that of the boundary.
SHAPES = {
    "box": (Box(x=(0, 2), y=(0, 3)), 6, 10),
    "disk": (Disk(center=(1, 2), radius=0.5), math.pi / 4, math.pi),
    "ellipse": (Ellipse(center=(1, 2), semi_axes=(0.5, 1)), math.pi / 2, 4 * ellipe(0.75)),
    "polygon": (L_SHAPE, 3, 8),
    "difference": (SQUARE - Disk(center=(0, 0), radius=0.5), 4 - math.pi / 4, 8 + math.pi),
    "union": (SQUARE | Disk(center=(1, 0), radius=0.5), 4 + math.pi / 8, 7 + math.pi / 2),
    "union along sides": (SQUARE | Box(x=(0, 2), y=(-1, 1)), 6, 10),
    "difference along sides": (SQUARE - Box(x=(0, 1), y=(-1, 1)), 2, 6),
    "intersection": (SQUARE & Disk(center=(0, 0), radius=1), math.pi, 2 * math.pi),
    "half-space": (SQUARE & CUT, 3, 7),
    "half-space first": (CUT & SQUARE, 3, 7),
    "along a side": (SQUARE & HalfSpace((1, 5), (1, 0)), 4, 8),
    "past the disk": (DISK & HalfSpace((0, 7), (0, 1)), math.pi, 2 * math.pi),
    "half disk": (HALF_DISK, math.pi / 2, math.pi + 2),
    "half disk taken away": (DISK - BELOW, math.pi / 2, math.pi + 2),
    "segment": (
        DISK & HalfSpace((0.3, 0.4), (-3, -4)),
        math.pi / 3 - 3**0.5 / 4,
        math.pi * 2 / 3 + 3**0.5,
    ),
    "quarter disk": (DISK & (BELOW & LEFT), math.pi / 4, math.pi / 2 + 2),
    "three quarters": (DISK - (BELOW & LEFT), math.pi * 3 / 4, math.pi * 3 / 2 + 2),
    "quarter left": (DISK - (BELOW | LEFT), math.pi / 4, math.pi / 2 + 2),
    "half-space or disk": (
        (BELOW | DISK) & Box(x=(-2, 2), y=(-2, 2)),
        8 + math.pi / 2,
        10 + math.pi,
    ),
    "two halves": ((DISK & BELOW) | (DISK - BELOW), math.pi, 2 * math.pi),
    "flat": (Box(x=(0, 1e3), y=(0, 1)) & HalfSpace((500, 0.5), (0.8, 0.6)), 500, 1002.25),
    "interval": (Interval(x=(0, 3)) & HalfSpace((2,), (4,), axes="x"), 2, 2),
    "half ball": (Ball((0, 0, 0), 1) & SLANTED, math.pi * 2 / 3, 3 * math.pi),
    "half a cylinder": (Interval(z=(0, 2)) * HALF_DISK, math.pi, 2 * (math.pi + 2) + math.pi),
    "cylinder and half-space": (
        (Interval(z=(0, 2)) * DISK) & HalfSpace((1, 0, 0), (1, 0, 0), axes="zxy"),
        math.pi,
        4 * math.pi,
    ),
    "half-space times interval": (
        Box(z=(-1, 2), x=(-1, 1), y=(-2, 1)) & (Interval(z=(0, 9)) * BELOW),
        8,
        24,
    ),
}


def all_of(patch):
    return patch.holds


@pytest.mark.parametrize("name", SHAPES)
def test_points_inside_have_the_share_of_the_area(name):
    shape, area, _ = SHAPES[name]
    box = math.prod(high - low for low, high in shape.bounds)
    assert float(shape.contains(spread(shape, 20_000)).double().mean()) * box == pytest.approx(
        area, rel=5e-3
    )


def spread(shape, count):
    """Points (d, N) of its bounding box."""
    low, high = torch.tensor(shape.bounds, dtype=torch.float64).T[..., None]
    return low + (high - low) * place_cube_points(len(low), count)


@pytest.mark.parametrize("name", SHAPES)
def test_the_distance_is_positive_inside_negative_or_zero_elsewhere(name):
    shape = SHAPES[name][0]
    random = torch.rand(len(shape.axes), 4000, dtype=torch.float64, generator=torch.manual_seed(0))
    points = 4 * random - 1.5
    inside = shape.contains(points)
    distance = shape.distance(points)
    assert bool((distance[inside] > 0).all()) and bool((distance[~inside] <= 0).all())


@pytest.mark.parametrize("name", SHAPES)
def test_points_of_the_boundary_are_on_it_with_outward_unit_normals(name):
    shape = SHAPES[name][0]
    points, normals = place_boundary_points(shape.pieces, 300, all_of, "all")
    assert points.shape == (len(shape.axes), 2 if len(shape.axes) == 1 else 300)
    extent = max(high - low for low, high in shape.bounds)
    assert float(shape.distance(points).abs().max()) < 1e-12 * extent
    assert torch.allclose(normals.norm(dim=0), torch.ones(points.shape[1], dtype=torch.float64))
    assert bool(shape.contains(points - 1e-6 * normals).all())
    assert not bool(shape.contains(points + 1e-6 * normals).any())


@pytest.mark.parametrize("name", SHAPES)
def test_pieces_have_the_measure_of_the_boundary_together(name):
    shape, _, boundary = SHAPES[name]
    cubes = [(piece, place_cube_points(piece.parameters, 20_000)) for piece in shape.pieces]
    found = sum(piece.measure * float(piece.map(u).holds.double().mean()) for piece, u in cubes)
    assert found == pytest.approx(boundary, rel=2e-3)


@pytest.mark.parametrize("name", SHAPES)
def test_what_flows_through_the_boundary_is_the_divergence_inside(name):
    """∮ F·n = ∫ div F, F_i = (s_i + i)² + Σ s with coordinates s of the bounding box."""
    shape, volume, boundary = SHAPES[name]
    low, high = torch.tensor(shape.bounds, dtype=torch.float64).T[..., None]
    numbers = torch.arange(1.0, len(low) + 1)[:, None]

    inside = (place_interior_points(shape, 20_000) - low) / (high - low)
    divergence = ((2 * (inside + numbers) + 1) / (high - low)).sum(dim=0)
    points, normals = place_boundary_points(shape.pieces, 20_000, all_of, "all")
    s = (points - low) / (high - low)
    flow = (((s + numbers) ** 2 + s.sum(dim=0)) * normals).sum(dim=0)
    assert float(flow.mean()) * boundary == pytest.approx(
        float(divergence.mean()) * volume, rel=1e-2
    )


def test_a_cut_has_its_share_of_the_points_of_a_boundary():
    points, normals = place_boundary_points(HALF_DISK.pieces, 5000, all_of, "all")
    on_cut = points[1].abs() < 1e-12
    assert float(on_cut.double().mean()) == pytest.approx(2 / (2 + math.pi), rel=2e-3)
    along = points[0, on_cut].sort().values
    assert float(along.diff().max()) < 3 * 2 / len(along)
    assert float(along.abs().max()) <= 1 and float(along.mean().abs()) < 1e-2
    assert bool((normals[1, on_cut] == 1).all())


def test_a_cut_is_chosen_by_its_name_and_gone_where_it_passes_by():
    named = HalfSpace((0, 0), (0, 1), name="floor")
    assert [piece.name for piece in (DISK & named).pieces] == ["circle", "floor"]
    assert [piece.name for piece in (DISK & HalfSpace((0, 7), (0, 1))).pieces] == ["circle"]


@pytest.mark.parametrize(
    "name", ["box", "disk", "ellipse", "polygon", "difference", "union", "half disk"]
)
def test_the_distance_is_the_length_close_to_the_boundary(name):
    shape, h = SHAPES[name][0], 1e-6
    points, normals = place_boundary_points(shape.pieces, 300, all_of, "all")
    close = shape.distance(points - h * normals) / h
    away = shape.distance(points + h * normals) / h
    ones = torch.ones(300, dtype=torch.float64)
    torch.testing.assert_close(close, ones, rtol=0, atol=1e-3)
    torch.testing.assert_close(away, -ones, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "name", ["box", "disk", "ellipse", "polygon", "difference", "union", "half disk"]
)
def test_points_of_the_boundary_are_evenly_spread_along_its_length(name):
    shape, _, length = SHAPES[name]
    points, _ = place_boundary_points(shape.pieces, 2000, all_of, "all")
    distances = torch.cdist(points.T, points.T) + 9 * torch.eye(2000)
    nearest = distances.amin(dim=1)
    assert float(nearest.max()) < 4 * length / 2000


def test_sides_are_told_where_coordinates_have_other_units():
    shape = Box(x=(0, 1e5), y=(0, 1e-6)) & HalfSpace((2.5e4, 0), (1, 0))
    held = {p.name: p.map(place_cube_points(1, 400)).holds.double().mean() for p in shape.pieces}
    assert held == {"x.low": 1, "x.high": 0, "y.low": 0.25, "y.high": 0.25, "cut": 1}


class Held(Equations):
    """Zero on the whole boundary in space."""

    conditions = (Dirichlet({"u": 0.0}, exact=True),)

    def residuals(self, at, u):
        return u.laplacian + 1


# Shares of the boundary that lie on a plane.
HELD = {
    "half disk": 2 / (2 + math.pi),
    "half disk taken away": 2 / (2 + math.pi),
    "three quarters": 1 / (2 + 1.5 * math.pi),
    "half-space or disk": 2 / (10 + math.pi),
    "half ball": 1 / 3,
}
AROUND = {
    "alone": lambda shape: (shape, {}),
    "in time": lambda shape: (Interval(t=(0, 3)) * shape, {}),
    "of a family": lambda shape: (Interval(t=(0, 3)) * shape, {"k": (1, 2)}),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", HELD)
def test_conditions_hold_on_cuts_as_terms_and_exactly(name, around):
    geometry, inputs = AROUND[around](SHAPES[name][0])
    held = type("Mine", (Held,), {"geometry": geometry, "inputs": inputs})()
    points = held.conditions[0].make_term(held.frame, "Dirichlet", 500).points
    first = len(held.frame.axes.names) - len(inputs) - len(SHAPES[name][0].axes)
    space = points[first : len(points) - len(inputs)]
    plane = (SLANTED if name == "half ball" else BELOW).distance(space)
    share = float((plane.abs() < 1e-12).double().mean())
    assert share == pytest.approx(HELD[name], abs=5e-3)
    distance = make_exact_forms(held)["u"].distance
    assert float(distance(points).abs().max()) < 1e-12
    assert float(distance(place_interior_points(held.frame.region, 2000)).min()) > 0


def test_a_cut_alone_may_be_held_and_a_geometry_without_bounds_is_refused():
    conditions = (Dirichlet({"u": 0.0}, on="cut", exact=True),)
    held = type("Mine", (Held,), {"geometry": HALF_DISK, "conditions": conditions})()
    points = place_interior_points(HALF_DISK, 100)
    assert torch.equal(make_exact_forms(held)["u"].distance(points), -points[1])
    for free in (BELOW, DISK | BELOW, BELOW & LEFT, Interval(t=(0, 1)) * BELOW):
        with pytest.raises(
            ProblemError, match=r"^Mine\.geometry is not bounded along x, y: cut it"
        ):
            type("Mine", (Held,), {"geometry": free})()


def test_a_ball_in_five_dimensions_has_its_surface():
    ball = Ball(center=(0.5,) * 5, radius=2, axes="abcde")
    (piece,) = ball.pieces
    assert piece.measure == pytest.approx(8 / 3 * math.pi**2 * 16)
    points, normals = place_boundary_points(ball.pieces, 500, all_of, "all")
    assert torch.allclose((points - 0.5).norm(dim=0), torch.full((500,), 2.0).double())
    assert torch.allclose(points - 2 * normals, torch.full((5, 500), 0.5).double())
    assert float(normals.mean(dim=1).abs().max()) < 0.05


def test_a_product_with_time_keeps_pieces_names_and_normals():
    region = Interval(t=(0, 2)) * Disk(center=(0, 0), radius=1, name="rim")
    assert region.axes == ("t", "x", "y")
    assert [piece.name for piece in region.pieces] == ["t.low", "t.high", "rim"]
    rim = [piece for piece in region.pieces if piece.name == "rim"]
    points, normals = place_boundary_points(rim, 200, all_of, "rim")
    assert torch.allclose(points[1:].norm(dim=0), torch.ones(200).double())
    assert bool((normals[0] == 0).all()) and torch.allclose(points[1:], normals[1:])
    first = [piece for piece in region.pieces if piece.name == "t.low"]
    start, _ = place_boundary_points(first, 100, all_of, "t.low")
    assert bool((start[0] == 0).all()) and float(start[1:].norm(dim=0).max()) <= 1


def test_the_sides_of_a_polygon_are_numbered_from_its_first_corner():
    first, *_, last = L_SHAPE.pieces
    assert (first.name, last.name) == ("edges.1", "edges.6")
    points, _ = place_boundary_points([first], 50, all_of, "the first side")
    assert bool((points[1] == 0).all())


@pytest.mark.parametrize(
    "corners",
    [[(0, 0), (1, 0), (1, 1), (0, 0)], np.array([(0, 0), (1, 0), (1, 1)]), np.eye(3, 2)[[2, 0, 1]]],
    ids=["a closed ring", "integers of NumPy", "numbers of NumPy"],
)
def test_corners_may_close_the_ring_and_be_of_numpy(corners):
    shape = Polygon(corners)
    assert len(shape.pieces) == 3
    assert float(shape.contains(spread(shape, 5000)).double().mean()) == pytest.approx(
        0.5, abs=5e-3
    )


def test_numbers_of_numpy_are_numbers():
    side = np.array([0, 1])
    for box in (Box(t=(np.int64(0), np.float32(1))), Box(t=side), Interval(t=list(side))):
        assert box.bounds == ((0.0, 1.0),)
    assert Disk(np.zeros(2, int), np.float32(2)).bounds == ((-2.0, 2.0),) * 2
    assert HalfSpace(np.zeros(2), np.ones(2, int)).axes == ("x", "y")


def test_collinear_corners_and_many_of_them_are_allowed():
    angles = 2 * math.pi * np.arange(500) / 500
    ring = Polygon(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    assert len(ring.pieces) == 500
    assert len(Polygon([(0, 0), (1, 0), (2, 0), (2, 1), (0, 1)]).pieces) == 5


def test_an_empty_geometry_is_told_after_few_points(monkeypatch):
    shape, tried = SQUARE - Disk(center=(0, 0), radius=3), []
    contains = shape.contains
    monkeypatch.setattr(shape, "contains", lambda x: tried.append(x.shape[1]) or contains(x))
    with pytest.raises(GeometryError, match="is empty"):
        place_interior_points(shape, 2000)
    assert sum(tried) < 2e6


def test_the_union_of_two_boxes_has_no_boundary_where_they_meet():
    shape = Box(x=(0, 1), y=(0, 1)) | Box(x=(1, 2), y=(0, 1))
    points, _ = place_boundary_points(shape.pieces, 600, all_of, "all")
    assert not bool(((points[0] == 1) & (points[1] > 0.01) & (points[1] < 0.99)).any())


@pytest.mark.parametrize("dimension", [1, 2, 4, 5, 20])
def test_cube_points_are_inside_and_evenly_distributed(dimension):
    u = place_cube_points(dimension, 1000)
    assert u.shape == (dimension, 1000) and float(u.min()) > 0 and float(u.max()) < 1
    assert float((u.mean(dim=1) - 0.5).abs().max()) < 0.01
    assert torch.equal(u, place_cube_points(dimension, 1000))


def test_so_many_interior_points_are_given_as_are_asked_for():
    shape = SQUARE - Disk(center=(0, 0), radius=0.9)
    for count in (1, 7, 100, 1001):
        points = place_interior_points(shape, count)
        assert points.shape == (2, count) and bool(shape.contains(points).all())


IMPOSSIBLE = {
    "no axes": (lambda: Box(), "has no axes"),
    "a reversed side": (lambda: Box(x=(1, 0)), "Box(x=(1, 0)): it must be a pair (low, high)"),
    "a truth value": (lambda: Box(x=(False, True)), "of finite numbers"),
    "an infinite side": (lambda: Box(x=(0, math.inf)), "of finite numbers"),
    "no radius": (lambda: Disk(center=(0, 0), radius=0), "radius=0): it must be"),
    "a centre of three": (lambda: Disk(center=(0, 0, 0), radius=1), "for each of the axes x, y"),
    "a flat ellipse": (lambda: Ellipse((0, 0), (1, 0)), "semi_axes=(1, 0)): it must have two"),
    "an ellipse of three axes": (lambda: Ellipse((0, 0, 0), (1, 1)), "for each of two axes"),
    "a number for a center": (lambda: Disk(3, 1), "Disk(center=3): it must have a finite number"),
    "a number for semi-axes": (
        lambda: Ellipse((0, 0), 2),
        "Ellipse(semi_axes=2): it must have two finite numbers",
    ),
    "a number for a point": (lambda: HalfSpace(0, (0, 1)), "HalfSpace(point=0, normal=(0, 1)): "),
    "two corners": (lambda: Polygon([(0, 0), (1, 1)]), "three or more corners"),
    "numbers for corners": (lambda: Polygon([1, 2, 3]), "pairs of finite numbers"),
    "a corner twice": (
        lambda: Polygon([(0, 0), (1, 0), (1, 0), (0, 1)]),
        "has the corner (1.0, 0.0) twice: each must be there once",
    ),
    "a crossing": (
        lambda: Polygon([(0, 0), (1, 1), (1, 0), (0, 1.5)]),
        "touches itself: its edges from (0.0, 0.0) to (1.0, 1.0) and from (1.0, 0.0) to (0.0, 1.5)",
    ),
    "a corner on an edge": (
        lambda: Polygon([(0, 0), (2, 0), (2, 2), (1, 0), (0, 2)]),
        "touches itself",
    ),
    "a spike": (lambda: Polygon([(0, 0), (2, 0), (1, 0), (1, 1)]), "touches itself"),
    "a last spike": (lambda: Polygon([(1, 0), (2, 0), (2, 1), (3, 0)]), "touches itself"),
    "a flat polygon": (lambda: Polygon([(0, 0), (1, 1), (2, 2)]), "is empty"),
    "other axes": (lambda: SQUARE | Box(a=(0, 1), b=(0, 1)), "along (x, y) and (a, b)"),
    "the same axes": (lambda: SQUARE * SQUARE, "both have the axis x"),
    "far apart": (lambda: SQUARE & Disk(center=(5, 5), radius=1), "is empty"),
    "side by side": (lambda: SQUARE & Box(x=(1, 2), y=(-1, 1)), "is empty"),
    "nothing left": (
        lambda: place_interior_points(SQUARE - Disk(center=(0, 0), radius=3), 10),
        "the geometry is empty",
    ),
    "a point at infinity": (
        lambda: HalfSpace((math.nan, 0), (0, 1)),
        "each must have a finite number for each of",
    ),
    "a normal without length": (lambda: HalfSpace((0, 0), (0, 0)), "and the normal a length"),
    "a plane without bounds": (lambda: CUT.pieces, "(1, 0)) is not bounded: cut it from a box"),
    "no bounds": (lambda: place_interior_points(CUT, 10), "is not bounded"),
}


@pytest.mark.parametrize("make, said", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_impossible_geometry_is_refused_in_one_line(make, said):
    with pytest.raises(GeometryError) as caught:
        make()
    assert said in str(caught.value) and "\n" not in str(caught.value)
