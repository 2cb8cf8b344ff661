"""The look of all figures: sizes for print, colours that colour-blind readers can tell apart."""

import io
from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure

from hpctrain.results.summary import StudyError
from hpctrain.store import writable

SUFFIXES = (".png", ".pdf", ".svg")
# Dots an inch in a notebook.
SCREEN_DPI = 100
# Widths of journals in mm, one column and two.
WIDTHS = {"single": 85.0, "double": 178.0}
MM_PER_INCH = 25.4

# Okabe and Ito (2008), Color Universal Design, without the yellow that is weak on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", "-.", ":")

SETTINGS: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.88",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "axes.prop_cycle": cycler(color=COLOURS),
    "image.cmap": "viridis",
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}
# For values, for absolute ones, and for signed ones, of which white is zero.
VALUES, SIZES, SIGNED = "viridis", "cividis", "RdBu_r"
# What is other at the width of a journal.
PRINTED: dict[Any, Any] = SETTINGS | {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "lines.linewidth": 1.1,
    "axes.linewidth": 0.6,
}


def choose_line_style(index: int) -> dict[str, Any]:
    """Chooses the colour and dash of a line; neighbours differ in both, also in grey."""
    dash = DASHES[index % len(DASHES)]
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": dash}


def check_output(output: Path) -> None:
    """Checks, before any work, that a figure can be written.

    Raises:
        InputError: its file is of a kind that is not drawn, or cannot be made.
    """
    if output.suffix.lower() not in SUFFIXES:
        raise StudyError(
            f"{output}: a figure's name ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        )
    writable.check_file(output)


class NotebookFigure(Figure):
    """A figure that a notebook shows by itself, without pyplot and its backends."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        with matplotlib.rc_context(SETTINGS):
            self.savefig(picture, format="png", dpi=SCREEN_DPI)
        return picture.getvalue()


def make_figure(width: float, height: float) -> Figure:
    """Makes an empty figure, of this size in inches, that needs no display."""
    return NotebookFigure(figsize=(width, height), layout="constrained")


def save(figure: Figure, output: Path) -> None:
    """Writes a figure in the format that its suffix names.

    Raises:
        InputError: it cannot be written.
    """
    with matplotlib.rc_context(SETTINGS), writable.explain(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output)
