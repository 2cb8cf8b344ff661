"""Tables and figures of runs say what the run files hold."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from hpctrain.results import figures
from hpctrain.results.figures import plot
from hpctrain.results.report import (
    make_share_rows,
    make_summary_rows,
    make_target_rows,
    make_term_rows,
    report,
)
from hpctrain.results.summary import StudyError, Summary
from hpctrain.store.run_file import RunFileError, RunWriter, read_run

COLUMNS = {
    "iteration": "i8",
    "seconds": "f8",
    "loss": "f8",
    "loss_evaluations": "f8",
    "gradient_evaluations": "f8",
    "nominal_gradient_evaluations": "f8",
    "update_cost": "f8",
    "error": "f8",
}
JOB = """
[problem]
name = "burgers"
[network]
kind = "residual"
depth = 8
width = 20
[solver]
name = "{solver}"
[stop]
error = 0.02
"""


def make_run(
    path, solver="aspqn", records=60, rate=0.1, dimensions=2, reason="error reached", facts=None
):
    """A run whose error is exp(-rate * iteration), known at every fifth iteration."""
    run = RunWriter(
        path,
        job=JOB.format(solver=solver),
        environment={"ranks": 4, "threads": 2},
        columns=COLUMNS,
        phases=["local", "global"],
        ranks=4,
    )
    for i in range(records):
        error = np.exp(-rate * i) if i % 5 == 0 else np.nan
        run.append(
            {
                "iteration": i,
                "seconds": 0.5 * i,
                "loss": np.exp(-2 * rate * i),
                "loss_evaluations": 3 * i,
                "gradient_evaluations": 2 * i,
                "nominal_gradient_evaluations": 4 * i,
                "update_cost": 1.5 * i,
                "error": error,
            },
            np.tile(np.array([[3.0, 3.0], [1.0, 1.0]]), (4, 1, 1)) if i else None,
        )
    run.finish(reason, solution(dimensions), facts)
    return path


def solution(dimensions):
    x, t = np.linspace(-1, 1, 101), np.linspace(0, 1, 80)
    if dimensions == 0:
        return None
    if dimensions == 1:
        u = np.sin(np.pi * x)
        return {"prediction": u + 1e-3 * x, "reference": u, "x": x}
    u = -np.sin(np.pi * x)[:, None] * np.exp(-2 * t)[None, :]
    wrong = 1e-3 * np.cos(9 * x)[:, None] * t[None, :] ** 2
    return {"prediction": u + wrong, "reference": u, "x": x, "t": t}


def test_summary_says_what_it_was_and_what_it_cost(tmp_path):
    [row] = make_summary_rows([read_run(make_run(tmp_path / "a.h5"))])
    assert row["solver"] == "aspqn" and row["problem"] == "burgers"
    assert row["network"] == "residual 8x20" and row["ranks x threads"] == "4x2"
    assert row["iterations"] == 59 and row["seconds"] == 29.5 and row["loss evals"] == 177
    assert row["error"] == pytest.approx(np.exp(-5.5)) and row["error at iteration"] == 55
    assert row["stop reason"] == "error reached"


def test_a_summary_has_the_error_of_the_final_parameters_where_the_run_measured_it(tmp_path):
    run = read_run(make_run(tmp_path / "a.h5", facts={"final.error": 1.5e-3}))
    assert run.history["iteration"][-1] == 59 and np.isnan(run.history["error"][-1])
    [row] = make_summary_rows([run])
    assert (row["error"], row["error at iteration"]) == (1.5e-3, 59)


def test_time_shares_are_of_all_ranks_and_records(tmp_path):
    [row] = make_share_rows([read_run(make_run(tmp_path / "a.h5"))])
    assert row == {"file": "a.h5", "local": 0.75, "global": 0.25}


def test_targets_are_the_first_records_at_or_below(tmp_path):
    rows = make_target_rows([read_run(make_run(tmp_path / "a.h5"))])
    # exp(-0.1 i) at i = 0, 5, …: 0.1 is passed at 25 (0.082), 0.02 at 40 (0.018), 0.01 at 50.
    assert [(row["error"], row["iteration"]) for row in rows] == [
        ("0.1", 25),
        ("0.02", 40),
        ("0.01", 50),
    ]
    assert rows[1]["seconds"] == 20 and rows[1]["gradient evals"] == 80


@pytest.mark.parametrize("style", ["text", "markdown"])
def test_report_has_a_row_a_run(tmp_path, style):
    paths = [make_run(tmp_path / "a.h5"), make_run(tmp_path / "b.h5", "adam", dimensions=0)]
    text = report(paths, style)
    assert text.count("a.h5") == 5 and text.count("b.h5") == 5
    assert "75.0%" in text and "error reached" in text
    assert ("|" in text) == (style == "markdown")


def test_csv_is_one_table_with_full_precision(tmp_path):
    text = report([make_run(tmp_path / "a.h5"), make_run(tmp_path / "b.h5", rate=0.01)], "csv")
    one, other = csv.DictReader(io.StringIO(text))
    assert float(one["error"]) == np.exp(-0.1 * 55)
    assert one["iteration at error <= 0.02"] == "40"
    assert other["iteration at error <= 0.02"] == ""
    assert float(one["local"]) == 0.75


def test_a_run_without_records_is_reported(tmp_path):
    make_run(tmp_path / "a.h5", records=0, reason="signal", dimensions=0)
    assert "signal" in report([tmp_path / "a.h5"])
    plot([tmp_path / "a.h5"], tmp_path / "a.png")


def test_unknown_style_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(StudyError, match="allowed are text, markdown, csv"):
        report([], "html")
    with pytest.raises(RunFileError, match="no such file"):
        report([tmp_path / "none.h5"])


@pytest.mark.parametrize("dimensions", [0, 1, 2])
@pytest.mark.parametrize("suffix, magic", [(".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_one_run_is_drawn(tmp_path, dimensions, suffix, magic):
    output = tmp_path / "figures" / f"a{suffix}"
    plot([make_run(tmp_path / "a.h5", dimensions=dimensions)], output)
    assert output.read_bytes().startswith(magic)


def test_an_exact_solution_is_drawn(tmp_path):
    exact = solution(2)
    exact["prediction"] = exact["reference"]
    writer = RunWriter(
        tmp_path / "a.h5", job="", environment={}, columns=COLUMNS, phases=["local"], ranks=1
    )
    writer.finish("done", exact)
    plot([tmp_path / "a.h5"], tmp_path / "a.png")
    assert Summary(read_run(tmp_path / "a.h5")).solver == "?"


def test_several_runs_are_drawn(tmp_path):
    names = ["aspqn", "adam", "adam", "lbfgs"]
    paths = [make_run(tmp_path / f"{i}.h5", name, rate=0.05 * i) for i, name in enumerate(names)]
    plot(paths, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_another_suffix_is_refused_before_the_runs_are_read(tmp_path):
    with pytest.raises(StudyError, match=r"ends in \.png, \.pdf or \.svg"):
        plot([tmp_path / "none.h5"], tmp_path / "a.gif")
    with pytest.raises(StudyError, match="no runs"):
        plot([], tmp_path / "a.png")


def with_terms(run):
    """The run with two terms of its loss, one of them with a renewed weight."""
    count = len(run.history["iteration"])
    columns = {"loss.equation": 0.5, "loss.Initial": 0.25, "weight.Initial": 3.0}
    more = {name: np.full(count, value) for name, value in columns.items()}
    return replace(run, history={**run.history, **more})


def test_losses_of_terms_are_rows_with_the_weights_that_were_renewed(tmp_path):
    run = read_run(make_run(tmp_path / "a.h5"))
    assert make_term_rows([run]) == []
    assert make_term_rows([with_terms(run)]) == [
        {"file": "a.h5", "term": "equation", "loss": 0.5},
        {"file": "a.h5", "term": "Initial", "loss": 0.25, "renewed weight": 3.0},
    ]


def test_losses_of_terms_are_lines_of_the_figure_of_one_run(tmp_path, monkeypatch):
    path = make_run(tmp_path / "a.h5")
    drawn = []
    monkeypatch.setattr(figures, "read_run", lambda path: with_terms(read_run(path)))
    monkeypatch.setattr(figures.style, "save", lambda figure, output: drawn.append(figure))
    plot([path], tmp_path / "a.png")
    legends = [[text.get_text() for text in axes.get_legend().get_texts()]
               for axes in drawn[0].axes if axes.get_legend()]  # fmt: skip
    assert all({"loss of equation", "loss of Initial"} <= set(names) for names in legends)
    assert len(legends) == 2
