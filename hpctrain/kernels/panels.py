"""Products with tall, narrow matrices, the panels of a factored inverse Hessian."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from hpctrain.kernels import find_native_kernels


def multiply_transposed(V: Tensor, x: Tensor, bounds: Sequence[int], threads: int) -> Tensor:
    """Vᵀx over each part of the rows, (parts, b), summed the same way for any threads.

    Args:
        V: (r, b).
        x: (r,).
        bounds: part p has the rows bounds[p] … bounds[p + 1] - 1.
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
    """y += V c for V (r, b), c (b,), y (r,), each row the same way whoever holds it."""
    kernels = find_native_kernels(V)
    if kernels is not None:
        kernels.panel_product(V.numpy(), c.contiguous().numpy(), y.numpy(), threads)
    else:
        y.add_(torch.mv(V, c))


def add_outer_products(H: Tensor, left: Tensor, right: Tensor, threads: int) -> None:
    """H += left right for H (r, n), left (r, b), right (b, n), each row as `add_product`'s."""
    kernels = find_native_kernels(H)
    if kernels is not None:
        kernels.add_outer_products(
            H.numpy(), left.contiguous().numpy(), right.contiguous().numpy(), threads
        )
    else:
        H.addmm_(left, right)
