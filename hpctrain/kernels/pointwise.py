"""Translates a residual that is written in torch into a program for the compiled kernel.

The residual is called once, with the real coordinates and with symbols in the place of the jets.
What it computes from coordinates alone is stored as an array with a number for each point. What
depends on the jets is recorded as a list of instructions (native/pointwise.hpp). A residual that
does more than there are instructions for stays in torch. Its results are the same, but slower.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from hpctrain.kernels.program import NotTraceableError, Program
from hpctrain.kernels.symbols import Symbol, make_symbol


def trace(
    residual: Callable[[Any, Sequence[Any]], Sequence[Any]],
    components: int,
    points: int,
    dtype: torch.dtype = torch.float64,
    outputs: int = 1,
    unknowns: int = 0,
) -> Program:
    """Records the residuals of a network as a program.

    Args:
        residual: takes the jet and the unknowns, and returns the residuals, each (N,). jet[c][o] is
            component c (N,) of output o. It is called with symbols in their place.
        components: the number of components of a jet.
        points: N.
        dtype: the type of the values.
        outputs: the number of outputs of the network.
        unknowns: the number of unknowns.

    Raises:
        NotTraceableError: there are no instructions for something that the residual does. Any
            exception that the residual raises when it is given symbols counts as this.
    """
    program = Program(points, dtype, unknowns)
    jet = [
        [Symbol(program, program.add("input", o * components + c)) for o in range(outputs)]
        for c in range(components)
    ]
    scalars = [Symbol(program, program.add("unknown", number)) for number in range(unknowns)]
    try:
        results = residual(jet, scalars)
        program.results = [make_symbol(program, each).index for each in results]
    except NotTraceableError:
        raise
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise NotTraceableError(f"what raises {what} on symbols") from error
    return program
