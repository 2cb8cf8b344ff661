"""The class by which a user states a problem: fields, where they live, and what they satisfy.

class Wave(Equations):
    geometry = Box(t=(0, 1), x=(0, 1))
    conditions = (
        Initial({"u": lambda at: torch.sin(math.pi * at.x), "u.t": 0.0}),
        Dirichlet({"u": 0.0}),
    )

    def residuals(self, at, u):
        return u.tt - 4 * u.xx
"""

import copy
import re
from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import Any, Self

from hpctrain.problems.equations.conditions.base import AnyCondition, Frame, tell_names_apart
from hpctrain.problems.equations.fields import RESERVED, At, Axes, is_name
from hpctrain.problems.equations.geometry import Box, Geometry
from hpctrain.problems.equations.given import are_finite, is_count, is_finite, is_interval
from hpctrain.problems.equations.terms import EQUATION, ProblemError
from hpctrain.problems.equations.unknowns import Unknown

# Points along each coordinate where a class names none, by the number of coordinates.
_GRIDS = {1: (1001,), 2: (200, 400), 3: (41, 41, 41)}
# Up to so many coordinates all products of two names are compared.
_COMPARED = 12


class _CheckedWhenMade(ABCMeta):
    """Checks an object when its own __init__ is done."""

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        made = super().__call__(*arguments, **options)
        made.check()
        return made


