"""Krylov methods, which know a matrix B (n, n) by its products alone."""

from collections.abc import Callable

from torch import Tensor

# v ↦ Bv (n,).
Product = Callable[[Tensor], Tensor]
# A radius that holds no step back; finite, as it is squared, and a step may go so far.
UNBOUNDED = 1e100
