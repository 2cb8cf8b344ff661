"""Files of predicted values: tables, and files for ParaView.

Each is written a block of points after the other.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hpctrain.errors import InputError
from hpctrain.problems.data import tables
from hpctrain.results.outputs.vtk import StructuredWriter, UnstructuredWriter
from hpctrain.results.outputs.xdmf import XdmfWriter
from hpctrain.results.points import Points

PICTURES = (".vtu", ".vts", ".xdmf")


def check_end(output: Path, ends: tuple[str, ...] = (*tables.ENDS, *PICTURES)) -> None:
    """Refuses an output of a kind that is not written, before any work."""
    if output.suffix not in ends:
        allowed = f"{', '.join(ends[:-1])} or {ends[-1]}"
        raise InputError(f"-o {output} is not allowed: its name must end in {allowed}")


def order_points(output: Path, points: Points) -> Points:
    """Orders the points as an output takes them, which for XDMF is by time.

    Raises:
        InputError: the output cannot hold such points.
    """
    if output.suffix == ".xdmf":
        points = points.follow_time()
    if output.suffix == ".vts":
        wide = [name for name, values in points.axes.items() if len(values) > 1]
        if not points.axes or points.outer or len(wide) > 3:
            raise InputError(
                f"-o {output} takes a grid of at most 3 coordinates that vary, not"
                f" {points.source}: write .vtu or .xdmf"
            )
    return points


def make_writer(path: Path, points: Points, columns: Mapping[str, np.dtype]) -> tables.Writer:
    """Makes what writes columns at the points, coordinates among them.

    Raises:
        InputError: the output cannot hold such points.
        OSError: it cannot be made.
    """
    if path.suffix == ".vtu":
        return UnstructuredWriter(path, points, columns)
    if path.suffix == ".vts":
        return StructuredWriter(path, points, columns)
    if path.suffix == ".xdmf":
        return XdmfWriter(path, points, columns)
    return tables.make_writer(path, columns, points.count)
