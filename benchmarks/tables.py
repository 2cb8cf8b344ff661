"""Tables of the benchmarks."""

from collections.abc import Sequence

from tabulate import tabulate


def write_markdown(headers: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown, numbers as they come."""
    return tabulate(rows, headers=list(headers), tablefmt="github", disable_numparse=True)
