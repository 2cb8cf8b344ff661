"""Describes groups of settings: what each setting may be, and among which groups a table chooses.

Faults in job files are explained with it, and the reference of job keys is written with it.
"""

import json
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import Discriminator
from pydantic.fields import FieldInfo
from pydantic.types import AllowInfNan

from hpctrain.networks.kinds.none import NoNetworkOptions
from hpctrain.options import Choice, Options


def list_kinds(field: FieldInfo) -> list[Any]:
    """Lists the types that a setting may have, without None, which TOML cannot write."""
    annotation = field.annotation
    if get_origin(annotation) not in (Union, UnionType):
        return [annotation]
    return [kind for kind in get_args(annotation) if kind is not NoneType]


def find_item_type(kind: Any) -> Any:
    """Returns the type of a list's items, or a type that is no list itself."""
    return get_args(kind)[0] if get_origin(kind) is list else kind


def list_named_groups(field: FieldInfo) -> Mapping[str, type[Options]]:
    """Returns the groups among which a table chooses by its key, without the user's own.

    They are named by the values of this key.
    """
    chooser = find_chooser(field)
    return list_variants(field) if chooser is None else chooser.groups


def find_deciding_key(field: FieldInfo) -> str:
    """Returns the key by which a table chooses its group."""
    chooser = find_chooser(field)
    return str(field.discriminator) if chooser is None else chooser.key


def find_chosen_name(field: FieldInfo, table: Mapping[str, Any]) -> Any:
    """Returns what a table has for its deciding key, or the default of that key."""
    chooser = find_chooser(field)
    return table.get(find_deciding_key(field), chooser and chooser.default)


def find_group(field: FieldInfo, table: Any) -> type[Options] | None:
    """Finds the group that a table of a job file chooses; None where its key names none."""
    chooser = find_chooser(field)
    if chooser is not None:
        return chooser.tags.get(chooser.find_tag(table) or "")
    name = table.get(field.discriminator) if isinstance(table, dict) else None
    return list_variants(field).get(name) if isinstance(name, str) else None


def find_inner_group(field: FieldInfo) -> type[Options] | None:
    """Returns the group of a setting that is a table or a list of tables; None for another."""
    return next((kind for kind in map(find_item_type, list_kinds(field)) if is_group(kind)), None)


def is_choice(field: FieldInfo) -> bool:
    """Whether the setting is a table that chooses its group by one of its keys."""
    return field.discriminator is not None or find_chooser(field) is not None


def describe_allowed(field: FieldInfo) -> str:
    """Describes what a setting may be, such as "an integer, at least 1"."""
    if is_choice(field):
        return f"a table with {find_deciding_key(field)}, {describe_names(field)}"
    return _describe_kinds(list_kinds(field), field.metadata)


def _describe_kinds(kinds: Iterable[Any], constraints: Iterable[Any]) -> str:
    each = [_describe_kind(kind) for kind in kinds]
    described = (", or " if any("," in words for words in each) else " or ").join(each)
    bounds = _describe_bounds(constraints)
    return f"{described}, {bounds}" if bounds else described


def _describe_kind(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        bare, *marks = get_args(kind)
        return _describe_kinds([bare], _list_constraints(marks))
    if get_origin(kind) in (Union, UnionType):
        return _describe_kinds(get_args(kind), ())
    if get_origin(kind) is Literal:
        return describe_choice(get_args(kind))
    if is_group(kind):
        return f"a table with {', '.join(kind.model_fields)}"
    if is_group(find_item_type(kind)):
        return f"a list of tables with {', '.join(find_item_type(kind).model_fields)}"
    if get_origin(kind) is dict:
        return f"a table, each value {_describe_kind(get_args(kind)[1])}"
    if get_origin(kind) is list:
        return f"a list of {_describe_items(find_item_type(kind))}"
    names = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}
    return names.get(kind, str(kind))


def _describe_items(kind: Any) -> str:
    """Describes the items of a list."""
    if get_origin(kind) is Annotated:
        bare, *marks = get_args(kind)
        return f"{_describe_items(bare)}, {_describe_bounds(_list_constraints(marks))} each"
    if get_origin(kind) is list:
        return f"lists of {_describe_items(find_item_type(kind))}"
    return {int: "integers", float: "numbers", str: "strings"}.get(kind, str(kind))


def _list_constraints(marks: Iterable[Any]) -> list[Any]:
    """Lists the constraints of an annotated type, of which a field has several."""
    return [
        each
        for mark in marks
        for each in (mark.metadata if isinstance(mark, FieldInfo) else [mark])
    ]


def _describe_bounds(constraints: Iterable[Any]) -> str:
    return " and ".join(filter(None, map(_describe_bound, constraints)))


def _describe_bound(constraint: Any) -> str:
    match constraint:
        case Ge(ge=bound):
            return f"at least {bound}"
        case Gt(gt=bound):
            return f"above {bound}"
        case Le(le=bound):
            return f"at most {bound}"
        case Lt(lt=bound):
            return f"below {bound}"
        case AllowInfNan(allow_inf_nan=False):
            return "finite"
        case MinLen():
            return "not empty"
    return ""


def describe_names(field: FieldInfo) -> str:
    """Describes what the deciding key of a table may be."""
    names = [
        name for name, group in list_named_groups(field).items() if group is not NoNetworkOptions
    ]
    chooser = find_chooser(field)
    return (
        describe_choice(names)
        if chooser is None
        else f"{describe_choice(names)}, {chooser.example}"
    )


def list_variants(field: FieldInfo) -> dict[str, type[Options]]:
    """Returns the groups among which a table chooses, by the tags that pydantic gives them."""
    chooser = find_chooser(field)
    if chooser is not None:
        return chooser.tags
    groups = get_args(field.annotation)
    tags = {group: group.model_fields[field.discriminator].annotation for group in groups}
    return {tag: group for group in groups for tag in get_args(tags[group])}


def find_chooser(field: FieldInfo) -> Choice | None:
    """Returns the `Choice` of a table, or of each table in a list.

    None where a plain list of names decides, for which pydantic has its own discriminator.
    """
    marks = (*field.metadata, *getattr(find_item_type(field.annotation), "__metadata__", ()))
    tags = (each.discriminator for each in marks if isinstance(each, Discriminator))
    owners = (getattr(tag, "__self__", None) for tag in tags)
    return next((owner for owner in owners if isinstance(owner, Choice)), None)


def is_group(kind: Any) -> bool:
    """Whether a type is a group of settings."""
    return isinstance(kind, type) and issubclass(kind, Options)


def describe_choice(names: Iterable[Any]) -> str:
    """Lists the values of a choice in words."""
    return f"one of {', '.join(map(show, names))}"


def show(value: Any) -> str:
    """Writes a value on one line much as TOML does, and shortens it where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
