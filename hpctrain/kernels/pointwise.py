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
    residual: Callable[[Any, Sequence[Any]], Sequence[Any]],
    components: int,
    points: int,
    dtype: torch.dtype = torch.float64,
    outputs: int = 1,
    unknowns: int = 0,
) -> Program:
    """The program of residuals of a network's outputs.

    Args:
        residual: takes the jet of the network, jet[c][o] component c (N,) of output o, and the
            unknowns; gives the residuals, each (N,); called with symbols in their place.
        components: of a jet.
        points: N.
        dtype: of the values.
        outputs: of the network.
        unknowns: how many there are.

    Raises:
        NotTraceableError: the residual cannot be expressed; any exception that the residual itself
            raises on symbols counts as that.
    """
    program = Program(points, dtype, unknowns)
    jet = [
        [Symbol(program, program.add("input", o * components + c)) for o in range(outputs)]
        for c in range(components)
    ]
    scalars = [Symbol(program, program.add("unknown", number)) for number in range(unknowns)]
    try:
        results = residual(jet, scalars)
        program.results = [symbol(program, each).index for each in results]
    except NotTraceableError:
        raise
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise NotTraceableError(f"what raises {what} on symbols") from error
    return program
