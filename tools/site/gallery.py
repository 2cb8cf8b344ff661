"""The gallery: every equation of the library with a picture of its solution, a job, and results.

Pictures are drawn of the reference solutions, which the library computes, not of trained networks.
What was measured is taken from the tables of docs/results.md, and nothing else.
"""

import hashlib
import inspect
import io
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pictures
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from pictures import SMALL, draw_field
from torch import Tensor

from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At
from hpctrain.problems.equations.library import EQUATIONS
from hpctrain.problems.equations.options import find_equations

ROOT = Path(__file__).parents[2]
ABOUT = """# Gallery

Every equation that is shipped: what it is, its reference solution, the job that trains it, and what
was measured so far ([all results](results.md)). Of more than two coordinates the picture is a slice
through the middle. A job runs as `hpctrain run JOB.toml`.
"""
# Points of a picture along each coordinate.
ACROSS, UP = 160, 120


def write_gallery() -> str:
    """The page, in Markdown."""
    return "\n".join([ABOUT, *(_write_entry(name) for name in sorted(EQUATIONS))])


def _write_entry(name: str) -> str:
    found = EQUATIONS[name]
    title, text = name, " ".join((found.__doc__ or "").split("\n\n")[0].split())
    source = Path(*found.__module__.split(".")).with_suffix(".py")
    jobs = list_jobs(name)
    lines = [f"## {title}\n", f"![{title}](gallery/{name}.png)\n", f"{text}\n"]
    files = [f"[the class](../{source})"]
    files += [f"[{job.name}](../{job.relative_to(ROOT)})" for job in jobs]
    lines.append(f"{', '.join(files)}\n")
    results = list_results({name, *(job.stem for job in jobs)})
    lines += [f"- {each}" for each in results] or ["Not measured yet."]
    return "\n".join(lines) + "\n"


def list_jobs(equation: str) -> list[Path]:
    """The job files of an equation that name no other solver: in jobs/library, or of its name."""
    found = [*(ROOT / "jobs/library").glob("*.toml"), ROOT / f"jobs/{equation}.toml"]
    return sorted(path for path in found if path.exists() and _read_problem(path) == equation)


def _read_problem(job: Path) -> str:
    return tomllib.loads(job.read_text(encoding="utf-8"))["problem"]["name"]


def list_results(names: set[str]) -> list[str]:
    """The rows of the tables of results that are about these jobs, as text."""
    text, found = (ROOT / "docs/results.md").read_text(encoding="utf-8"), []
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        head, _, *rows = (_split_row(line) for line in table.splitlines())
        if head[0] in ("equation", "job", "job, changes (`--set`)"):
            found += [_write_row(head, row) for row in _name_rows(rows) if _is_about(row[0], names)]
    return found


def _name_rows(rows: list[list[str]]) -> Iterator[list[str]]:
    """The rows, those of "the same" with the name of the row before."""
    name = ""
    for first, *others in rows:
        is_same = first.startswith("the same")
        name = name if is_same else re.split(r"[ ,]", first)[0]
        yield [f"{name}, {first}" if is_same else first, *others]


