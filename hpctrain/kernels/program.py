"""A residual as a list of instructions for the compiled kernel (native/pointwise.hpp)."""

import torch
from torch import Tensor

# An operation, its three operands (earlier instructions; for "input" a row of the jets, output by
# output, for "array" a row, for "unknown" which) and a number.
Instruction = tuple[str, int, int, int, float]


class NotTraceableError(Exception):
    """The residual does something for which there is no instruction.

    Attributes:
        operation: what, in words or as the name of a torch function.
    """

    def __init__(self, operation: str) -> None:
        super().__init__(f"{operation} is not among the kernels' operations")
        self.operation = operation


class Program:
    """The instructions of a residual, and the arrays that they read.

    Args:
        points: N.
        dtype: the type of the values, as torch would compute them.
        unknowns: q, the number of unknown scalars that may be read.

    Attributes:
        results: the numbers of the instructions whose values are the residuals.
    """

    def __init__(self, points: int, dtype: torch.dtype, unknowns: int = 0) -> None:
        self.points, self.dtype, self.unknowns = points, dtype, unknowns
        self.results: list[int] = []
        self.instructions: list[Instruction] = []
        self._arrays: list[Tensor] = []
        self._known: dict[Instruction, int] = {}

    @property
    def arrays(self) -> Tensor:
        """The arrays (rows, N), float64, whose values the coordinates alone determine."""
        none = torch.zeros(0, self.points, dtype=torch.float64, device="cpu")
        return torch.stack(self._arrays) if self._arrays else none

    def select(self, chosen: Tensor) -> "Program":
        """Makes the same program at some of the points.

        Args:
            chosen: the numbers of the points, in the new order.
        """
        other = Program(len(chosen), self.dtype, self.unknowns)
        other.instructions, other.results = self.instructions, self.results
        other._arrays = [array[chosen] for array in self._arrays]
        return other

    def add(self, operation: str, *operands: int, constant: float = 0.0) -> int:
        """Adds an instruction, unless there is an equal one, and returns its number.

        Args:
            operation: its name.
            operands: the numbers of the instructions whose values it reads.
            constant: a number that belongs to it.
        """
        a, b, c = (*operands, 0, 0, 0)[:3]
        key = (operation, a, b, c, constant)
        if key not in self._known:
            self._known[key] = len(self.instructions)
            self.instructions.append(key)
        return self._known[key]

    def add_array(self, given: Tensor) -> int:
        """Adds an array (N,) and an instruction that reads it, whose number is returned."""
        array = given.detach().double()
        same = (k for k, known in enumerate(self._arrays) if torch.equal(known, array))
        row = next(same, len(self._arrays))
        if row == len(self._arrays):
            self._arrays.append(array)
        return self.add("array", row)
