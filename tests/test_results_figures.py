"""Figures of fields for print: what their panels show."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure

from hpctrain import cli
from hpctrain.errors import InputError
from hpctrain.job.settings import load_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.results import field_figure, figures, style
from hpctrain.results.slices import make_slice
from hpctrain.results.solution import open_solution
from hpctrain.run.train import run
from hpctrain.store.run_file import read_run

SMALL = ("network.depth=2", "network.width=4", "parallel.chunks=4", "parallel.threads=1")
FEW = ("problem.points=30", "stop.max_iterations=2")


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")

    def do(job, *settings):
        path = folder / f"{job.replace('/', '-')}.h5"
        if not path.exists():
            loaded = load_job(f"jobs/{job}.toml", [*SMALL, *FEW, *settings])
            run(loaded, Communicator(), output=str(path))
        return path

    return do


def draw(path, names, at=None, width="double"):
    region = make_slice(open_solution(path), at)
    return region, field_figure.draw(read_run(path), region, names, width)


def list_titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]


def find_panel(figure, title):
    return next(axes for axes in figure.axes if axes.get_title(loc="left") == title)


def test_fields_errors_residuals_and_points_have_panels(train):
    region, figure = draw(train("burgers"), ["u", "u.x"])
    assert list_titles(figure) == [
        "(a) u",
        "(b) error of u",
        "(c) u.x",
        "(d) |residual|",
        "(e) 30 points at the start",
    ]
    inches, _ = figure.get_size_inches()
    assert inches * style.MM_PER_INCH == pytest.approx(178)
    error = region.evaluate(["u"])["u"] - region.evaluate_references()["u"]
    shown = find_panel(figure, "(b) error of u").collections[0]
    assert np.array_equal(shown.get_array(), error.T)
    low, high = shown.get_clim()
    assert -low == high == np.abs(error).max()
    points = find_panel(figure, "(e) 30 points at the start").lines[0]
    assert len(points.get_xdata()) == 30


def test_residuals_of_a_figure_are_the_equations(train):
    region, _ = draw(train("burgers"), ["u"])
    u = region.evaluate(["u", "u.t", "u.x", "u.xx"])
    residual = region.evaluate_residuals()["residual"]
    nu = 0.01 / np.pi
    np.testing.assert_allclose(
        residual, u["u.t"] + u["u"] * u["u.x"] - nu * u["u.xx"], rtol=1e-9, atol=1e-12
    )


def test_nothing_is_shown_outside_of_the_geometry(train):
    region, _ = draw(train("library/poisson-disk"), ["u"])
    x, y = np.meshgrid(*region.axes.values(), indexing="ij")
    outside = x**2 + y**2 > 1
    assert np.array_equal(np.isnan(region.evaluate(["u"])["u"]), outside)
    assert np.array_equal(np.isnan(region.evaluate_residuals()["residual"]), outside)


def test_unknowns_have_their_true_intervals_and_stages_their_lines(train):
    path = train("library/burgers-inverse")
    _, figure = draw(path, ["u"], at="t=0.5", width="single")
    final = read_run(path).final
    title = next(each for each in list_titles(figure) if "l1, at the end" in each)
    panel = find_panel(figure, title)
    (interval,) = panel.containers
    assert interval[0].get_ydata() == [final["l1"]]
    half = float(read_run(path).solution["interval_l1"])
    bar = interval[2][0].get_segments()[0][:, 1]
    assert np.ptp(bar) == pytest.approx(2 * half)
    assert figure.get_size_inches()[0] * style.MM_PER_INCH == pytest.approx(85)
    staged = train("library/kovasznay-stages", "solver.1.stop.max_iterations=1")
    _, figure = draw(staged, ["u"], at="x=0.5")
    stages = next(axes for axes in figure.axes if "loss, by stage" in axes.get_title(loc="left"))
    assert [line.get_label() for line in stages.lines] == ["1 adam", "2 ssbroyden"]


def test_lines_next_to_each_other_differ_without_their_colours():
    styles = [style.choose_line_style(index) for index in range(28)]
    assert all(a["linestyle"] != b["linestyle"] for a, b in pairwise(styles))
    assert len({tuple(each.values()) for each in styles}) == 28


@pytest.mark.parametrize("end, magic", [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_figures_are_written_in_every_format(train, tmp_path, end, magic):
    path, out = str(train("burgers")), tmp_path / f"figure.{end}"
    assert cli.main(["plot", path, "--fields", "u", "--at", "t=0.5", "-o", str(out)]) == 0
    assert out.read_bytes().startswith(magic)
    assert cli.main(["plot", path, path, "--width", "single", "-o", str(out)]) == 0
    assert out.read_bytes().startswith(magic)


@pytest.mark.parametrize(
    "fields, at, said",
    [
        ("v", None, "'v' is not allowed: one of u"),
        ("u", "y=1", "--at y=1 is not allowed: one number for coordinates of t, x"),
        ("u", "t=0:1:3", "--at t=0:1:3 is not allowed: one number"),
        ("u", "t=0,x=0", "a figure shows one or two coordinates, and none vary"),
        ("u", "t=9", "--at t=9 is not allowed: no such point is in the geometry, t from 0 to 1$"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(train, tmp_path, fields, at, said):
    out = tmp_path / "figure.png"
    with pytest.raises(InputError, match=said):
        figures.plot_fields(str(train("burgers")), str(out), fields, at, None, 1, False)
    assert not out.exists()


def test_options_of_fields_need_fields(train, refusal, tmp_path):
    path, out = train("burgers"), tmp_path / "figure.png"
    said = refusal("plot", path, "--at", "t=1", "-o", out)
    assert said == "--at t=1 is not allowed without --fields"
    said = refusal("plot", path, path, "--fields", "u", "-o", out)
    assert said == "--fields u takes one run, not 2"


@pytest.mark.parametrize("words", [(), ("--fields", "u")])
def test_a_figure_that_cannot_be_written_is_refused_in_one_line(train, refusal, words):
    path = train("burgers")
    said = refusal("plot", path, *words, "-o", path / "figure.png")
    assert said == f"{path}/figure.png cannot be written: Not a directory"
    said = refusal("plot", path, *words, "-o", path.parent / ("long" * 100 + ".png"))
    assert said.endswith("cannot be written: File name too long")
