"""Where equations hold: shapes, their set operations, and points inside and on the boundary."""

from hpctrain.problems.equations.geometry.base import Geometry, GeometryError, Piece, Product
from hpctrain.problems.equations.geometry.mesh import Mesh
from hpctrain.problems.equations.geometry.shapes import (
    Ball,
    Box,
    Disk,
    Ellipse,
    HalfSpace,
    Interval,
    Polygon,
)

__all__ = [
    "Ball",
    "Box",
    "Disk",
    "Ellipse",
    "Geometry",
    "GeometryError",
    "HalfSpace",
    "Interval",
    "Mesh",
    "Piece",
    "Polygon",
    "Product",
]
