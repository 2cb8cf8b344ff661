"""Geometry from mesh files: measures, sides, names, and what is refused."""

import math
import re

import meshio
import numpy as np
import pytest
import torch

from hpctrain.problems.equations import (
    Ball,
    Dirichlet,
    Equations,
    GeometryError,
    Mesh,
    ProblemError,
)
from hpctrain.problems.equations.exact import make_exact_forms
from hpctrain.problems.equations.geometry.sampling import (
    place_boundary_points,
    place_interior_points,
)

TORUS = (1.0, 0.4)


def ring(count=64, inner=0.5, kind="triangle"):
    """A plane ring of quadrilaterals or triangles between two regular polygons."""
    angle = 2 * np.pi * np.arange(count) / count
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.concatenate([circle, inner * circle])
    next_one = (np.arange(count) + 1) % count
    quads = np.stack([np.arange(count), next_one, count + next_one, count + np.arange(count)], 1)
    if kind == "quad":
        return points, quads
    return points, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def torus_surface(m=24, n=12):
    """Triangles of a torus, all turned the same way."""
    R, r = TORUS
    s, t = (2 * np.pi * k / count for k, count in zip(np.indices((m, n)), (m, n), strict=True))
    points = np.stack(
        [(R + r * np.cos(t)) * np.cos(s), (R + r * np.cos(t)) * np.sin(s), r * np.sin(t)]
    )
    i, j = np.indices((m, n))
    a, b, c, d = (
        ((i + di) % m * n + (j + dj) % n).ravel() for di, dj in ((0, 0), (1, 0), (1, 1), (0, 1))
    )
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return points.reshape(3, -1).T, triangles


def write(path, points, **cells):
    meshio.Mesh(points, list(cells.items())).write(path)
    return path


def share_inside(shape, count=5_000):
    """The measure of what a shape contains, by random points of its box."""
    d = len(shape.bounds)
    u = torch.rand(d, count, dtype=torch.float64, generator=torch.manual_seed(0))
    low, high = (
        torch.tensor(ends, dtype=torch.float64)[:, None] for ends in zip(*shape.bounds, strict=True)
    )
    box = float((high - low).prod())
    return box * float(shape.contains(low + (high - low) * u).double().mean())


@pytest.mark.parametrize("kind", ["triangle", "quad"])
def test_a_plane_mesh_has_its_hole_and_its_boundary(tmp_path, kind):
    points, cells = ring(kind=kind)
    shape = Mesh(
        write(tmp_path / "ring.vtu", np.pad(points, ((0, 0), (0, 1))), **{kind: cells}),
        axes=("x", "y"),
    )
    area = 32 * math.sin(2 * math.pi / 64) * (1 - 0.25)
    assert share_inside(shape) == pytest.approx(area, rel=0.04)
    side = 2 * math.sin(math.pi / 64)
    (surface,) = shape.pieces
    assert surface.measure == pytest.approx(64 * side * 1.5)
    x, normals = place_boundary_points(shape.pieces, 300, lambda patch: patch.holds, "none")
    radius = x.norm(dim=0)
    is_outer = radius > 0.75
    outward = (x * normals).sum(dim=0) / radius
    assert (outward[is_outer] > 0.99).all() and (outward[~is_outer] < -0.99).all()
    assert is_outer.double().mean().item() == pytest.approx(2 / 3, abs=0.01)


def test_lines_alone_enclose_a_region_whatever_their_sense(tmp_path):
    points, _ = ring(count=32)
    lines = [[k + shift, (k + 1) % 32 + shift] for shift in (0, 32) for k in range(32)]
    lines = [line[::-1] if k % 3 else line for k, line in enumerate(lines)]
    shape = Mesh(
        write(tmp_path / "ring.vtk", np.pad(points, ((0, 0), (0, 1))), line=np.array(lines)),
        axes=("x", "y"),
    )
    origin, between = torch.tensor([[0.0, 0.7], [0.0, 0.1]], dtype=torch.float64).T
    assert shape.contains(torch.stack([origin, between], 1)).tolist() == [False, True]


@pytest.mark.parametrize("turned", [False, True])
def test_a_surface_encloses_its_volume(tmp_path, turned):
    points, triangles = torus_surface()
    if turned:
        triangles = triangles[:, ::-1]
    shape = Mesh(write(tmp_path / "torus.stl", points, triangle=triangles))
    R, r = TORUS
    volume = abs(np.linalg.det(points[triangles]).sum()) / 6
    assert share_inside(shape) == pytest.approx(volume, rel=0.06)
    assert sum(piece.measure for piece in shape.pieces) == pytest.approx(
        4 * math.pi**2 * R * r, rel=0.03
    )
    x, normals = place_boundary_points(shape.pieces, 200, lambda patch: patch.holds, "none")
    around = torch.hypot(x[0], x[1])
    axis = torch.stack([x[0] * R / around, x[1] * R / around, torch.zeros_like(x[0])])
    outward = ((x - axis) / (x - axis).norm(dim=0) * normals).sum(dim=0)
    assert (outward > 0.95).all()


