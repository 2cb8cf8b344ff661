"""Settings that replace those of a job file, as in `--set solver.blocks=4`."""

import re
import tomllib
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
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
from hpctrain.options import Options


def apply_overrides(
    settings: dict[str, Any], overrides: Sequence[str], job: type[Options]
) -> list[str]:
    """Replaces settings of a job file, in place.

    An override is "key.of.setting=value". The value is TOML; a bare word is a string. A table in a
    list is named by its number from 1, as in "solver.2.memory=5". An override without a value
    removes the setting, which then has its default. Where it changes of which kind a table is, such
    as by solver.name, settings of the old kind are removed as well, with a warning.

    Args:
        settings: the content of the job file, which is changed.
        overrides: the overrides.
        job: the group of all settings.

    Returns:
        The keys that were replaced, such as "solver.blocks".

    Raises:
        JobError: an override is no key with a value, or its key does not lead to a table.
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


def _override(settings: Any, override: str) -> str:
    """Puts "a.b=value" into nested settings, which are changed; returns the key "a.b"."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(re.fullmatch(r"[\w-]+", part) for part in parts):
        raise JobError(f"--set {override}: expected KEY=VALUE, such as solver.blocks=4")
    asked, inner = f"--set {override}", settings
    for depth, part in enumerate(parts[:-1], start=1):
        inner = _enter(inner, part, asked, ".".join(parts[:depth]))
    name: Any = parts[-1]
    if isinstance(inner, list):
        name = _find_index(inner, name, asked, ".".join(parts[:-1]))
    if text.strip():
        inner[name] = _toml_value(text.strip())
    elif isinstance(inner, dict) and name not in inner:
        raise JobError(f"{asked}: there is no {key.strip()} to leave out")
    else:
        del inner[name]
    return ".".join(parts)


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


def _toml_value(text: str) -> Any:
    """Returns the value that a TOML text means; a text that is not TOML means itself."""
    try:
        document = tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    return document["value"] if len(document) == 1 else text
