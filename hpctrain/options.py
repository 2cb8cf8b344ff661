"""The base of every group of settings in a job file: typed, closed, frozen."""

import difflib
import importlib
import pkgutil
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Tag, WrapValidator

Found = TypeVar("Found")

# A class in a Python file of the user's own, such as "my_pde.py:Heat".
OWN_CLASS = r".+\.py:[^\W\d]\w*"
# The name of a class that was given in Python.
FROM_PYTHON = r"python:[^\W\d]\w*"


def suggest(given: object, known: Iterable[str]) -> str:
    """The known name that a misspelt one is most like, as a question; empty if it is like none."""
    close = difflib.get_close_matches(given, list(known), n=1) if isinstance(given, str) else []
    return f" (did you mean {close[0]}?)" if close else ""


class Options(BaseModel):
    """A group of settings: unknown keys and wrong types are errors, values cannot change later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class GivenClass(str):
    """A class that was given in Python, where a job file names one as "file.py:Class".

    As a text it is "python:Class", which is what a run file has of it.

    Attributes:
        given: the class.
    """

    given: type

    def __new__(cls, given: type) -> "GivenClass":
        name = super().__new__(cls, f"python:{given.__name__}")
        name.given = given
        return name

    def __getnewargs__(self) -> tuple[Any]:
        return (self.given,)


# A setting that names a class of the user's own.
if TYPE_CHECKING:
    ClassName = str
else:
    ClassName = Annotated[
        str,
        WrapValidator(lambda name, check: name if isinstance(name, GivenClass) else check(name)),
    ]


def list_literals(group: type[Options], key: str) -> tuple[str, ...]:
    """The values that a setting may have, where these are a list of words; none otherwise."""
    field = group.model_fields.get(key)
    is_list = field is not None and get_origin(field.annotation) is Literal
    return get_args(field.annotation) if field is not None and is_list else ()


def find_classes(package: str, folder: Iterable[str], base: type[Found]) -> list[type[Found]]:
    """The subclasses of `base` that the files of a package define, by the files' names.

    Args:
        package: its dotted name.
        folder: its `__path__`.
    """
    found = []
    for module in sorted(each.name for each in pkgutil.iter_modules(folder)):
        name = f"{package}.{module}"
        for each in vars(importlib.import_module(name)).values():
            if isinstance(each, type) and issubclass(each, base) and each.__module__ == name:
                found.append(each)
    return found


def refuse_idle(options: Options, reasons: Mapping[str, str]) -> None:
    """Refuses settings that have no effect beside the others, unless they are at their defaults.

    Args:
        options: a group of settings.
        reasons: why a setting has no effect, by its name, such as "without batch_size".

    Raises:
        ValueError: the first such setting, with the reason.
    """
    for name, reason in reasons.items():
        if getattr(options, name) != type(options).model_fields[name].get_default():
            raise ValueError(f"{name} has no effect {reason}: leave it out")


@dataclass(frozen=True)
class Choice:
    """How the value of one key decides which group of settings a table is.

    Its `tag` is the discriminator of a union whose members are tagged with their class names.

    Attributes:
        key: the key that decides.
        groups: its values → the group.
        own: the group for "file.py:Class", or a class given in Python.
        example: of that, in words.
        default: the value where the key is missing.
    """

    key: str
    groups: Mapping[str, type[Options]]
    own: type[Options]
    example: str
    default: str | None = None

    def find_tag(self, table: Any) -> str | None:
        """The tag of the group that a table, or a group, is; None where nothing fits."""
        if isinstance(table, Options):
            return type(table).__name__
        name = table.get(self.key, self.default) if isinstance(table, dict) else None
        if not isinstance(name, str):
            return None
        own = self.own if re.fullmatch(f"{OWN_CLASS}|{FROM_PYTHON}", name) else None
        group = self.groups.get(name, own)
        return None if group is None else group.__name__

    @property
    def tags(self) -> dict[str, type[Options]]:
        """The groups by their tags."""
        return {group.__name__: group for group in (*self.groups.values(), self.own)}

    @property
    def union(self) -> Any:
        """The type of a table that is any of the groups, for pydantic."""
        return reduce(or_, (Annotated[group, Tag(tag)] for tag, group in self.tags.items()))

    def list_names(self, groups: tuple[type[Options], ...]) -> list[str]:
        """The values that lead to one of these groups, but for the user's own classes."""
        return [name for name, group in self.groups.items() if group in groups]
