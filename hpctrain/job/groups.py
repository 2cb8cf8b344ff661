"""How a group of settings is made: what each may be, and which groups a table chooses from."""

import json
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import Discriminator
from pydantic.fields import FieldInfo

from hpctrain.networks.kinds.none import NoNetworkOptions
from hpctrain.options import Choice, Options


def kinds_of(field: FieldInfo) -> list[Any]:
    """The types that a setting may have; None, which TOML cannot write, left out."""
    annotation = field.annotation
    if get_origin(annotation) not in (Union, UnionType):
        return [annotation]
    return [kind for kind in get_args(annotation) if kind is not NoneType]


def item_of(kind: Any) -> Any:
    """The type of a list's items, or a type that is no list."""
    return get_args(kind)[0] if get_origin(kind) is list else kind


def named_groups(field: FieldInfo) -> Mapping[str, type[Options]]:
    """The groups among which a table's key chooses, by its values, without the user's own."""
    chooser = chooser_of(field)
    return variants_of(field) if chooser is None else chooser.groups


def deciding_key(field: FieldInfo) -> str:
    """The key that decides which group a table is."""
    chooser = chooser_of(field)
    return str(field.discriminator) if chooser is None else chooser.key


def chosen_name(field: FieldInfo, table: Mapping[str, Any]) -> Any:
    """What a table gives for its deciding key, or the default of that."""
    chooser = chooser_of(field)
    return table.get(deciding_key(field), chooser and chooser.default)


def group_of(field: FieldInfo, table: Any) -> type[Options] | None:
    """The group that a table of a job file is; None where its deciding key fits none."""
    chooser = chooser_of(field)
    if chooser is not None:
        return chooser.tags.get(chooser.tag(table) or "")
    name = table.get(field.discriminator) if isinstance(table, dict) else None
    return variants_of(field).get(name) if isinstance(name, str) else None


def inner_group(field: FieldInfo) -> type[Options] | None:
    """The group of a setting that is a table, or a list of tables; None for any other."""
    return next((kind for kind in map(item_of, kinds_of(field)) if is_group(kind)), None)


def is_choice(field: FieldInfo) -> bool:
    """Whether the setting is a table whose group one of its keys decides."""
    return field.discriminator is not None or chooser_of(field) is not None


def names_allowed(field: FieldInfo) -> str:
    """What the deciding key may be."""
    names = [name for name, group in named_groups(field).items() if group is not NoNetworkOptions]
    chooser = chooser_of(field)
    return one_of(names) if chooser is None else f"{one_of(names)}, {chooser.example}"


def variants_of(field: FieldInfo) -> dict[str, type[Options]]:
    """The groups among which a table's key chooses, by the tags that pydantic puts into places."""
    chooser = chooser_of(field)
    if chooser is not None:
        return chooser.tags
    groups = get_args(field.annotation)
    tags = {group: group.model_fields[field.discriminator].annotation for group in groups}
    return {tag: group for group in groups for tag in get_args(tags[group])}


def chooser_of(field: FieldInfo) -> Choice | None:
    """The `Choice` of a table whose groups are not told apart by a plain list of names."""
    tags = (each.discriminator for each in field.metadata if isinstance(each, Discriminator))
    owners = (getattr(tag, "__self__", None) for tag in tags)
    return next((owner for owner in owners if isinstance(owner, Choice)), None)


def is_group(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Options)


def one_of(names: Iterable[Any]) -> str:
    return f"one of {', '.join(map(shown, names))}"


def shown(value: Any) -> str:
    """A value on one line, much as TOML writes it, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
