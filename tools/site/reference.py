"""Writes the reference of job keys out of the types that check a job file.

`list_groups` finds every table of a job with its settings; `write_reference` and `write_options`
make Markdown of them: the whole, and the settings of one solver for the page of its method.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from hpctrain.job.groups import (
    describe_allowed,
    find_deciding_key,
    find_inner_group,
    find_item_type,
    is_choice,
    list_kinds,
    list_named_groups,
    list_variants,
    show,
)
from hpctrain.job.settings import Job
from hpctrain.job.stop import StageStopOptions
from hpctrain.options import Options

ABOUT = """# Reference of job keys

A job file is TOML. These are all its keys, as the program checks them: what each may be, its
default, and what it means. A dash as default says that nothing is set. `--set KEY=VALUE` takes the
same keys on the command line, `--set KEY=` leaves one out. An unknown key, a wrong type and a value
out of bounds are refused in one line, before any work.

This page is generated from the settings' types.
"""

HEAD = "| key | allowed | default | meaning |\n|---|---|---|---|\n"


ROOT = Path(__file__).parents[2]
# Where a page has the settings of solvers.
OPTIONS = re.compile(r"^<!-- options of (.+) -->$", re.MULTILINE)
# Of a solver's `name`, which needs no other words.
CHOOSES = "chooses this method"


@dataclass(frozen=True)
class Row:
    """A setting: its dotted key, what it may be, its default and what it means, in words."""

    key: str
    allowed: str
    default: str
    meaning: str

    def write(self) -> str:
        cells = (f"`{self.key}`", self.allowed, self.default, self.meaning)
        return f"| {' | '.join(_escape(cell) for cell in cells)} |\n"


@dataclass(frozen=True)
class Group:
    """The settings of a table of the job: its place, and the names that choose it, if any do.

    Attributes:
        place: of the table, such as "solver.line_search"; "" for the job itself.
        choice: the names that lead to these settings, such as 'name = "adam"'; "" for all.
        about: what the settings are.
        rows: of the table's own settings, then of the tables in it.
    """

    place: str
    choice: str
    about: str
    rows: tuple[Row, ...]

    def write(self) -> str:
        return f"{self.about}\n\n{HEAD}{''.join(row.write() for row in self.rows)}\n"


def list_groups() -> list[Group]:
    """Every table of a job, from the job itself inwards, in the order of the job file."""
    groups = [Group("", "", "Settings of the run as a whole.", tuple(_list_plain(Job)))]
    for key, field in Job.model_fields.items():
        if is_choice(field):
            groups += _list_variants(key, field)
        elif inner := find_inner_group(field):
            groups.append(Group(key, "", _read_about(inner), tuple(_list_rows(key, inner))))
        if key == "solver":
            rows = tuple(_list_rows("solver.stop", StageStopOptions))
            groups.append(Group("solver.stop", "", _read_about(StageStopOptions), rows))
    return groups


def _list_plain(group: type[Options]) -> Iterator[Row]:
    """The settings of the job itself that are no tables."""
    for key, field in group.model_fields.items():
        if not is_choice(field) and find_inner_group(field) is None:
            yield _make_row(key, field, field.get_default())


def _list_variants(key: str, field: FieldInfo) -> Iterator[Group]:
    """The groups among which a table's key chooses; one that several names choose comes once."""
    deciding, names = find_deciding_key(field), dict[type[Options], list[str]]()
    for name, group in list_named_groups(field).items():
        names.setdefault(group, []).append(name)
    for group in list_variants(field).values():
        values = " or ".join(map(show, names.get(group, [])))
        choice = f"{deciding} = {values}" if values else f'{deciding} = "FILE.py:CLASS"'
        yield Group(key, choice, _read_about(group), tuple(_list_rows(key, group)))


def _list_rows(place: str, group: type[Options], defaults: Options | None = None) -> Iterator[Row]:
    """The settings of a table, each followed by those of a table that it is.

    Args:
        place: of the table.
        group: its settings.
        defaults: what the table is where the job says nothing; else each setting's own default.
    """
    for key, field in sorted(group.model_fields.items(), key=_rank):
        default = getattr(defaults, key) if defaults else field.get_default()
        yield _make_row(f"{place}.{key}", field, default)
        inner = find_inner_group(field)
        if inner is not None and not (place == "solver" and key == "stop"):
            known = default if isinstance(default, inner) else None
            yield from _list_rows(f"{place}.{key}", inner, known)


def _rank(item: tuple[str, FieldInfo]) -> int:
    """First what chooses the settings, then plain ones, then tables."""
    key, field = item
    return 0 if key in ("name", "kind") else 2 if find_inner_group(field) else 1


def _make_row(key: str, field: FieldInfo, default: Any) -> Row:
    inner = find_inner_group(field)
    allowed = describe_allowed(field)
    if inner is not None:
        is_list = any(kind is not find_item_type(kind) for kind in list_kinds(field))
        allowed = "a list of tables" if is_list else "a table"
    return Row(key, allowed, _show_default(field, default), field.description or CHOOSES)


def _show_default(field: FieldInfo, default: Any) -> str:
    if field.is_required():
        return "required"
    if default is None:
        return "–"
    return "as below" if isinstance(default, Options) else f"`{show(default)}`"


def _read_about(group: type[Options]) -> str:
    """The first paragraph of what a group of settings says of itself, on one line."""
    return " ".join((group.__doc__ or "").split("\n\n")[0].split())


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def write_reference() -> str:
    """The page of all keys, in Markdown."""
    titles, parts, last = {"": "The job", "solver.stop": "`stop` of a stage"}, [ABOUT], None
    for group in list_groups():
        if group.place != last:
            parts.append(f"## {titles.get(group.place, f'`[{group.place}]`')}\n")
        if group.choice:
            parts.append(f"### `{_shorten(group.choice)}`\n")
        if _shorten(group.choice) != group.choice:
            parts.append(f"`{group.choice}`\n")
        if page := _find_page(group):
            parts.append(f"[What it computes]({page})\n")
        parts.append(group.write())
        last = group.place
    return "\n".join(parts)


def _find_page(group: Group) -> str | None:
    """The page of the method whose settings these are, from docs/ on."""
    name = group.choice.removeprefix("name = ").split(" or ")[0].strip('"')
    for page in sorted((ROOT / "docs/methods").glob("*.md")):
        marks = OPTIONS.findall(page.read_text(encoding="utf-8"))
        if group.place == "solver" and any(name in mark.split(", ") for mark in marks):
            return f"methods/{page.name}"
    return None


def _shorten(choice: str) -> str:
    """A choice of many names by its first one."""
    first, *others = choice.split(" or ")
    return f"{first}, …" if len(others) > 3 else choice


def write_options(solver: str) -> str:
    """The table of a solver's settings, in Markdown.

    Raises:
        KeyError: there is no such solver.
    """
    for group in list_groups():
        names = group.choice.removeprefix("name = ").split(" or ")
        if group.place == "solver" and show(solver) in names:
            return f"{HEAD}{''.join(row.write() for row in group.rows)}"
    raise KeyError(solver)
