"""Writes the map: a table for each size and error, what it says in words, and the figure."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

from benchmarks.map import model, rows
from benchmarks.map.methods import GRADIENT, METHODS, TARGETS, count_parameters
from benchmarks.map.rows import ON, RANKS, Row
from benchmarks.published.parts import NOT_YET
from benchmarks.runs import short
from benchmarks.tables import write_markdown
from hpctrain.results import style

SHOWN = (1, 8, 64, 512)
# By so much may projected and measured seconds differ.
UNCERTAIN = 1.3
ETHERNET, INFINIBAND = ON
HEAD = """\
# Where decomposition pays: a map

`make map` (`python -m benchmarks.map`) makes this page from runs of the jobs in `jobs/`, over as
many sittings as it takes; `--widths`, `--seeds`, `--seconds` and `--slice` say what is made. The
equation is Burgers with the published network, residual with adaptive tanh and 8 layers, of which
the width alone changes, and 10,000 points. "Kept Broyden" are blocks that are solved by ten steps
of self-scaled Broyden, whose inverse Hessians are kept, as in the study of 40,041 parameters.

Iterations and gradients to an error, medians of the seeds, are counted by runs on one rank; they do
not depend on the number of ranks, nor on the machine. Gradients are those of all parameters on all
points, with the parts that blocks cost, products with JᵀJ and a third of the losses alone. Where a
size or a method took too long for one sitting, its run was stopped. Seconds are projected to
P ranks of one core each by the model in `benchmarks/map/model.py`, from CPU times of short runs,
here on a machine that was busy with other work: they compare methods and networks, and are no
measurement. "P = 2" is the computation that is projected for two ranks over that of the slower of
two ranks that ran. Memory is of the method's state on the rank that has most of it, on 1 and on
512 ranks. In cells with two numbers the first is for one network, the other for the other:
{ethernet}; {infiniband}.
"Beside the best" are a method's least seconds over those of the best undecomposed method, each on
as many ranks as it likes; above 1 it loses, and what loses most comes first. As far as the column
"P = 2" is from 1 such ratios may be wrong too, and those of single seeds anyway.
Sums of gradients are [by parts](design.md#the-same-bits-on-any-number-of-ranks), and the ranks that
share a block divide the rows of its inverse Hessian.

What is decomposed here is the network. Where the domain is, by networks of subdomains, a method
with blocks is ahead of the best without on one equation and behind on others:
[Results](results.md#networks-of-subdomains)."""


def write_page(
    widths: Sequence[int], seeds: int, folder: Path, figure: str, earlier: str = ""
) -> str:
    """The page in Markdown, with what there is of its runs.

    Args:
        widths: of the networks.
        seeds: how many.
        folder: of the runs.
        figure: where the figure lies, from the page.
        earlier: the page so far; sizes of which no run is here stay as they are there.
    """
    names = {"ethernet": ON[ETHERNET], "infiniband": ON[INFINIBAND]}
    parts = [HEAD.format(**names), f"![Projected seconds by ranks, for each size]({figure})"]
    for width in widths:
        title = f"## n = {count_parameters(width):,}: 8 layers, {width} wide"
        parts.append(title)
        for error in sorted(TARGETS):
            found = rows.make_rows(width, error, seeds, folder)
            if not any(row.runs for row in found):
                parts.append(_find_section(earlier, title) or f"{NOT_YET.capitalize()}.")
                break
            parts += [f"To an error of {short(error)}:", write_table(found)]
            parts += [say for each in ON if (say := write_words(found, each))]
    return "\n\n".join(parts) + "\n"


def _find_section(page: str, title: str) -> str:
    """What a page has below a title, up to the next one; empty where it has no such title."""
    _, _, rest = page.partition(f"{title}\n")
    return rest.partition("\n## ")[0].strip()


def write_table(found: Sequence[Row]) -> str:
    """A row for each method."""
    head = ["method", "seeds", "beside the best", "iterations", "gradients", "memory a rank, MB"]
    head += [f"s, P = {P}" for P in SHOWN] + ["least s (on ranks)", "P = 2"]
    return write_markdown(head, [_write_row(row, found) for row in found])


def _write_row(row: Row, found: Sequence[Row]) -> list[str]:
    rest = [""] * (len(SHOWN) + 2)
    if not row.runs:
        return [row.method.label, "", NOT_YET, "", "", "", *rest]
    named = [row.method.label, str(len(row.runs))]
    if row.work is None:
        error = f"not reached: {row.least_error:.1e} so far"
        return [*named, error, "", f"{row.spent:,.0f}", "", *rest]
    counts = [f"{row.work.iterations:,}", f"{row.work.gradients:,.0f}"]
    if row.case is None:
        return [*named, f"times {NOT_YET}", *counts, "", *rest]
    memory = [f"{row.case.measure_memory(row.work, P) / 1e6:.3g}" for P in (1, RANKS[-1])]
    both = [row.project(network) for network in ON.values()]
    seconds = [
        " / ".join(f"{shares[RANKS.index(P)].seconds:.3g}" for shares in both) for P in SHOWN
    ]
    least = [f"{best[1].seconds:.3g} ({best[0]})" for each in ON.values()
             if (best := row.find_best(each))]  # fmt: skip
    return [
        *named,
        " / ".join(f"{ratio:.2g}" for ratio in rows.list_ratios(row, found)),
        *counts,
        " … ".join(memory),
        *seconds,
        " / ".join(least),
        f"{row.ratio:.2f}",
    ]


def write_words(found: Sequence[Row], name: str) -> str:
    """What the table says of a network; nothing where the error was reached by none."""
    network, rival = ON[name], rows.find_rival(found, ON[name])
    if rival is None:
        return ""
    text = [f"On {name}: {_say_best(rival, name)}"]
    text[0] += f", with an efficiency of a half up to {rival.find_useful(network)} ranks."
    with_blocks = [row for row in found if row.method.is_decomposed and row.project(network)]
    if with_blocks:
        best = min(with_blocks, key=lambda row: rows.find_least(row, network))
        ratio = rows.find_least(best, network) / rows.find_least(rival, network)
        verdict = f"{ratio:.2g} times as long"
        if 1 / UNCERTAIN <= ratio <= UNCERTAIN:
            verdict += ", which these times cannot tell from 1"
        text.append(f"The best with blocks: {_say_best(best, name)}, {verdict}.")
    later = [row for row in found if row.method.is_decomposed and row.runs and row.work is None]
    if later:
        names = ", ".join(row.method.label for row in later)
        text.append(f"Not at this error so far, with blocks: {names}.")
    return " ".join(text)


def _say_best(row: Row, name: str) -> str:
    best = row.find_best(ON[name])
    assert best is not None, "it has reached the error"
    P, shares = best
    parts = {
        "divided work": shares.divided,
        "repeated work": shares.repeated,
        "inverse Hessians": shares.products,
        "messages": shares.messages,
    }
    said = ", ".join(f"{100 * part / shares.seconds:.0f} % {word}" for word, part in parts.items())
    ranks = f"{P} rank{'s' if P > 1 else ''}"
    return f"{row.method.label} takes {shares.seconds:.3g} s on {ranks} ({said})"


def has_begun(width: int, seeds: int, folder: Path) -> bool:
    """Whether there is a run of a size that counts."""
    planned = (method.plan_count(width, seed) for method in METHODS for seed in range(seeds))
    return any(each.find_file(folder).exists() for each in planned)


def draw(seeds: int, folder: Path, output: Path) -> None:
    """Projected seconds to the smallest error by ranks: a column a size, a row a network."""
    with matplotlib.rc_context(style.SETTINGS):
        figure = style.make_figure(10.0, 5.6)
        panels = figure.subplots(len(ON), len(GRADIENT), sharex=True, squeeze=False)
        for column, width in enumerate(GRADIENT):
            found = rows.make_rows(width, min(TARGETS), seeds, folder)
            for axes, (name, network) in zip(panels[:, column], ON.items(), strict=True):
                _draw_panel(axes, found, network)
                axes.set_title(f"n = {count_parameters(width):,}, {name}")
        for axes in panels[:, 0]:
            axes.set_ylabel(f"projected seconds to {short(min(TARGETS))}")
        for axes in panels[-1]:
            axes.set_xlabel("ranks")
        lines = [
            matplotlib.lines.Line2D([], [], label=method.label, **style.choose_line_style(index))
            for index, method in enumerate(METHODS)
        ]
        figure.legend(handles=lines, loc="outside lower center", ncols=4)
        style.save(figure, output)


def _draw_panel(axes: matplotlib.axes.Axes, found: Sequence[Row], network: model.Network) -> None:
    for row in found:
        seconds = [each.seconds for each in row.project(network)]
        if seconds:
            look = style.choose_line_style(METHODS.index(row.method))
            axes.plot(RANKS, seconds, marker=".", markersize=3, **look)
    if not axes.lines:
        axes.text(0.5, 0.5, NOT_YET, ha="center", transform=axes.transAxes, color="0.4")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks([1, 8, 64, 512], ["1", "8", "64", "512"])
    axes.minorticks_off()
