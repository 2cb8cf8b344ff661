"""Sweeps over dense matrices: an update fused with a product, and Gram matrices of row blocks."""

import torch
from torch import Tensor

from hpctrain.kernels import native_for


def update_and_multiply(
    H: Tensor,
    x: Tensor,
    threads: int,
    scale: float = 1.0,
    left: Tensor | None = None,
    right: Tensor | None = None,
) -> Tensor:
    """H ← scale H + left right in place, then H x.

    Args:
        H: rows of a matrix (r, n).
        x: (n,).
        threads: threads of the native kernel.
        left, right: (r, 2) and (2, n), or neither, with scale 1, to only multiply.

    Returns:
        H x (r,); each row is summed the same way whichever rank or thread has it.
    """
    kernels = native_for(H)
    if kernels is not None:
        product = H.new_empty(len(H))
        kernels.update_and_multiply(
            H.numpy(),
            scale,
            None if left is None else left.contiguous().numpy(),
            None if right is None else right.contiguous().numpy(),
            x.contiguous().numpy(),
            product.numpy(),
            threads,
        )
        return product
    if left is not None and right is not None:
        H.mul_(scale).addmm_(left, right)
    return torch.mv(H, x)


def accumulate_gram(J: Tensor, C: Tensor, threads: int) -> None:
    """C += JᵀJ in the lower triangle of C (n, n), for rows J (k, n); above it C is undefined."""
    kernels = native_for(J)
    if kernels is not None:
        kernels.accumulate_gram(J.contiguous().numpy(), C.numpy(), threads)
    else:
        C.addmm_(J.T, J)


def gram_of_rows(A: Tensor, threads: int) -> Tensor:
    """A Aᵀ (k, k) of rows A (k, n), in the lower triangle."""
    K = A.new_zeros(len(A), len(A))
    accumulate_gram(A.T.contiguous(), K, threads)
    return K
