"""Settings that replace those of a job: `--set solver.blocks=4`, `set={"solver.blocks": 4}`."""

import re
import tomllib
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from hpctrain.errors import JobError
from hpctrain.job.groups import (
    find_chosen_name,
    find_deciding_key,
    find_group,
    find_inner_group,
    is_choice,
)
from hpctrain.job.plain import make_plain
from hpctrain.options import Options

# "solver.blocks=4" each, whose value is TOML, or a bare word, which is taken as a string; or values
# by their keys.
Overrides = Sequence[str] | Mapping[str, Any]


@dataclass(frozen=True)
class Override:
    """A setting that replaces one of a job.

    Attributes:
        key: such as "solver.blocks"; a table of a list is named by its number from 1.
        value: None to leave the setting out, for its default.
        said: how the user gave it, for messages.
    """

    key: str
    value: Any
    said: str


def read_overrides(given: Overrides) -> list[Override]:
    """Reads the overrides that a command line or Python gives, in order.

    Raises:
        JobError: one is no key with a value.
    """
    if isinstance(given, Mapping):
        return [_take(key, value) for key, value in given.items()]
    return [_parse(text) for text in given]


def _take(key: Any, value: Any) -> Override:
    said = f"set={{{key!r}: {value!r}}}"
    if not (isinstance(key, str) and _is_key(key)):
        raise JobError(f'{said}: expected keys and values, such as {{"solver.blocks": 4}}')
    return Override(key, make_plain(value), said)


def _parse(text: str) -> Override:
    key, equals, value = text.partition("=")
    if not equals or not _is_key(key.strip()):
        raise JobError(f"--set {text}: expected KEY=VALUE, such as solver.blocks=4")
    return Override(key.strip(), _read_value(value.strip()), f"--set {text}")


def find_setting(settings: Any, key: str) -> Any:
    """Finds what the settings of a job have under a key; None for nothing."""
    for part in key.split("."):
        if isinstance(settings, list) and part.isdecimal() and 1 <= int(part) <= len(settings):
            settings = settings[int(part) - 1]
        elif isinstance(settings, dict):
            settings = settings.get(part)
        else:
            return None
    return settings


def _is_key(text: str) -> bool:
    return all(re.fullmatch(r"[\w-]+", part) for part in text.split("."))


def apply_overrides(
    settings: dict[str, Any], overrides: Sequence[Override], job: type[Options]
) -> list[str]:
    """Replaces settings of a job, in place.

    Where an override changes of which kind a table is, such as by solver.name, settings of the old
    kind are removed as well, with a warning.

    Args:
        settings: the content of the job file, which is changed.
        overrides: the overrides.
        job: the group of all settings.

    Returns:
        The keys that were replaced, such as "solver.blocks".

    Raises:
        JobError: the key of an override does not lead to a table.
    """
    before = {place: find_group(field, table) for place, field, table in _list(settings, job)}
    replaced = [_override(settings, override) for override in overrides]
    for place, field, table in _list(settings, job):
        old, new = before.get(place), find_group(field, table)
        if old is None or new is None or old is new:
            continue
        left_out = [*_leave_out(table, old, new, place, replaced)]
        if left_out:
            warnings.warn(
                f"{place}.{find_deciding_key(field)}={find_chosen_name(field, table)} does not have"
                f" {', '.join(left_out)}: left out",
                stacklevel=3,
            )
    return replaced


def _list(
    settings: Mapping[str, Any], job: type[Options]
) -> Iterator[tuple[str, FieldInfo, dict[str, Any]]]:
    """Yields tables whose group one of their keys decides, with names such as "solver.2"."""
    for key, field in job.model_fields.items():
        given = settings.get(key)
        if not is_choice(field):
            continue
        if isinstance(given, dict):
            yield key, field, given
        elif isinstance(given, list):
            for number, table in enumerate(given, start=1):
                if isinstance(table, dict):
                    yield f"{key}.{number}", field, table


def _leave_out(
    table: dict[str, Any],
    old: type[Options],
    new: type[Options],
    place: str,
    kept: Collection[str],
) -> Iterator[str]:
    """Removes settings that only the old group has, but those to be kept; yields their keys."""
    for name, value in list(table.items()):
        key = f"{place}.{name}"
        if name not in old.model_fields or _is_within(key, kept):
            continue
        if name in new.model_fields:
            inner = (
                find_inner_group(old.model_fields[name]),
                find_inner_group(new.model_fields[name]),
            )
            if isinstance(value, dict) and inner[0] and inner[1]:
                yield from _leave_out(value, inner[0], inner[1], key, kept)
        elif not any(_is_within(given, [key]) for given in kept):
            del table[name]
            yield key


def _is_within(key: str, places: Collection[str]) -> bool:
    """Whether a key is one of these, or inside a table that is."""
    return any(f"{key}.".startswith(f"{place}.") for place in places)


def _override(settings: Any, override: Override) -> str:
    """Puts a value into nested settings, which are changed; returns its key."""
    parts, asked, inner = override.key.split("."), override.said, settings
    for depth, part in enumerate(parts[:-1], start=1):
        inner = _enter(inner, part, asked, ".".join(parts[:depth]))
    name: Any = parts[-1]
    if isinstance(inner, list):
        name = _find_index(inner, name, asked, ".".join(parts[:-1]))
    if override.value is not None:
        inner[name] = override.value
    elif isinstance(inner, dict) and name not in inner:
        raise JobError(f"{asked}: there is no {override.key} to leave out")
    else:
        del inner[name]
    return override.key


def _enter(settings: Any, part: str, asked: str, place: str) -> Any:
    """Returns what a table has under a name, or a list under a number.

    Args:
        settings: the table or list.
        part: the name or number.
        asked: the whole override, for messages.
        place: how messages call the table or list.
    """
    if isinstance(settings, list):
        inner = settings[_find_index(settings, part, asked, place.rpartition(".")[0])]
    else:
        inner = settings.setdefault(part, {})
    if not isinstance(inner, dict | list):
        raise JobError(f"{asked}: {place} is not a table")
    return inner


def _find_index(items: list[Any], part: str, asked: str, place: str) -> int:
    """Returns the index in a list that a number from 1 names."""
    if not (part.isdecimal() and 1 <= int(part) <= len(items)):
        raise JobError(f"{asked}: {place} is a list, a number from 1 to {len(items)} comes next")
    return int(part) - 1


def _read_value(text: str) -> Any:
    """Returns the value that a TOML text means; a text that is not TOML means itself, "" None."""
    if not text:
        return None
    try:
        document = tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    return document["value"] if len(document) == 1 else text
