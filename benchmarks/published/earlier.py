"""Keeps on a page what it has of runs that are not here.

Run files stay on the machine where they were made; the page goes with the project. Where a row says
"not run yet", it takes the cells that the same row of the page has so far.
"""

from collections.abc import Iterator
from itertools import groupby

from benchmarks.published.parts import NOT_YET
from benchmarks.tables import write_markdown

Row = list[str]
# The section and the head of a table.
Place = tuple[str, tuple[str, ...]]


def keep_earlier(page: str, earlier: str) -> str:
    """The page, whose rows that were not run have the cells of the same rows of an earlier one."""
    before = {place: rows for place, _, rows in _split(earlier) if rows}
    parts = []
    for place, text, rows in _split(page):
        if rows and place in before:
            labels = _count_labels(rows)
            text = write_markdown(place[1], [_keep(row, before[place], labels) for row in rows])
        parts.append(text)
    return "\n".join(parts) + "\n"


def _split(page: str) -> Iterator[tuple[Place, str, list[Row]]]:
    """A page's tables and what is between them: its place, its text, and the rows of a table."""
    section = ""
    for is_table, lines in groupby(page.splitlines(), key=lambda line: line.startswith("|")):
        text = list(lines)
        if is_table:
            head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text]
            yield (section, tuple(head)), "\n".join(text), rows
        else:
            section = next((line for line in reversed(text) if line.startswith("## ")), section)
            yield (section, ()), "\n".join(text), []


def _count_labels(rows: list[Row]) -> int:
    """How many cells in front tell the rows apart."""
    counts = range(1, len(rows[0]))
    return next((k for k in counts if len({tuple(row[:k]) for row in rows}) == len(rows)), 1)


def _keep(row: Row, before: list[Row], labels: int) -> Row:
    """A row; if it has cells that were not run, these and empty ones are the earlier row's."""
    same = [each for each in before if each[:labels] == row[:labels]]
    if not same or not any(cell.startswith(NOT_YET) for cell in row):
        return row
    return [
        old if (k >= labels and new.startswith((NOT_YET, ";"))) or not new else new
        for k, (new, old) in enumerate(zip(row, same[0], strict=True))
    ]
