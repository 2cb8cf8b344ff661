"""A residual as a list of instructions for the native kernel (native/pointwise.hpp)."""

import torch
from torch import Tensor

# An operation, its three operands (earlier instructions; for "input" a component, for "array" a
# row) and a number.
Instruction = tuple[str, int, int, int, float]


class NotTraceableError(Exception):
    """The residual does something that is not among the instructions.

    Attributes:
        operation: what, in words or as the name of a torch function.
    """

    def __init__(self, operation: str) -> None:
        super().__init__(f"{operation} is not among the kernels' operations")
        self.operation = operation


class Program:
    """Instructions and the arrays (rows, N) that they read.

    Args:
        points: N.
        dtype: of the values, as torch would compute them.
    """

    def __init__(self, points: int, dtype: torch.dtype) -> None:
        self.points, self.dtype = points, dtype
        self.instructions: list[Instruction] = []
        self._arrays: list[Tensor] = []
        self._known: dict[Instruction, int] = {}

    @property
    def arrays(self) -> Tensor:
        """(rows, N), float64; rows of what the points determine."""
        none = torch.zeros(0, self.points, dtype=torch.float64, device="cpu")
        return torch.stack(self._arrays) if self._arrays else none

    def add(self, operation: str, *operands: int, constant: float = 0.0) -> int:
        """The number of an instruction, of the same one if it was there already."""
        a, b, c = (*operands, 0, 0, 0)[:3]
        key = (operation, a, b, c, constant)
        if key not in self._known:
            self._known[key] = len(self.instructions)
            self.instructions.append(key)
        return self._known[key]

    def add_array(self, given: Tensor) -> int:
        """The instruction that reads an array (N,)."""
        array = given.detach().double()
        same = (k for k, known in enumerate(self._arrays) if torch.equal(known, array))
        row = next(same, len(self._arrays))
        if row == len(self._arrays):
            self._arrays.append(array)
        return self.add("array", row)

    def end_with(self, index: int) -> None:
        """Makes the value of an instruction that of the last one."""
        if index != len(self.instructions) - 1:
            self.instructions.append(("add", index, self.add("constant"), 0, 0.0))
