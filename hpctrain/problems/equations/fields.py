"""What an equation is written with: points `at`, and fields that know their derivatives.

A derivative is named by the coordinates along which it is taken, in any order: u.x, u.xy, u.xxyy;
`u.laplacian` is the sum of the second derivatives along all coordinates but time, and `u.normal`
the derivative along the outward normal, where there is a boundary. A field by itself is its value.
"""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, reduce
from keyword import iskeyword
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hpctrain.kernels.shape import JetShape

# The coordinates along which a derivative is taken, by number, ascending: () is the value.
Index = tuple[int, ...]
# The component of a jet that stands for the sum of the second derivatives along space.
LAPLACIAN = "laplacian"
Component = Index | str

HIGHEST_ORDER = 4
TIME = "t"
# Names of a field that are no derivatives.
RESERVED = ("value", "normal", LAPLACIAN)
NO_NORMALS = (
    "is not known here: there are normals on pieces of the boundary, not inside or where"
    " coordinates are fixed"
)


def list_components(shape: JetShape) -> list[Component]:
    """The components of a jet, in its order."""
    return [*shape.indices, *([LAPLACIAN] if shape.laplacian else [])]


@dataclass(frozen=True)
class Axes:
    """Names of the coordinates, and of those that are parameters, along which none differentiates.

    Attributes:
        coordinates: in the order of the rows of points.
        inputs: which follow them.
    """

    coordinates: tuple[str, ...]
    inputs: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.coordinates, *self.inputs)

    @property
    def space(self) -> tuple[int, ...]:
        """The numbers of the coordinates other than time."""
        return tuple(i for i, name in enumerate(self.coordinates) if name != TIME)

    def index(self, name: str) -> Index | None:
        """The derivative that is called "xy"; None where it is none."""
        return _parse(name, self.coordinates)

    def derivative(self, index: Component) -> str:
        """ "xy" for (0, 1); "" for the value."""
        if isinstance(index, str):
            return index
        return "".join(self.coordinates[i] for i in index)

    def describe(self, point: Tensor) -> str:
        """ "t = 0.5, x = 1" for a point (d,)."""
        named = zip(self.names, point.tolist(), strict=True)
        return ", ".join(f"{name} = {value:.6g}" for name, value in named)


@lru_cache(maxsize=4096)
def _parse(name: str, coordinates: tuple[str, ...]) -> Index | None:
    found = next(_split(name, coordinates), None)
    return None if found is None else tuple(sorted(found))


def _split(name: str, coordinates: tuple[str, ...]) -> Iterator[Index]:
    """The ways to read a name as names of coordinates, one after the other."""
    if not name:
        return
    for number, coordinate in enumerate(coordinates):
        if name == coordinate:
            yield (number,)
        elif name.startswith(coordinate):
            yield from ((number, *rest) for rest in _split(name[len(coordinate) :], coordinates))


def is_name(value: Any) -> bool:
    """Whether something may name a coordinate, a field or an unknown."""
    is_word = isinstance(value, str) and value.isidentifier() and not iskeyword(value)
    return is_word and not value.startswith("_")


class At:
    """Points (d, N): `at.x` (N,) by name, `at[0]` by number, `at.all` together.

    Attributes:
        all: coordinates and inputs (d, N).
        normal: the outward unit normals, by the same names; only where there is a boundary.
        given: what is known beside the points (k, N), such as measurements.
    """

    def __init__(
        self,
        axes: Axes,
        points: Tensor,
        normals: Tensor | None = None,
        given: Tensor | None = None,
    ) -> None:
        self._axes = axes
        self.all = points
        self.given = given if given is not None else points[:0]
        if normals is not None:
            self.normal = At(axes, normals)

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_") or "_axes" not in self.__dict__:
            raise AttributeError(name)
        if name == "normal":
            raise AttributeError(f"at.normal {NO_NORMALS}")
        if name not in self._axes.names:
            raise AttributeError(f"at.{name} does not exist: at has {', '.join(self._axes.names)}")
        return self.all[self._axes.names.index(name)]

    def __getitem__(self, number: int) -> Tensor:
        return self.all[number]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)

    @property
    def count(self) -> int:
        """N."""
        return self.all.shape[-1]


class Field:
    """A field at points: its value in arithmetic and in torch's functions, and its derivatives.

    Args:
        name: for messages.
        axes: name the derivatives.
        component: gives a derivative, (N,) numbers or a symbol, by its index or `LAPLACIAN`.
        normals: (d, N), for `u.normal`.
    """

    # NumPy leaves operators to this class, and refuses to apply its functions.
    __array_ufunc__ = None

    def __init__(
        self,
        name: str,
        axes: Axes,
        component: Callable[[Component], Any],
        normals: Tensor | None = None,
    ) -> None:
        self._name, self._axes = name, axes
        self._component, self._normals = component, normals

    @property
    def value(self) -> Any:
        return self._component(())

    def component(self, wanted: Component) -> Any:
        """A derivative by its index, or the Laplacian."""
        return self._component(wanted)

    @property
    def laplacian(self) -> Any:
        return self._component(LAPLACIAN)

    def _normal(self) -> Any:
        if self._normals is None:
            raise AttributeError(f"{self._name}.normal {NO_NORMALS}")
        # All slopes, whichever sides these points are on: a rank may have other sides than another.
        slopes = (self._component((i,)) for i in range(len(self._axes.coordinates)))
        parts = (n * slope for n, slope in zip(self._normals, slopes, strict=False))
        return reduce(operator.add, parts)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name == "normal":
            return self._normal()
        index = self._axes.index(name)
        if index is None:
            if hasattr(torch.Tensor, name):
                return getattr(self.value, name)
            known = ", ".join(self._axes.coordinates)
            raise AttributeError(f"{self._name}.{name} does not exist: derivatives along {known}")
        if len(index) > HIGHEST_ORDER:
            raise AttributeError(
                f"{self._name}.{name} does not exist: derivatives are available up to order"
                f" {HIGHEST_ORDER}"
            )
        return self._component(index)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """torch.sin(u), torch.mul(t, u), torch.stack([u, v])."""
        kwargs = {key: _take_value(each) for key, each in (kwargs or {}).items()}
        return function(*_take_value(args), **kwargs)

    def as_symbol(self) -> Any:
        """What stands for it where a residual is traced: its value."""
        return self.value

    def __bool__(self) -> bool:
        return bool(self.value)

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, key: Any) -> Any:
        return self.value[key]

    __hash__ = object.__hash__

    if TYPE_CHECKING:  # set below
        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __getitem__
        __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __lt__ = __le__ = __gt__ = __ge__ = (
            __getitem__
        )

        def __neg__(self) -> Any: ...


def _take_value(given: Any) -> Any:
    if isinstance(given, Field):
        return given.value
    if isinstance(given, list | tuple):
        return type(given)(_take_value(each) for each in given)
    return given


def _on_values(operation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *others: operation(self.value, *map(_take_value, others))


def _on_values_swapped(operation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, other: operation(_take_value(other), self.value)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(Field, f"__{_name}__", _on_values(getattr(operator, _name)))
    setattr(Field, f"__r{_name}__", _on_values_swapped(getattr(operator, _name)))
for _name in ("neg", "pos", "abs", "lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Field, f"__{_name}__", _on_values(getattr(operator, _name)))