class Equations(ABC, metaclass=_CheckedWhenMade):
    """Equations for fields, with conditions; a subclass gives the data and writes `residuals`.

    Attributes:
        name: what reports call them; by default made of the name of the class.
        geometry: where they hold; its axes are the coordinates, time being "t".
        fields: names of what is sought.
        depends: the coordinates and inputs on which a field depends, by its name, such as
            {"a": ("x", "y")}; a field that is not named depends on all of them.
        unknowns: numbers that are found with the fields, by name.
        inputs: parameters of a family of solutions, by name, with their ranges.
        conditions: beside the equations.
        up_to_constant: fields and quantities, such as a pressure, whose errors do not count a
            constant.
        test_grid: points along each coordinate and input at which errors are measured and that
            pictures show, ends included; for a geometry that is no box None: points inside.

    Raises:
        ProblemError: the data are impossible, where an object is made.
    """

    name: str = ""
    geometry: Geometry
    fields: Sequence[str] = ("u",)
    depends: Mapping[str, Sequence[str]] = {}
    unknowns: Mapping[str, Unknown] = {}
    inputs: Mapping[str, tuple[float, float]] = {}
    conditions: Sequence[AnyCondition] = ()
    up_to_constant: Sequence[str] = ()
    test_grid: tuple[int, ...] | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "name" not in vars(cls):
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()

    @abstractmethod
    def residuals(self, at: At, *fields: Any) -> Any:
        """What is zero where the equations hold.

        Args:
            at: points: at.x (N,), for each coordinate and input.
            fields: and unknowns, in any order, found by the names of the parameters.

        Returns:
            One value a point (N,), or several as a tuple or by name.
        """

    def ansatz(self, at: At) -> Mapping[str, tuple[Any, Any]]:
        """G and D, (N,) each or numbers, of fields that are sought as u = G + D·N, N a network.

        Conditions that this form meets for every N are no terms of the loss. By default none; exact
        conditions have such forms made for them.
        """
        return {}

    def quantities(self, at: At, *fields: Any) -> Mapping[str, Any]:
        """What is measured and predicted beside the fields, (N,) each, such as {"speed": …}.

        Args:
            at, fields: as `residuals` takes them.
        """
        return {}

    def reference(self, at: At) -> Any:
        """The true solution: (N,), or by the names of fields and quantities; None for none."""
        return None

    @cached_property
    def frame(self) -> Frame:
        """Names and places, for conditions."""
        region = self.geometry
        if self.inputs:
            region = region * Box(**self.inputs)
        axes = Axes(tuple(self.geometry.axes), tuple(self.inputs))
        return Frame(type(self).__name__, axes, region, tuple(self.fields), tuple(self.unknowns))

    @cached_property
    def named_conditions(self) -> dict[str, AnyCondition]:
        """The conditions under names of their own."""
        names = tell_names_apart(each.name or each.kind for each in self.conditions)
        return dict(zip(names, self.conditions, strict=True))

    def alter(self, **attributes: Any) -> Self:
        """The same with other attributes, such as conditions; checked.

        Raises:
            ProblemError: these are impossible.
        """
        part = copy.copy(self)
        for name in ("frame", "named_conditions"):  # what was made of the others
            vars(part).pop(name, None)
        vars(part).update(attributes)
        part.check()
        return part

    def find_coordinates(self, field: str) -> tuple[str, ...]:
        """The coordinates and inputs on which a field depends, in their order."""
        names = self.frame.axes.names
        return tuple(name for name in names if name in self.depends.get(field, names))

    @property
    def grid(self) -> tuple[int, ...] | None:
        """The test grid; None where points inside are taken."""
        if not isinstance(self.frame.region, Box) and self.test_grid is None:
            return None
        if self.test_grid is None:
            return _GRIDS.get(len(self.frame.axes.names))
        return tuple(map(int, self.test_grid))

    def check(self) -> None:
        """Raises a ProblemError where the data are impossible."""
        title = type(self).__name__
        self._check_geometry(title)
        if not (isinstance(self.name, str) and self.name.strip()):
            raise ProblemError(f"{title}.name is {self.name!r}: it must be a non-empty string")
        self._check_mappings(title)
        self._check_names(title)
        self._check_dependence(title)
        for name, unknown in self.unknowns.items():
            if name == "error" or name.startswith("error_"):
                raise ProblemError(
                    f"{title}: an unknown of the problem is named {name}, as a column of the"
                    " history is that has an error"
                )
            _check_unknown(f"{title}.unknowns: {name}", unknown)
        if type(self).quantities is Equations.quantities:
            check_up_to_constant(self, self.fields)
        _check_grid(title, self.test_grid, len(self.frame.axes.names))
        self._check_conditions(title)

    def _check_geometry(self, title: str) -> None:
        if not isinstance(getattr(self, "geometry", None), Geometry):
            given = repr(self.geometry) if hasattr(self, "geometry") else "missing"
            raise ProblemError(
                f"{title}.geometry is {given}: it must be a geometry, such as Box(x=(0, 1))"
            )
        pairs = zip(self.geometry.axes, self.geometry.bounds, strict=True)
        if free := [axis for axis, pair in pairs if not are_finite(pair)]:
            raise ProblemError(
                f"{title}.geometry is not bounded along {', '.join(free)}: cut it from a box, by &"
            )

    def _check_conditions(self, title: str) -> None:
        if not isinstance(self.conditions, tuple | list):
            raise ProblemError(f"{title}.conditions is {self.conditions!r}: it must be a tuple")
        for each in self.conditions:
            if not isinstance(each, AnyCondition):
                raise ProblemError(
                    f"{title}.conditions has {each!r}: it must have conditions, such as"
                    f' Dirichlet({{"{self.fields[0]}": 0.0}})'
                )
            if not isinstance(each.name, str):
                raise ProblemError(
                    f"{title}: {each.kind}: name = {each.name!r}: it must be a string"
                )
        for name, condition in self.named_conditions.items():
            place = f"{title}: {name}"
            _check_data(name, condition, place)
            condition.check(self.frame, place)

    def _check_mappings(self, title: str) -> None:
        for name, example in (("unknowns", "Unknown(1.0)"), ("inputs", "(0.0, 1.0)")):
            given = getattr(self, name)
            if not isinstance(given, Mapping):
                raise ProblemError(
                    f"{title}.{name} is {given!r}: it must be a mapping of names, such as"
                    f' {{"k": {example}}}'
                )
        for name, pair in self.inputs.items():
            if not is_interval(pair):
                raise ProblemError(
                    f"{title}.inputs: {name} is {pair!r}: it must be a pair (low, high) of finite"
                    " numbers, low < high"
                )

    def _check_names(self, title: str) -> None:
        if isinstance(self.fields, str) or not isinstance(self.fields, Sequence) or not self.fields:
            raise ProblemError(
                f'{title}.fields is {self.fields!r}: it must be a tuple of names, such as ("u",)'
            )
        axes = self.geometry.axes
        named = [("geometry", axes), ("fields", self.fields)]
        named += [("unknowns", tuple(self.unknowns)), ("inputs", tuple(self.inputs))]
        seen: dict[str, str] = {}
        for attribute, names in named:
            for name in names:
                if not is_name(name) or name in RESERVED or name == "at":
                    raise ProblemError(
                        f"{title}.{attribute} has the name {name!r}: it must be a Python name other"
                        f" than at, {', '.join(RESERVED)}"
                    )
                if name in seen:
                    raise ProblemError(
                        f"{title}.{attribute} has the name {name!r}, as {title}.{seen[name]} has"
                    )
                seen[name] = attribute
        _check_readable(title, axes)

    def _check_dependence(self, title: str) -> None:
        names, place = self.frame.axes.names, f"{title}.depends"
        if not isinstance(self.depends, Mapping) or not set(self.depends) <= set(self.fields):
            raise ProblemError(
                f"{place} is {self.depends!r}: it must be a mapping of fields"
                f" ({', '.join(self.fields)}) to coordinates"
            )
        for field, seen in self.depends.items():
            if isinstance(seen, str) or not seen or not set(seen) <= set(names):
                raise ProblemError(
                    f"{place}: {field} is given {seen!r}: it must be a tuple of one or more of"
                    f" {', '.join(names)}"
                )


