"""Panels of a solution: the prediction, its reference, and how far apart they are."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import FigureBase

from hpctrain.store.run_file import INTERVAL, STANDARD_ERROR

Solution = Mapping[str, np.ndarray]
# The smallest error that is told apart on the colour scale, as a share of the largest.
SHOWN_RANGE = 1e-5


def can_draw(solution: Solution | None) -> bool:
    """Whether a solution lies on a grid of one or two coordinates."""
    if solution is None or not list_fields(solution):
        return False
    axes = _list_coordinates(solution)
    shape = solution[_title("prediction", list_fields(solution)[0])].shape
    return len(axes) in (1, 2) and shape == tuple(len(values) for values in axes.values())


def list_fields(solution: Solution) -> list[str]:
    """Lists the names of the fields; "" for a single one without a name."""
    starts = (name.partition("_") for name in solution)
    return [field for start, _, field in starts if start == "prediction"]


def draw(figure: FigureBase, solution: Solution) -> None:
    """Fills the figure with the panels that there is data for, a row for each field."""
    names = list_fields(solution)
    is_curve = len(_list_coordinates(solution)) == 1
    rows = figure.subfigures(len(names), 1, squeeze=False)[:, 0] if len(names) > 1 else [figure]
    for row, name in zip(rows, names, strict=True):
        (_draw_curves if is_curve else _draw_maps)(row, solution, name)


def _title(what: str, field: str) -> str:
    return f"{what}_{field}" if field else what


def _list_coordinates(solution: Solution) -> dict[str, np.ndarray]:
    others = ("prediction", "reference", STANDARD_ERROR, INTERVAL)
    return {name: values for name, values in solution.items() if not name.startswith(others)}


def _draw_curves(figure: FigureBase, solution: Solution, field: str) -> None:
    [(name, x)] = _list_coordinates(solution).items()
    prediction = solution[_title("prediction", field)]
    reference = solution.get(_title("reference", field))
    axes = figure.subplots(1, 1 if reference is None else 2, squeeze=False)[0]
    if reference is not None:
        axes[0].plot(x, reference, color="0.6", linewidth=3, label="reference")
        axes[1].semilogy(x, np.abs(prediction - reference), color="C1")
        axes[1].set(title=f"{field} absolute error".strip(), xlabel=name)
    axes[0].plot(x, prediction, label="prediction")
    axes[0].set(title=field or "solution", xlabel=name)
    axes[0].legend()


def _draw_maps(figure: FigureBase, solution: Solution, field: str) -> None:
    prediction = solution[_title("prediction", field)]
    reference = solution.get(_title("reference", field))
    axes = figure.subplots(1, 1 if reference is None else 3, squeeze=False)[0]
    shown = prediction if reference is None else reference
    limits = {"vmin": float(np.nanmin(shown)), "vmax": float(np.nanmax(shown))}
    _draw_map(figure, axes[0], f"{field} prediction".strip(), prediction, solution, **limits)
    if reference is not None:
        _draw_map(figure, axes[1], f"{field} reference".strip(), reference, solution, **limits)
        error = np.abs(prediction - reference)
        norm, floored = _make_log_scale(error)
        title = f"{field} absolute error".strip()
        _draw_map(figure, axes[2], title, floored, solution, norm=norm, cmap="magma")


def _make_log_scale(error: np.ndarray) -> tuple[LogNorm, np.ndarray]:
    """A logarithmic scale over the top decades of the error, and the error raised to its floor."""
    top = max(float(np.nanmax(error)), float(np.finfo(float).eps))
    floor = min(top / 10, max(top * SHOWN_RANGE, float(np.nanmin(error))))
    return LogNorm(floor, top), np.maximum(error, floor)


def _draw_map(
    figure: FigureBase, axes: Axes, title: str, field: np.ndarray, solution: Solution, **scale
) -> None:
    """A field (first coordinate, second coordinate) as colours, with time t to the right."""
    (first, x), (second, y) = _list_coordinates(solution).items()
    if second == "t":
        first, x, second, y, field = second, y, first, x, field.T
    mesh = axes.pcolormesh(x, y, field.T, shading="auto", rasterized=True, **scale)
    axes.set(title=title, xlabel=first, ylabel=second)
    axes.grid(False)
    figure.colorbar(mesh, ax=axes, pad=0.02)
