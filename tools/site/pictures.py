"""Draws what pages of the site show: the solution of a run with its convergence, or a field.

python tools/site/pictures.py runs/burgers.h5 -o docs/figures/burgers.png
"""

import argparse
from pathlib import Path

import h5py
import matplotlib
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

matplotlib.use("Agg")
SMALL = {"font.size": 7, "axes.titlesize": 8, "axes.linewidth": 0.5, "figure.dpi": 96}


def draw_run(run: Path, output: Path) -> None:
    """The trained solution over (t, x), its error, and the course of error and loss."""
    with h5py.File(run) as file:
        solution = {key: file[f"solution/{key}"][:] for key in file["solution"]}
        history = {key: file[f"history/{key}"][:] for key in ("iteration", "error", "loss")}
    error = np.abs(solution["prediction"] - solution["reference"])
    with pyplot.rc_context(SMALL):
        figure, (left, middle, right) = pyplot.subplots(
            1, 3, figsize=(7.6, 2.1), layout="constrained"
        )
        draw_field(left, solution["t"], solution["x"], solution["prediction"], "t", "x")
        left.set_title("u")
        draw_field(middle, solution["t"], solution["x"], error, "t", "x")
        middle.set_title("|error|")
        _draw_course(right, history)
        figure.savefig(output, pil_kwargs={"optimize": True})
        pyplot.close(figure)


def draw_field(
    axes: Axes, x: np.ndarray, y: np.ndarray, values: np.ndarray, across: str, up: str
) -> None:
    """Values (X, Y) as colours over two coordinates, (X,) and (Y,), with these names."""
    colours = axes.pcolormesh(x, y, values.T, cmap="viridis", shading="auto", rasterized=True)
    bar = axes.figure.colorbar(colours, ax=axes, pad=0.02)
    bar.outline.set_visible(False)
    axes.set(xlabel=across, ylabel=up)


def _draw_course(axes: Axes, history: dict[str, np.ndarray]) -> None:
    known = np.isfinite(history["error"])
    axes.semilogy(history["iteration"], history["loss"], lw=0.8, color="0.6", label="loss")
    axes.semilogy(
        history["iteration"][known], history["error"][known], lw=1.2, label="relative error"
    )
    axes.set(xlabel="iteration")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN.h5")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FIG.png")
    options = parser.parse_args()
    draw_run(options.run, options.output)


if __name__ == "__main__":
    main()
