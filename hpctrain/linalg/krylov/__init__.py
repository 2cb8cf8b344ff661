"""Krylov methods, which use a matrix B (n, n) only by its products with vectors."""

from collections.abc import Callable

from torch import Tensor

# v ↦ Bv (n,).
Product = Callable[[Tensor], Tensor]
# A radius that holds no step back; finite, as it is squared, and a step may go so far.
UNBOUNDED = 1e100
