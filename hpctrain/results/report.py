"""Tables of runs: what each was, what it reached, what it cost, where its time went."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from hpctrain.results.measures import list_measures
from hpctrain.results.stages import find_stages
from hpctrain.results.summary import StudyError, Summary
from hpctrain.store.run_file import TERM_LOSS, TERM_WEIGHT, Run, read_run

TABULATE_STYLES = {"text": "simple", "markdown": "github"}
STYLES = (*TABULATE_STYLES, "csv")

Cell = str | int | float
Row = Mapping[str, Cell]


def report(paths: Iterable[Path | str], style: str = "text") -> str:
    """Writes tables of the runs in these files; see `report_runs`.

    Raises:
        StudyError: there is no such style.
        RunFileError: a file is not a run.
    """
    _check_style(style)
    return report_runs([read_run(path) for path in paths], style)


def report_runs(runs: Sequence[Run], style: str = "text") -> str:
    """Writes tables of runs.

    As text or Markdown: a summary, stages and losses of terms where there are several, shares of
    time, and when targets of the error, or of the test accuracy, were reached.
    As CSV: one row a run, with all of that but the terms as columns.

    Raises:
        StudyError: there is no such style.
    """
    _check_style(style)
    if style == "csv":
        rows = zip(
            make_summary_rows(runs),
            [_make_wide_stages(run) for run in runs],
            make_share_rows(runs),
            _make_wide_targets(runs),
            strict=True,
        )
        return format_csv([{**a, **b, **c, **d} for a, b, c, d in rows])
    tables = list_tables(runs)
    return "\n\n".join(format_table(title, rows, style) for title, rows in tables.items()) + "\n"


def list_tables(runs: Sequence[Run]) -> dict[str, Sequence[Row]]:
    """Lists the tables of runs by their titles, those that have rows; the first has none."""
    tables: dict[str, Sequence[Row]] = {
        "": make_summary_rows(runs),
        "Stages": [row for run in runs for row in make_stage_rows(run)],
        "Loss by term, without weights": make_term_rows(runs),
        "Share of time": [_format_percent(row) for row in make_share_rows(runs)],
    }
    for measure in list_measures():
        judged = [run for run in runs if Summary(run).measure == measure]
        tables[f"First record {measure.reaching}"] = make_target_rows(judged)
    return {title: rows for title, rows in tables.items() if rows}


def _check_style(style: str) -> None:
    if style not in STYLES:
        raise StudyError(f"report style {style!r}: allowed are {', '.join(STYLES)}")


def make_summary_rows(runs: Sequence[Run]) -> list[Row]:
    """Makes a row for each run: what it was, what it reached, what it cost."""
    rows: list[Row] = []
    for run in runs:
        summary = Summary(run)
        rows.append(
            {
                "file": run.path.name,
                "solver": summary.solver,
                "problem": summary.problem,
                "network": summary.network,
                "ranks x threads": summary.processes,
                "iterations": int(max(run.history["iteration"], default=0)),
                "of them refused": summary.refused,
                "loss": summary.find_final("loss"),
                summary.measure.name: summary.find_final(summary.measure.column),
                f"{summary.measure.name} at iteration": summary.measured_at,
                "loss evals": summary.find_final("loss_evaluations"),
                "gradient evals": summary.find_final("gradient_evaluations"),
                "nominal gradients": summary.find_final("nominal_gradient_evaluations"),
                "update cost": summary.find_final("update_cost"),
                "seconds": summary.find_final("seconds"),
                "stop reason": run.stop_reason,
            }
        )
    return rows


def make_stage_rows(run: Run) -> list[Row]:
    """Makes a row for each of several stages of a run: its solver, its cost, why it ended."""
    return [
        {
            "file": run.path.name,
            "stage": span.number,
            **({"window": span.window} if "slab" in run.history else {}),
            "solver": span.solver,
            "iterations": span.measure_cost(run, "iteration"),
            "gradient evals": span.measure_cost(run, "gradient_evaluations"),
            "seconds": span.measure_cost(run, "seconds"),
            "loss at its end": float(run.history["loss"][span.last]),
            "ended by": span.reason or "-",
        }
        for span in find_stages(run)
    ]


def _make_wide_stages(run: Run) -> Row:
    """The stages of a run in one row."""
    return {
        f"{name} of stage {row['stage']}": value
        for row in make_stage_rows(run)
        for name, value in row.items()
        if name not in ("file", "stage")
    }


def make_term_rows(runs: Sequence[Run]) -> list[Row]:
    """Makes a row for each run and each of several terms of its loss: its mean square."""
    rows: list[Row] = []
    for run in runs:
        summary = Summary(run)
        for term in summary.list_terms():
            row: dict[str, Cell] = {"file": run.path.name, "term": term}
            row["loss"] = summary.find_final(f"{TERM_LOSS}{term}")
            if f"{TERM_WEIGHT}{term}" in run.history:
                row["renewed weight"] = summary.find_final(f"{TERM_WEIGHT}{term}")
            rows.append(row)
    return rows


def make_share_rows(runs: Sequence[Run]) -> list[Row]:
    """Makes a row for each run: the share of its time that each phase took, between 0 and 1."""
    return [{"file": run.path.name, **Summary(run).measure_time_shares()} for run in runs]


def make_target_rows(runs: Sequence[Run]) -> list[Row]:
    """Makes a row for each run and each target that it reached: when, and at what cost."""
    return [
        {
            "file": run.path.name,
            "solver": Summary(run).solver,
            Summary(run).measure.name: f"{reached.target:g}",
            "iteration": reached.iteration,
            **({"epoch": reached.epoch} if "epoch" in run.history else {}),
            "seconds": reached.seconds,
            "gradient evals": reached.gradient_evaluations,
        }
        for run in runs
        for reached in Summary(run).list_targets()
    ]


def _make_wide_targets(runs: Sequence[Run]) -> list[Row]:
    """The targets of each run in one row, a column a target and measure."""
    rows: list[Row] = []
    for run in runs:
        row: dict[str, Cell] = {}
        measure = Summary(run).measure
        for reached in Summary(run).list_targets():
            target = f"{measure.name} {measure.sign} {reached.target:g}"
            row[f"iteration at {target}"] = reached.iteration
            row[f"seconds at {target}"] = reached.seconds
            row[f"gradient evals at {target}"] = reached.gradient_evaluations
        rows.append(row)
    return rows


def _format_percent(row: Row) -> Row:
    return {k: f"{v:.1%}" if isinstance(v, float) else v for k, v in row.items()}


def format_table(title: str, rows: Sequence[Row], style: str) -> str:
    """Writes rows as text or Markdown, under a title if there is one."""
    headers = {name: name for row in rows for name in row}
    cells = [{name: format_cell(value) for name, value in row.items()} for row in rows]
    # Numbers come formatted; disable_numparse keeps them so.
    text = tabulate(
        cells,
        headers,
        tablefmt=TABULATE_STYLES[style],
        disable_numparse=True,
        colalign=[_find_alignment(name, rows) for name in headers],
    )
    return f"{title}\n\n{text}" if title else text


def _find_alignment(name: str, rows: Sequence[Row]) -> str:
    values = [row[name] for row in rows if name in row]
    texts = all(isinstance(value, str) and not value.endswith("%") for value in values)
    return "left" if texts else "right"


def format_cell(value: Cell) -> str:
    """Writes counts in full, measures to four digits, and what there is not as a dash."""
    if isinstance(value, str):
        return value
    if value != value:
        return "-"
    if value == int(value) and abs(value) >= 1 and abs(value) < 1e15:
        return f"{int(value)}"
    return f"{value:.4g}"


def format_csv(rows: Sequence[Row]) -> str:
    """Writes rows as CSV, with a column for every name that some row has."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list({name: None for row in rows for name in row}), restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
