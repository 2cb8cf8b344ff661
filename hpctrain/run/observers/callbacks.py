"""Functions of the user's that are called with each iteration's record, and may stop the run."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from hpctrain.errors import HpctrainError, UserCodeError
from hpctrain.linalg.arrays import to_array

# Takes the values of the history's columns by name, and θ (n,) as "theta"; what it returns is True
# to stop.
Callback = Callable[[Mapping[str, Any]], object]


class Callbacks:
    """Calls functions on every rank, one after the other.

    Args:
        functions: as the user gave them.

    Attributes:
        ask_to_stop: whether one of them returned True, on this rank.
    """

    def __init__(self, functions: Sequence[Callback]) -> None:
        self._functions = tuple(functions)
        self.ask_to_stop = False

    def __len__(self) -> int:
        return len(self._functions)

    def show(self, row: Mapping[str, Any], theta: Tensor) -> None:
        """Calls each function with a row of the history and θ (n,).

        Raises:
            UserCodeError: one raises an error of this package's, perhaps on this rank alone.
        """
        if not self._functions:
            return
        record = {**row, "theta": _protect(to_array(theta))}
        for function in self._functions:
            try:
                answer = function(record)
            except HpctrainError as error:
                raise UserCodeError(f"a callback fails: {error}") from error
            self.ask_to_stop |= isinstance(answer, bool | np.bool_) and bool(answer)


def _protect(array: np.ndarray) -> np.ndarray:
    """A view that cannot be written."""
    view = array.view()
    view.flags.writeable = False
    return view
