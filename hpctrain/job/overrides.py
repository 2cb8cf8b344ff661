"""Settings that replace those of a job file: `--set solver.blocks=4`."""

import re
import tomllib
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import Any

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
    """Puts overrides into the settings of a job file, in place.

    Each is "key.of.setting=value"; the value is TOML, or a bare word, which is taken as a string.
    Without a value the setting is left out, for its default. Where one changes what a table is,
    such as solver.name, what the file sets of the old kind only is left out too, with a warning.

    Args:
        job: the group of all settings.

    Returns:
        the keys that were replaced, such as "solver.blocks".

    Raises:
        JobError: it is no key with a value, or its place is no table.
    """
    tables = {key: field for key, field in job.model_fields.items() if is_choice(field)}
    before = {key: find_group(field, settings.get(key)) for key, field in tables.items()}
    replaced = [_override(settings, override) for override in overrides]
    for key, field in tables.items():
        old, new, table = before[key], find_group(field, settings.get(key)), settings.get(key)
        if old is None or new is None or old is new or table is None:
            continue
        left_out = [*_leave_out(table, old, new, key, replaced)]
        if left_out:
            warnings.warn(
                f"{key}.{find_deciding_key(field)}={find_chosen_name(field, table)} does not have"
                f" {', '.join(left_out)}: left out",
                stacklevel=3,
            )
    return replaced


def _leave_out(
    table: dict[str, Any],
    old: type[Options],
    new: type[Options],
    place: str,
    kept: Collection[str],
) -> Iterator[str]:
    """Takes out what a table has of the old group only; the keys, but for those to be kept."""
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
    """Whether a key is one of these, or in a table that is one of these."""
    return any(f"{key}.".startswith(f"{place}.") for place in places)


def _override(settings: dict[str, Any], override: str) -> str:
    """Puts "a.b=value" into nested settings, in place; returns the key, "a.b"."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(re.fullmatch(r"[\w-]+", part) for part in parts):
        raise JobError(f"--set {override}: expected KEY=VALUE, such as solver.blocks=4")
    for depth, part in enumerate(parts[:-1], start=1):
        settings = settings.setdefault(part, {})
        if not isinstance(settings, dict):
            raise JobError(f"--set {override}: {'.'.join(parts[:depth])} is not a table")
    if text.strip():
        settings[parts[-1]] = _toml_value(text.strip())
    elif settings.pop(parts[-1], None) is None:
        raise JobError(f"--set {override}: there is no {key.strip()} to leave out")
    return ".".join(parts)


def _toml_value(text: str) -> Any:
    """The value that a TOML text stands for; a text that is not TOML stands for itself."""
    try:
        document = tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    return document["value"] if len(document) == 1 else text
