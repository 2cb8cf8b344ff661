"""A residual as a list of instructions for the native kernel (native/pointwise.hpp)."""

import torch
from torch import Tensor

# An operation, its three operands (earlier instructions; for "input" a row of the jets, output by
# output, for "array" a row, for "unknown" which) and a number.
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
        unknowns: q, how many scalars it may read.

    Attributes:
        results: the instructions whose values are the residuals.
    """

    def __init__(self, points: int, dtype: torch.dtype, unknowns: int = 0) -> None:
        self.points, self.dtype, self.unknowns = points, dtype, unknowns
        self.results: list[int] = []
        self.instructions: list[Instruction] = []
        self._arrays: list[Tensor] = []
        self._known: dict[Instruction, int] = {}

    @property
    def arrays(self) -> Tensor:
        """(rows, N), float64; rows of what the points determine."""
        none = torch.zeros(0, self.points, dtype=torch.float64, device="cpu")
        return torch.stack(self._arrays) if self._arrays else none

    def select(self, chosen: Tensor) -> "Program":
        """The same program at some of the points, in this order."""
        other = Program(len(chosen), self.dtype, self.unknowns)
        other.instructions, other.results = self.instructions, self.results
        other._arrays = [array[chosen] for array in self._arrays]
        return other

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
