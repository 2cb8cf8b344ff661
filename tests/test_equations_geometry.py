"""Shapes, set operations, and evenly distributed points inside and on boundaries."""

import math

import pytest
import torch
from scipy.special import ellipe

from hpctrain.problems.equations import (
    Ball,
    Box,
    Disk,
    Ellipse,
    GeometryError,
    HalfSpace,
    Interval,
    Polygon,
)
from hpctrain.problems.equations.geometry.sampling import (
    place_boundary_points,
    place_cube_points,
    place_interior_points,
)

SQUARE = Box(x=(-1, 1), y=(-1, 1))
L_SHAPE = Polygon([(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)])
CUT = HalfSpace(point=(0.5, 0), normal=(1, 0))
# Area, length of the boundary.
SHAPES = {
    "box": (Box(x=(0, 2), y=(0, 3)), 6, 10),
    "disk": (Disk(center=(1, 2), radius=0.5), math.pi / 4, math.pi),
    "ellipse": (Ellipse(center=(1, 2), semi_axes=(0.5, 1)), math.pi / 2, 4 * ellipe(0.75)),
    "polygon": (L_SHAPE, 3, 8),
    "difference": (SQUARE - Disk(center=(0, 0), radius=0.5), 4 - math.pi / 4, 8 + math.pi),
    "union": (SQUARE | Box(x=(0, 2), y=(-1, 1)), 6, 10),
    "intersection": (SQUARE & Disk(center=(0, 0), radius=1), math.pi, 2 * math.pi),
    "half-space": (SQUARE & CUT, 3, None),
}


def all_of(patch):
    return patch.holds


@pytest.mark.parametrize("name", SHAPES)
def test_points_inside_have_the_share_of_the_area(name):
    shape, area, _ = SHAPES[name]
    box = math.prod(high - low for low, high in shape.bounds)
    points = torch.stack(
        [
            low + (high - low) * row
            for row, (low, high) in zip(place_cube_points(2, 20_000), shape.bounds, strict=True)
        ]
    )
    assert float(shape.contains(points).double().mean()) * box == pytest.approx(area, rel=5e-3)


@pytest.mark.parametrize("name", SHAPES)
def test_the_distance_is_positive_inside_negative_or_zero_elsewhere(name):
    shape = SHAPES[name][0]
    points = 4 * torch.rand(2, 4000, dtype=torch.float64, generator=torch.manual_seed(0)) - 1.5
    inside = shape.contains(points)
    distance = shape.distance(points)
    assert bool((distance[inside] > 0).all()) and bool((distance[~inside] <= 0).all())


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "half-space"])
def test_points_of_the_boundary_are_on_it_with_outward_unit_normals(name):
    shape = SHAPES[name][0]
    points, normals = place_boundary_points(shape.pieces, 300, all_of, "all")
    assert points.shape == (2, 300)
    assert float(shape.distance(points).abs().max()) < 1e-12
    assert torch.allclose(normals.norm(dim=0), torch.ones(300, dtype=torch.float64))
    assert bool(shape.contains(points - 1e-6 * normals).all())
    assert not bool(shape.contains(points + 1e-6 * normals).any())


@pytest.mark.parametrize("name", ["box", "disk", "ellipse", "polygon", "difference", "union"])
def test_the_distance_is_the_length_close_to_the_boundary(name):
    shape, h = SHAPES[name][0], 1e-6
    points, normals = place_boundary_points(shape.pieces, 300, all_of, "all")
    close = shape.distance(points - h * normals) / h
    away = shape.distance(points + h * normals) / h
    ones = torch.ones(300, dtype=torch.float64)
    torch.testing.assert_close(close, ones, rtol=0, atol=1e-3)
    torch.testing.assert_close(away, -ones, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["box", "disk", "ellipse", "polygon", "difference", "union"])
def test_points_of_the_boundary_are_evenly_spread_along_its_length(name):
    shape, _, length = SHAPES[name]
    points, _ = place_boundary_points(shape.pieces, 2000, all_of, "all")
    distances = torch.cdist(points.T, points.T) + 9 * torch.eye(2000)
    nearest = distances.amin(dim=1)
    assert float(nearest.max()) < 4 * length / 2000


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
    "an infinite side": (lambda: Box(x=(0, math.inf)), "of finite numbers"),
    "no radius": (lambda: Disk(center=(0, 0), radius=0), "radius=0): it must be"),
    "a centre of three": (lambda: Disk(center=(0, 0, 0), radius=1), "for each of the axes x, y"),
    "a flat ellipse": (lambda: Ellipse((0, 0), (1, 0)), "semi_axes=(1, 0)): it must have two"),
    "an ellipse of three axes": (lambda: Ellipse((0, 0, 0), (1, 1)), "for each of two axes"),
    "two corners": (lambda: Polygon([(0, 0), (1, 1)]), "three or more corners"),
    "a flat polygon": (lambda: Polygon([(0, 0), (1, 1), (2, 2)]), "is empty"),
    "other axes": (lambda: SQUARE | Box(a=(0, 1), b=(0, 1)), "along (x, y) and (a, b)"),
    "the same axes": (lambda: SQUARE * SQUARE, "both have the axis x"),
    "far apart": (lambda: SQUARE & Disk(center=(5, 5), radius=1), "is empty"),
    "side by side": (lambda: SQUARE & Box(x=(1, 2), y=(-1, 1)), "is empty"),
    "nothing left": (
        lambda: place_interior_points(SQUARE - Disk(center=(0, 0), radius=3), 10),
        "the geometry is empty",
    ),
    "no bounds": (lambda: place_interior_points(CUT, 10), "is not bounded"),
}


@pytest.mark.parametrize("make, said", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_impossible_geometry_is_refused_in_one_line(make, said):
    with pytest.raises(GeometryError) as caught:
        make()
    assert said in str(caught.value) and "\n" not in str(caught.value)
