"""Traces a residual that is written in torch into a program that the native kernel runs by tile.

The residual is called once with symbols for the jets and the real coordinates: what is computed
from coordinates alone becomes an array of numbers, one a point; what depends on the jets becomes
instructions (native/pointwise.hpp). A residual that does anything else is not traced and stays in
torch, with the same results, slower.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from hpctrain.kernels.program import NotTraceableError, Program
from hpctrain.kernels.symbols import Symbol, symbol


def trace(
    residual: Callable[[Sequence[Any]], Any],
    components: int,
    points: int,
    dtype: torch.dtype = torch.float64,
) -> Program:
    """The program of a residual of one network output.

    Args:
        residual: takes a network's jet, a sequence of components (N,), gives the residual (N,);
            called with symbols in their place.
        components: of a jet.
        points: N.
        dtype: of the values.

    Raises:
        NotTraceableError: the residual cannot be expressed; any exception that the residual itself
            raises on symbols counts as that.
    """
    program = Program(points, dtype)
    jet = [Symbol(program, program.add("input", component)) for component in range(components)]
    try:
        program.end_with(symbol(program, residual(jet)).index)
    except NotTraceableError:
        raise
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise NotTraceableError(f"what raises {what} on symbols") from error
    return program