def _split_row(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _is_about(cell: str, names: set[str]) -> bool:
    return re.split(r"[ ,]", cell.replace("`", ""))[0] in names


def _write_row(head: list[str], row: list[str]) -> str:
    pairs = zip(head[1:], row[1:], strict=True)
    return f"{row[0]}: " + "; ".join(f"{key} {value}" for key, value in pairs if value)


def list_examples() -> dict[str, str]:
    """The examples whose class has a reference, as jobs name it, by names of pictures."""
    jobs = {path.stem: _read_problem(path) for path in sorted(ROOT.glob("examples/*.toml"))}
    known = (name for name in jobs if "def reference" in (ROOT / f"examples/{name}.py").read_text())
    return {f"example-{name}": str(ROOT / jobs[name]) for name in known}


def fill_examples(text: str) -> str:
    """A page's text with pictures of the examples where it asks for them."""
    shown = [f"![{name}](gallery/{name}.png)" for name in list_examples()]
    return text.replace("<!-- pictures of examples -->", "\n".join(shown))


def draw_gallery() -> dict[str, bytes]:
    """A picture of each equation's reference solution (PNG), by its name.

    Some solutions take seconds to compute: all cores work on them, and what was drawn before is
    kept in build/gallery as long as the equation and the drawing are the same.
    """
    names = [*EQUATIONS, *list_examples()]
    sys.path.append(str(Path(__file__).parent))  # where the processes find this file
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
        return dict(zip(names, processes.map(draw_equation, names), strict=True))


def draw_equation(name: str) -> bytes:
    """The picture of one equation, as it was drawn before if that holds still."""
    sources = [_find_source(name), Path(__file__), Path(pictures.__file__)]
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in sources)).hexdigest()[:16]
    kept = ROOT / f"build/gallery/{name}-{digest}.png"
    if not kept.exists():
        torch.set_num_threads(1)
        kept.parent.mkdir(parents=True, exist_ok=True)
        new = kept.with_suffix(f".{os.getpid()}")
        new.write_bytes(draw(find_equations(list_examples().get(name, name))))
        new.replace(kept)
    return kept.read_bytes()


def _find_source(name: str) -> Path:
    """The file of an equation's class."""
    if name in EQUATIONS:
        return Path(inspect.getfile(EQUATIONS[name]))
    return Path(list_examples()[name].rpartition(":")[0])


def draw(equations: Equations) -> bytes:
    """A picture of the reference solution (PNG), with nothing outside the domain."""
    region, axes = equations.frame.region, equations.frame.axes
    shown = _choose_axes(equations)
    grid, ends = _make_grid(equations, shown)
    inside = region.contains(grid)
    values = _evaluate(equations, At(axes, grid))
    names = [axes.names[k] for k in shown]
    with pyplot.rc_context(SMALL):
        panels = 1 if len(shown) == 1 else len(values)
        figure, (row,) = pyplot.subplots(
            1, panels, figsize=(2.5 * panels, 2), squeeze=False, layout="constrained"
        )
        if len(shown) == 1:
            _draw_curves(row[0], ends[0], values, names[0])
        else:
            for each, (field, value) in zip(row, values.items(), strict=True):
                drawn = torch.where(inside, value, torch.nan).reshape(ACROSS, UP).numpy()
                draw_field(each, *ends, drawn, *names)
                each.set_title(field)
        file = io.BytesIO()
        figure.savefig(file, format="png", pil_kwargs={"optimize": True})
        pyplot.close(figure)
    return file.getvalue()


def _draw_curves(axes: Axes, x: np.ndarray, values: Mapping[str, Tensor], name: str) -> None:
    for field, value in values.items():
        axes.plot(x, value.numpy(), lw=1, label=field)
    axes.set(xlabel=name)
    axes.legend(frameon=False)


def _choose_axes(equations: Equations) -> list[int]:
    """The coordinates of the picture: space where there are two of it, else the first ones."""
    names = equations.geometry.axes
    if len(names) > 2 and names[0] == "t":
        return [1, 2]
    return list(range(min(len(names), 2)))


def _make_grid(equations: Equations, shown: list[int]) -> tuple[Tensor, list[np.ndarray]]:
    """Points (d, N) of a slice through the middle, and the coordinates along each shown axis."""
    bounds = torch.tensor([*map(tuple, equations.frame.region.bounds)], dtype=torch.float64)
    counts = (ACROSS * UP,) if len(shown) == 1 else (ACROSS, UP)
    ends = [
        torch.linspace(*bounds[k].tolist(), count, dtype=torch.float64)
        for k, count in zip(shown, counts, strict=True)
    ]
    flat = [each.reshape(-1) for each in torch.meshgrid(*ends, indexing="ij")]
    points = bounds.mean(dim=1)[:, None].repeat(1, ACROSS * UP)
    for k, values in zip(shown, flat, strict=True):
        points[k] = values
    return points, [each.numpy() for each in ends]


def _evaluate(equations: Equations, at: At) -> Mapping[str, Tensor]:
    values = equations.reference(at)
    return values if isinstance(values, Mapping) else {equations.fields[0]: values}
