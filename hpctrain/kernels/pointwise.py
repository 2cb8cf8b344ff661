"""Traces a residual that is written in torch into a program that the native kernel runs by tile.

The residual is called once with symbols for the jets and the real coordinates: what is computed
from coordinates alone becomes an array of numbers, one a point; what depends on the jets becomes
instructions (native/pointwise.hpp). A residual that does anything else is not traced and stays in
torch, with the same results, slower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

LARGEST_POWER = 16
FUNCTIONS = ("exp", "sin", "cos", "tanh", "sqrt", "log")


class NotTraceableError(Exception):
    """The residual does something that is not among the instructions."""


class Program:
    """Instructions (operation, a, b, constant) and the arrays (rows, N) that they read."""

    def __init__(self, points: int) -> None:
        self.points = points
        self.instructions: list[tuple[str, int, int, float]] = []
        self._arrays: list[Tensor] = []
        self._known: dict[tuple[str, int, int, float], int] = {}

    @property
    def arrays(self) -> Tensor:
        """(rows, N); rows of what the points determine."""
        return (
            torch.stack(self._arrays) if self._arrays else torch.zeros(0, self.points, device="cpu")
        )

    def value(self, operation: str, a: int = 0, b: int = 0, constant: float = 0.0) -> Symbol:
        """The result of an instruction, the same one if it was there already."""
        key = (operation, a, b, constant)
        if key not in self._known:
            self._known[key] = len(self.instructions)
            self.instructions.append(key)
        return Symbol(self, self._known[key])

    def operand(self, given: Any) -> Symbol:
        """A number, an array (N,) of the points, or a symbol, as a symbol."""
        if isinstance(given, Symbol):
            return given
        if isinstance(given, Tensor) and given.ndim == 0:
            given = given.item()
        if isinstance(given, int | float):
            return self.value("constant", constant=float(given))
        if isinstance(given, Tensor) and given.shape == (self.points,):
            same = (k for k, array in enumerate(self._arrays) if torch.equal(array, given))
            row = next(same, len(self._arrays))
            if row == len(self._arrays):
                self._arrays.append(given.detach())
            return self.value("array", row)
        raise NotTraceableError(f"an operand of type {type(given).__name__}")

    def finish(self, result: Symbol) -> None:
        """Ends with the instruction that makes `result`: it must come last."""
        if result.index != len(self.instructions) - 1:
            self.instructions.append(("add", result.index, self.value("constant").index, 0.0))


class Symbol:
    """A value that depends on the jets: records what is done with it."""

    def __init__(self, program: Program, index: int) -> None:
        self.program = program
        self.index = index

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Symbol:
        """torch.sin(u), torch.mul(t, u), t * u with a tensor t: sent to the methods below."""
        name = function.__name__.strip("_")
        method = _TORCH_NAMES.get(name)
        if method is None or kwargs:
            raise NotTraceableError(f"torch.{name}")
        program = next(a.program for a in args if isinstance(a, Symbol))
        return method(*(a if k else program.operand(a) for k, a in enumerate(args)))

    def _binary(self, operation: str, other: Any, swapped: bool = False) -> Symbol:
        a, b = self.index, self.program.operand(other).index
        return self.program.value(operation, *((b, a) if swapped else (a, b)))

    def __add__(self, other: Any) -> Symbol:
        return self._binary("add", other)

    def __sub__(self, other: Any) -> Symbol:
        return self._binary("subtract", other)

    def __rsub__(self, other: Any) -> Symbol:
        return self._binary("subtract", other, swapped=True)

    def __mul__(self, other: Any) -> Symbol:
        return self._binary("multiply", other)

    def __truediv__(self, other: Any) -> Symbol:
        return self._binary("divide", other)

    def __rtruediv__(self, other: Any) -> Symbol:
        return self._binary("divide", other, swapped=True)

    def __neg__(self) -> Symbol:
        return self.program.value("negate", self.index)

    def __pow__(self, exponent: Any) -> Symbol:
        if exponent not in range(1, LARGEST_POWER + 1):
            raise NotTraceableError(f"a power of {exponent!r}")
        result = self
        for _ in range(int(exponent) - 1):
            result = result * self
        return result

    def __bool__(self) -> bool:
        raise NotTraceableError("a branch on a value")

    def __getattr__(self, name: str) -> Callable[..., Symbol]:
        """u.square(), u.sin() and the like."""
        method = _TORCH_NAMES.get(name)
        if method is None:
            raise NotTraceableError(f"the attribute {name}")
        return lambda *others: method(self, *others)

    __radd__, __rmul__ = __add__, __mul__


def _function(name: str) -> Callable[[Symbol], Symbol]:
    return lambda symbol: symbol.program.value(name, symbol.index)


_TORCH_NAMES: dict[str, Callable[..., Symbol]] = {
    **dict.fromkeys(("add", "radd"), Symbol.__add__),
    **dict.fromkeys(("sub", "subtract"), Symbol.__sub__),
    **dict.fromkeys(("mul", "rmul", "multiply"), Symbol.__mul__),
    **dict.fromkeys(("div", "divide", "truediv", "true_divide"), Symbol.__truediv__),
    "rsub": Symbol.__rsub__,
    "rdiv": Symbol.__rtruediv__,
    "rtruediv": Symbol.__rtruediv__,
    "neg": Symbol.__neg__,
    "negative": Symbol.__neg__,
    "pow": Symbol.__pow__,
    "square": lambda symbol: symbol * symbol,
    **{name: _function(name) for name in FUNCTIONS},
}


def trace(residual: Callable[[Sequence[Any]], Any], components: int, points: int) -> Program:
    """The program of a residual of one network output.

    Args:
        residual: takes a network's jet, a sequence of components (N,), gives the residual (N,);
            called with symbols in their place.
        components: of a jet.
        points: N.

    Raises:
        NotTraceableError: the residual cannot be expressed; any exception that the residual itself
            raises on symbols counts as that.
    """
    program = Program(points)
    jet = [program.value("input", component) for component in range(components)]
    try:
        program.finish(program.operand(residual(jet)))
    except Exception as error:
        raise NotTraceableError(str(error)) from error
    return program
