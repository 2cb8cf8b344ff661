"""Products with panels: matrices of many rows and few columns, factors of an inverse Hessian."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from hpctrain.kernels import find_native_kernels


def multiply_transposed(
    panels: Sequence[Tensor], x: Tensor, bounds: Sequence[int], threads: int
) -> Tensor:
    """Computes [V₁ V₂ …]ᵀ x over each part of the rows, (parts, k b), for k panels V.

    A part's sums have the same order with any number of threads.

    Args:
        panels: V (r, b) each.
        x: (r,).
        bounds: part p consists of the rows bounds[p] … bounds[p + 1] - 1.
        threads: the threads of the compiled kernel.
    """
    sums = x.new_zeros(len(panels), len(bounds) - 1, panels[0].shape[1])
    kernels = find_native_kernels(x)
    if kernels is not None:
        own, ends = x.contiguous().numpy(), list(bounds)
        for V, found in zip(panels, sums.numpy(), strict=True):
            kernels.panel_transposed_product(V.numpy(), own, ends, found, threads)
    else:
        for V, found in zip(panels, sums, strict=True):
            for part, (first, last) in enumerate(pairwise(bounds)):
                found[part] = x[first:last] @ V[first:last]
    return sums.transpose(0, 1).flatten(1)


def add_product(panels: Sequence[Tensor], c: Tensor, y: Tensor, threads: int) -> None:
    """Adds [V₁ V₂ …] c to y (r,) in place, for k panels V (r, b) and c (k b,).

    Each row's sums have one fixed order.
    """
    kernels = find_native_kernels(y)
    if kernels is not None:
        parts, sums = c.contiguous().numpy().reshape(len(panels), -1), y.numpy()
        for V, part in zip(panels, parts, strict=True):
            kernels.panel_product(V.numpy(), part, sums, threads)
    else:
        for V, part in zip(panels, c.view(len(panels), -1), strict=True):
            y.add_(torch.mv(V, part))


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
