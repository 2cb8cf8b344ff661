"""Which derivatives a term asks for, and what it gives, found by calling it once."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hpctrain.kernels.jets import JetShape
from hpctrain.linalg.arrays import CPU, to_tensor
from hpctrain.linalg.randomness import make_generator
from hpctrain.problems.equations.conditions.base import Frame
from hpctrain.problems.equations.fields import LAPLACIAN, At, Component, Field, Index
from hpctrain.problems.equations.terms import ProblemError, Term

# Functions of the user are called for a multiple of so many samples: torch takes two vectors at a
# time, of 16 numbers each in single precision, and has other instructions, with other bits, for the
# last numbers of an array. Which these are depends on the ranks.
LANES = 32
# Samples at which a term is tried out.
_SAMPLES = 64
# Up to so many coordinates a Laplacian is a sum of second derivatives.
_MOST_SECONDS = 4


@dataclass(frozen=True)
class Trial:
    """A term evaluated on made-up fields.

    Attributes:
        asked: components of each field that were asked for.
        leaves: the made-up values, by field and component.
        unknowns: the made-up unknowns.
        values: what the term gave, by name.
        at: the points.
        normals: there.
    """

    asked: Mapping[str, tuple[Component, ...]]
    leaves: Mapping[tuple[str, Component], Tensor]
    unknowns: Mapping[str, Tensor]
    values: Mapping[str, Tensor]
    at: At
    normals: Tensor | None

    @property
    def components(self) -> set[Component]:
        """Those of all fields."""
        return {component for asked in self.asked.values() for component in asked}


def try_out(term: Term, frame: Frame, dtype: torch.dtype = torch.float64) -> Trial:
    """Calls a term with made-up values at some of its points.

    Raises:
        ProblemError: it fails, or gives what is no residual.
    """
    samples = min(_SAMPLES, term.samples)
    at, normals = take_points(term, frame, slice(0, samples), dtype)
    leaves: dict[tuple[str, Component], Tensor] = {}
    shape = at.all.shape[1:]

    def make(field: str, wanted: Component) -> Tensor:
        key = (field, wanted)
        if key not in leaves:
            made = make_generator(0, f"trial {field} {wanted}").uniform(0.1, 1, shape)
            leaves[key] = to_tensor(made).to(dtype).requires_grad_()
        return leaves[key]

    fields = {name: Field(name, frame.axes, partial(make, name), normals) for name in frame.fields}
    unknowns = {
        name: to_tensor(make_generator(0, f"trial {name}").uniform(0.1, 1, 1))
        .to(dtype)
        .requires_grad_()
        for name in frame.unknowns
    }
    with torch.enable_grad():
        values = term.zero(at, fields, {name: each[0] for name, each in unknowns.items()})
    for name, value in values.items():
        check_residual(term, name, value, samples)
    asked: dict[str, list[Component]] = {name: [] for name in frame.fields}
    for field, wanted in leaves:
        asked[field].append(wanted)
    return Trial(
        {name: tuple(each) for name, each in asked.items()}, leaves, unknowns, values, at, normals
    )


def evaluate_term(
    term: Term,
    frame: Frame,
    samples: slice | Tensor,
    leaves: Mapping[tuple[str, Component], Tensor],
    unknowns: Mapping[str, Tensor],
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """A term at some samples, where fields have given components."""
    at, normals = take_points(term, frame, samples, dtype)

    def find(field: str, wanted: Component) -> Tensor:
        return leaves[field, wanted]

    fields = {name: Field(name, frame.axes, partial(find, name), normals) for name in frame.fields}
    return term.zero(at, fields, {name: each.detach()[0] for name, each in unknowns.items()})


def lengthen(values: Tensor) -> Tensor:
    """(…, N) with the last one repeated, up to a multiple of `LANES`."""
    more = -values.shape[-1] % LANES
    return torch.cat([values, *[values[..., -1:]] * more], dim=-1)


def take_points(
    term: Term,
    frame: Frame,
    samples: slice | Tensor,
    dtype: torch.dtype,
    device: torch.device = CPU,
    lengthened: bool = False,
) -> tuple[At, Tensor | None]:
    """`at` of some samples of a term, and the normals; (d, g, N) in groups of g points."""
    g, count = term.group, term.samples

    def part(rows: Tensor | None) -> Tensor | None:
        if rows is None:
            return None
        chosen = rows.reshape(len(rows), count, g)[:, samples].to(device, dtype)
        chosen = chosen[..., 0] if g == 1 else chosen.transpose(1, 2)
        return (lengthen(chosen) if lengthened else chosen).contiguous()

    points, normals, given = (part(rows) for rows in (term.points, term.normals, term.given))
    assert points is not None
    return At(frame.axes, points, normals, given), normals


def check_residual(term: Term, name: str, value: Any, samples: int) -> None:
    """Raises a ProblemError for what is not one number a sample."""
    if not isinstance(value, Tensor):
        returned = "None" if value is None else f"a value of type {type(value).__name__}"
    elif value.shape != (samples,):
        returned = f"a tensor of shape {tuple(value.shape)}"
    elif not value.is_floating_point():
        returned = f"values of type {value.dtype}"
    else:
        return
    raise ProblemError(
        f"{term.place}: {term.title} returned {returned} for {name}: it must be a tensor of shape"
        f" ({samples},), one floating-point number a point"
    )


def find_shape_for(components: set[Component], frame: Frame) -> JetShape:
    """The smallest jet that has these components."""
    d = len(frame.axes.names)
    indices: set[Index] = {c for c in components if not isinstance(c, str)}
    space = frame.axes.space
    laplacian: tuple[int, ...] = ()
    if LAPLACIAN in components:
        if len(space) <= _MOST_SECONDS or all((i, i) in indices for i in space):
            indices |= {(i, i) for i in space}
        else:
            laplacian = space
            indices |= {(i,) for i in space}
    return JetShape.make_closed(d, indices, laplacian)
