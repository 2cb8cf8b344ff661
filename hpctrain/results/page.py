"""`hpctrain report --html`: a run, or several compared, as one page that needs nothing else."""

import base64
import html
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from hpctrain.results import figures, style
from hpctrain.results.report import Cell, Row, format_cell, list_tables
from hpctrain.results.summary import StudyError, Summary, tell_apart
from hpctrain.store import writable
from hpctrain.store.run_file import FINAL, Run, read_run

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #57606a; --paper: #fff; --line: #d8dee4;
  --tint: #f6f8fa; --mark: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --dim: #9aa4af; --paper: #0f1318;
  --line: #2f3742; --tint: #171c23; --mark: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 1.6rem; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 40px 0 12px; padding-top: 8px; border-top: 1px solid var(--line); }
p.about { color: var(--dim); margin: 0 0 20px; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 8px;
  margin: 0; }
dl.facts div { background: var(--tint); border: 1px solid var(--line); border-radius: 6px;
  padding: 8px 12px; }
dt { color: var(--dim); font-size: .8rem; }
dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
figure { margin: 16px 0; overflow-x: auto; }
figure img { display: block; width: 100%; min-width: 480px; background: #fff; border-radius: 6px; }
figcaption { color: var(--dim); font-size: .85rem; margin-top: 4px; }
.table { overflow-x: auto; margin: 8px 0 16px; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .85rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
tr:last-child > td, tr:last-child > th[scope=row] { border-bottom: 0; }
th { color: var(--dim); font-weight: 600; background: var(--tint); }
td.text, th.text { text-align: left; }
details { margin: 8px 0; border: 1px solid var(--line); border-radius: 6px; }
summary { cursor: pointer; padding: 8px 12px; font-weight: 600; }
summary:focus-visible { outline: 2px solid var(--mark); }
pre { margin: 0; padding: 12px; overflow-x: auto; background: var(--tint); font-size: .8rem;
  border-top: 1px solid var(--line); }
details .table { border: 0; border-top: 1px solid var(--line); border-radius: 0; margin: 0; }
"""


def write_page(paths: Sequence[str], output: str) -> str:
    """Writes the page of the runs in these files; says what was done.

    Raises:
        RunFileError: a file is not a run.
        InputError: the page cannot be written.
    """
    path = Path(output)
    if path.suffix not in (".html", ".htm"):
        raise StudyError(f"--html {output} is not allowed: its name must end in .html")
    runs = [read_run(each) for each in paths]
    writable.check_file(path)
    page = make_page(runs)
    with writable.explain(output):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    return f"{output}: {len(runs)} {'run' if len(runs) == 1 else 'runs'}"


def make_page(runs: Sequence[Run]) -> str:
    """Makes the page of runs in HTML: figures, tables, jobs and environments."""
    summaries = [Summary(run) for run in runs]
    names = tell_apart([each.solver for each in summaries], [run.path for run in runs])
    problems = " · ".join(dict.fromkeys(each.problem for each in summaries))
    title = f"{problems}: {names[0] if len(runs) == 1 else f'{len(runs)} runs'}"
    body = "\n".join(_list_parts(runs, names, title))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _list_parts(runs: Sequence[Run], names: Sequence[str], title: str) -> Iterator[str]:
    yield f"<h1>{html.escape(title)}</h1>"
    made = " · ".join(dict.fromkeys(str(run.attributes.get("created", "?")) for run in runs))
    version = " · ".join(
        dict.fromkeys(str(run.attributes.get("hpctrain_version", "?")) for run in runs)
    )
    yield f'<p class="about">{html.escape(made)}, hpctrain {html.escape(version)}</p>'
    tables = list_tables(runs)
    summary = tables.pop("")
    yield _list_facts(summary[0]) if len(runs) == 1 else _write_table(summary)
    if any(len(run.history["iteration"]) for run in runs):
        yield "<h2>Convergence</h2>"
        caption = "Loss and what the runs are judged by, against iterations and training time."
        yield _embed(figures.draw_for_print(runs, "double"), "Convergence", caption)
    for run, name in zip(runs, names, strict=True):
        drawn = figures.draw_solution(run)
        if drawn is not None:
            yield f"<h2>Solution{_of(runs, name)}</h2>"
            yield _embed(drawn, f"Solution of {name}", "The network, the reference, the error.")
    for heading, rows in tables.items():
        yield f"<h2>{html.escape(heading)}</h2>"
        yield _write_table(rows)
    yield "<h2>Jobs and environments</h2>"
    for run, name in zip(runs, names, strict=True):
        yield f"<details><summary>Job{_of(runs, name)}</summary>"
        yield f"<pre>{html.escape(run.job)}</pre></details>"
        yield f"<details><summary>Environment{_of(runs, name)}</summary>"
        yield f"{_write_table(_list_environment(run))}</details>"


def _of(runs: Sequence[Run], name: str) -> str:
    return "" if len(runs) == 1 else f" of {html.escape(name)}"


def _list_facts(row: Row) -> str:
    """A row of a table as names and values."""
    parts = (
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(format_cell(value))}</dd></div>"
        for name, value in row.items()
    )
    return f'<dl class="facts">{"".join(parts)}</dl>'


def _list_environment(run: Run) -> list[Row]:
    measured: Mapping[str, Cell] = {n: v for n, v in run.attributes.items() if n != "own_code"}
    return [
        {"name": name.replace(FINAL, "at the end: "), "value": value}
        for name, value in measured.items()
    ]


def _write_table(rows: Sequence[Row]) -> str:
    headers = list({name: None for row in rows for name in row})
    is_text = {name: all(isinstance(row.get(name, ""), str) for row in rows) for name in headers}
    look = {name: ' class="text"' if is_text[name] else "" for name in headers}
    head = "".join(f'<th scope="col"{look[n]}>{html.escape(n)}</th>' for n in headers)
    lines = (
        "<tr>"
        + "".join(
            f"<td{look[n]}>{html.escape(format_cell(row[n]) if n in row else '')}</td>"
            for n in headers
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="table" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _embed(figure: Figure, name: str, caption: str) -> str:
    """A figure inside the page; its letters are paths, as no font may be asked for."""
    drawn = io.BytesIO()
    with matplotlib.rc_context({**style.PRINTED, "svg.fonttype": "path", "savefig.dpi": 160}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    source = f"data:image/svg+xml;base64,{base64.b64encode(drawn.getvalue()).decode()}"
    return (
        f'<figure tabindex="0"><img alt="{html.escape(name)}" src="{source}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
