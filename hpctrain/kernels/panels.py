"""Products with panels: matrices of many rows and few columns, factors of an inverse Hessian."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from hpctrain.kernels import find_native_kernels


def multiply_transposed(V: Tensor, x: Tensor, bounds: Sequence[int], threads: int) -> Tensor:
    """Computes Vᵀx over each part of the rows of V, (parts, b).

    A part's sums have the same order with any number of threads.

    Args:
        V: (r, b).
        x: (r,).
        bounds: part p consists of the rows bounds[p] … bounds[p + 1] - 1.
        threads: the threads of the compiled kernel.
    """
    sums = V.new_zeros(len(bounds) - 1, V.shape[1])
    kernels = find_native_kernels(V)
    if kernels is not None:
        kernels.panel_transposed_product(
            V.numpy(), x.contiguous().numpy(), list(bounds), sums.numpy(), threads
        )
        return sums
    for part, (first, last) in enumerate(pairwise(bounds)):
        sums[part] = x[first:last] @ V[first:last]
    return sums


def add_product(V: Tensor, c: Tensor, y: Tensor, threads: int) -> None:
    """Adds V c to y (r,) in place, for V (r, b) and c (b,); each row's sum has one fixed order."""
    kernels = find_native_kernels(V)
    if kernels is not None:
        kernels.panel_product(V.numpy(), c.contiguous().numpy(), y.numpy(), threads)
    else:
        y.add_(torch.mv(V, c))


def add_outer_products(H: Tensor, left: Tensor, right: Tensor, threads: int) -> None:
    """Adds left right to H (r, n) in place, for left (r, b) and right (b, n).

    Each row's sums have one fixed order.
    """
    kernels = find_native_kernels(H)
    if kernels is not None:
        kernels.add_outer_products(
            H.numpy(), left.contiguous().numpy(), right.contiguous().numpy(), threads
        )
    else:
        H.addmm_(left, right)
