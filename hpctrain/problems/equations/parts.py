"""Which network has which fields: one for all, one a field, or groups; and what each depends on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from hpctrain.problems.equations.ansatz import Function, evaluate_jets
from hpctrain.problems.equations.conditions.base import Frame
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.exact import FieldForm
from hpctrain.problems.equations.fields import Component
from hpctrain.problems.equations.geometry.sampling import place_interior_points
from hpctrain.problems.equations.slopes import FlatEnds, find_flat_ends
from hpctrain.problems.equations.terms import ProblemError

# The setting that says so.
KEY = "network.separate"
# Points at which forms are differentiated, and the part of its values that is no derivative.
_POINTS, _ZERO = 64, 1e-12


@dataclass(frozen=True)
class Part:
    """The fields that are the outputs of one network, in their order.

    Attributes:
        coordinates: names of the coordinates and inputs that the network takes.
        flat: what it takes in the place of some of them, so that exact slopes hold.
    """

    fields: tuple[str, ...]
    coordinates: tuple[str, ...]
    flat: tuple[FlatEnds, ...] = ()


def divide_fields(
    equations: Equations, separate: bool | Sequence[Sequence[str]], is_soft: bool = False
) -> tuple[Part, ...]:
    """Divides the fields among networks.

    Args:
        equations: checked.
        separate: one network a field; or groups of fields; or, where it is false, one for all
            fields that depend on the same coordinates, with exact slopes at the same ends.
        is_soft: no condition is exact.

    Raises:
        ProblemError: the groups are not of all fields, or fields of one depend on others.
    """
    frame = equations.frame
    fields, given = frame.fields, f"{KEY} = {separate!r} is not allowed"
    flat = {field: () if is_soft else find_flat_ends(equations, field) for field in fields}
    if len(fields) == 1 and separate is not False:
        raise ProblemError(f"{given}: {frame.title} has one field, {fields[0]}")
    if isinstance(separate, bool):
        by_seen: dict[object, list[str]] = {}
        for field in fields:
            key = field if separate else (equations.find_coordinates(field), flat[field])
            by_seen.setdefault(key, []).append(field)
        groups: Iterable[Sequence[str]] = by_seen.values()
    else:
        groups = separate
        named = sorted(field for group in groups for field in group)
        if named != sorted(fields) or not all(groups):
            raise ProblemError(f"{given}: each of {', '.join(fields)} in one of the groups")
    return tuple(_make_part(equations, group, flat, given) for group in groups)


def _make_part(
    equations: Equations,
    group: Sequence[str],
    flat: Mapping[str, tuple[FlatEnds, ...]],
    given: str,
) -> Part:
    seen = {equations.find_coordinates(field): field for field in group}
    if len(seen) != 1:
        said = (f"{field} on {', '.join(names)}" for names, field in seen.items())
        raise ProblemError(f"{given}: the fields of a group depend on {' and '.join(said)}")
    if len({flat[field] for field in group}) != 1:
        raise ProblemError(f"{given}: the fields of a group have exact slopes at the same ends")
    return Part(tuple(group), equations.find_coordinates(group[0]), flat[group[0]])


def check_forms(equations: Equations, forms: dict[str, FieldForm]) -> None:
    """Refuses a form G + D·N that depends on coordinates on which its field does not.

    Raises:
        ProblemError: there is one.
    """
    frame = equations.frame
    for field, form in forms.items():
        seen = equations.find_coordinates(field)
        for name in frame.axes.names:
            if name not in seen and _varies(form, frame, frame.axes.names.index(name)):
                raise ProblemError(
                    f"{form.place}: it depends on {name}, where {field} depends on"
                    f" {', '.join(seen)} only"
                )


def _varies(form: FieldForm, frame: Frame, along: int) -> bool:
    points = place_interior_points(frame.region, _POINTS)
    components: list[Component] = [(), (along,)]

    def is_constant(function: Function) -> bool:
        jets = evaluate_jets(function, points, components, (), form.place)
        size = max(float(jets[()].abs().max()), torch.finfo(torch.float64).tiny)
        return float(jets[along,].abs().max()) <= _ZERO * size

    return not (is_constant(form.lifting) and is_constant(form.distance))