def _check_readable(title: str, axes: Sequence[str]) -> None:
    """Whether names of derivatives can be read in one way only."""
    if len(axes) > _COMPARED:
        return
    words: dict[str, tuple[str, ...]] = {name: (name,) for name in axes}
    for pair in product(axes, axes):
        word = "".join(pair)
        if sorted(words.setdefault(word, pair)) != sorted(pair):
            raise ProblemError(
                f"{title}.geometry has the axes {', '.join(axes)}: the derivative {word} could mean"
                f" {' and '.join(words[word])}, or {' and '.join(pair)}"
            )


def _check_data(name: str, condition: AnyCondition, place: str) -> None:
    """Raises a ProblemError for what no condition may have, of whatever kind."""
    if not (is_finite(condition.weight) and condition.weight > 0):
        raise ProblemError(
            f"{place}: weight = {condition.weight!r}: it must be a finite number above 0"
        )
    if "/" in name or name == EQUATION:
        raise ProblemError(
            f"{place}: name = {name!r} is not allowed: without /, and not {EQUATION}"
        )
    if not (condition.points is None or is_count(condition.points)):
        raise ProblemError(
            f"{place}: points = {condition.points!r}: it must be an integer, 1 or more"
        )


def _check_unknown(place: str, unknown: Any) -> None:
    if not isinstance(unknown, Unknown):
        raise ProblemError(f"{place} is {unknown!r}: it must be Unknown(start)")
    start = unknown.start
    if not is_finite(start):
        raise ProblemError(f"{place}: start = {start!r}: it must be a finite number")
    if not (unknown.true is None or is_finite(unknown.true)):
        raise ProblemError(f"{place}: true = {unknown.true!r}: it must be a finite number, or None")
    for key, value in {"start": start, "true": unknown.true}.items():
        if unknown.positive and value is not None and not value > 0:
            raise ProblemError(f"{place}: {key} = {value!r}: it must be above 0, as positive says")


def check_up_to_constant(equations: Equations, names: Sequence[str]) -> None:
    """Raises a ProblemError where it has other names than those of fields and quantities."""
    given = equations.up_to_constant
    if isinstance(given, str) or not isinstance(given, Sequence) or not set(given) <= set(names):
        raise ProblemError(
            f"{type(equations).__name__}.up_to_constant is {given!r}: it must be a tuple of one or"
            f" more of {', '.join(names)}"
        )


def _check_grid(title: str, grid: Any, count: int) -> None:
    if grid is None:
        return
    are_counts = isinstance(grid, tuple) and all(is_count(each) and each >= 2 for each in grid)
    if not (are_counts and len(grid) == count):
        raise ProblemError(
            f"{title}.test_grid is {grid!r}: it must be a tuple of {count} integers, 2 or more"
        )
