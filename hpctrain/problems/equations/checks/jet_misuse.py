"""What a jet says where a residual asks it for a derivative that it lacks, or takes it as a value.

Without this a sum u + u would join two tuples, and a missing u.yy would be a missing attribute.
"""

from typing import Any, ClassVar, NoReturn


class JetMisuse:
    """The first base of a jet's named tuple, see `pde.jet_fields`."""

    __slots__ = ()
    _coordinates: ClassVar[tuple[str, ...]]
    _orders: ClassVar[tuple[int, ...]]
    _fields: ClassVar[tuple[str, ...]]

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(self._missing(name))

    def _missing(self, name: str) -> str:
        """Why there is no u.name."""
        along = _factors(name, self._coordinates)
        if not along:
            return f"u.{name} does not exist: u has {', '.join(self._fields)}"
        if len(set(along)) > 1:
            return f"u.{name} does not exist: mixed derivatives are not available"
        if len(along) > 2:
            return f"u.{name} does not exist: derivatives are available up to order 2"
        needed = list(self._orders)
        needed[self._coordinates.index(along[0])] = len(along)
        return f"u.{name} needs orders = {tuple(needed)}, but orders is {self._orders}"

    @classmethod
    def __torch_function__(cls, *_arguments: Any, **_named: Any) -> NoReturn:
        """torch.sin(u), t * u with a tensor t."""
        _refuse_as_value()

    def _refuse(self, *_others: Any) -> NoReturn:
        _refuse_as_value()

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = _refuse
    __neg__ = __pos__ = __abs__ = _refuse


def _refuse_as_value() -> NoReturn:
    raise TypeError("u is a jet, the values with their derivatives: write u.value")


def _factors(name: str, coordinates: tuple[str, ...]) -> list[str]:
    """The coordinates that a derivative is named after, ["x", "y"] for "xy"; empty if others."""
    for coordinate in coordinates:
        rest = name.removeprefix(coordinate)
        if not rest:
            return [coordinate]
        if rest != name and (further := _factors(rest, coordinates)):
            return [coordinate, *further]
    return []