def test_distances_are_those_of_the_nearest_facet(tmp_path):
    """A cube of tetrahedra: distances from a box are known."""
    corners = np.array(np.meshgrid([0, 2], [0, 2], [0, 2], indexing="ij"), float).reshape(3, 8).T
    tetrahedra = np.array(
        [[0, 1, 3, 7], [0, 1, 5, 7], [0, 2, 3, 7], [0, 2, 6, 7], [0, 4, 5, 7], [0, 4, 6, 7]]
    )
    shape = Mesh(write(tmp_path / "cube.vtu", corners, tetra=tetrahedra))
    assert list(shape.bounds) == [(0, 2)] * 3
    x = 4 * torch.rand(3, 500, dtype=torch.float64, generator=torch.manual_seed(1)) - 1
    inside = ((x > 0) & (x < 2)).all(dim=0)
    within = torch.minimum(x, 2 - x).min(dim=0).values
    outside = torch.relu(torch.maximum(-x, x - 2)).norm(dim=0)
    assert torch.equal(shape.contains(x), inside)
    assert torch.allclose(shape.distance(x), torch.where(inside, within, -outside), atol=1e-14)


def test_pieces_have_the_names_of_physical_groups(tmp_path):
    points, triangles = ring(count=32)
    lines = np.array([[k + shift, (k + 1) % 32 + shift] for shift in (0, 32) for k in range(32)])
    tags = [np.ones(len(triangles), int), np.repeat([7, 8], 32)]
    mesh = meshio.Mesh(
        np.pad(points, ((0, 0), (0, 1))),
        [("triangle", triangles), ("line", lines)],
        cell_data={"gmsh:physical": tags, "gmsh:geometrical": tags},
        field_data={"wing": np.array([8, 1]), "far": np.array([7, 1]), "air": np.array([1, 2])},
    )
    mesh.write(tmp_path / "ring.msh", file_format="gmsh22")
    shape = Mesh(tmp_path / "ring.msh", axes=("x", "y"))
    lengths = {piece.name: piece.measure for piece in shape.pieces}
    assert lengths == pytest.approx(
        {"far": 64 * math.sin(math.pi / 32), "wing": 32 * math.sin(math.pi / 32)}
    )


def test_set_operations_take_meshes(tmp_path):
    points, triangles = torus_surface()
    shape = Mesh(write(tmp_path / "torus.stl", points, triangle=triangles)) - Ball(
        (1.0, 0.0, 0.0), 0.7
    )
    inside = place_interior_points(shape, 60)
    assert ((inside[0] - 1) ** 2 + inside[1] ** 2 + inside[2] ** 2 > 0.49).all()
    names = {piece.name for piece in shape.pieces}
    assert names == {"surface", "sphere"}


def test_exact_conditions_are_refused(tmp_path):
    points, triangles = torus_surface()
    shape = Mesh(write(tmp_path / "torus.stl", points, triangle=triangles))

    class Laplace(Equations):
        geometry = shape
        conditions = (Dirichlet({"u": 0.0}, exact=True),)

        def residuals(self, at, u):
            return u.laplacian - 1

    with pytest.raises(ProblemError, match="smooth distance, which the mesh of surface does not"):
        make_exact_forms(Laplace())


def open_box(tmp_path):
    points, triangles = torus_surface()
    return Mesh(write(tmp_path / "open.stl", points, triangle=triangles[1:]))


def turned_facet(tmp_path):
    points, triangles = torus_surface()
    triangles[5] = triangles[5, ::-1]
    return Mesh(write(tmp_path / "turned.stl", points, triangle=triangles))


def plane_in_space(tmp_path):
    points, triangles = torus_surface()
    return Mesh(write(tmp_path / "torus.stl", points, triangle=triangles), axes=("x", "y"))


def no_mesh(tmp_path):
    (tmp_path / "no.vtu").write_text("<VTKFile")
    return Mesh(tmp_path / "no.vtu")


def unknown_kind(tmp_path):
    (tmp_path / "no.mesh3").write_text("")
    return Mesh(tmp_path / "no.mesh3")


def vertices_only(tmp_path):
    return Mesh(write(tmp_path / "v.vtu", np.eye(3), vertex=np.arange(3)[:, None]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            open_box,
            r"open\.stl'\) is open: its boundary has 3 ends without a neighbour, one at x =",
        ),
        (turned_facet, "neighbouring facets are turned to different sides"),
        (plane_in_space, "has points with 3 coordinates: name that many axes, here x, y"),
        (no_mesh, r"no\.vtu'\) cannot be read: "),
        (unknown_kind, r"no\.mesh3'\) cannot be read: "),
        (
            vertices_only,
            "has vertex: along x, y, z it must have tetra, hexahedron, wedge, pyramid, or",
        ),
        (lambda _: Mesh("missing.msh"), r"missing\.msh'\) cannot be read: "),
    ],
)
def test_a_file_that_encloses_nothing_is_refused(tmp_path, make, message):
    with pytest.raises(GeometryError, match=message) as caught:
        make(tmp_path)
    assert not re.search("\n", str(caught.value))
