"""Sweeps over dense matrices: an update fused with a product, and Gram matrices of row blocks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hpctrain.kernels import find_native_kernels
from hpctrain.linalg.block_layout import WIDTH, Layout


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
    kernels = find_native_kernels(H)
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


def add_gram_sums(
    parts: Sequence[Sequence[Tensor]], skipped: int, C: Tensor, layout: Layout, threads: int
) -> None:
    """C += JᵀJ for J (k, n), what is left of rows (k, skipped + n) after their first columns.

    The products of a part are summed over its rows in their order, then the parts along the
    complete binary tree over them.

    Args:
        parts: 2^k lists of rows (…, skipped + n).
        C: the lower triangle of (n, n), its block rows at `Layout.places`. Blocks on the diagonal
            are undefined above it.
        layout: of these block rows.
        threads: threads of the native kernel.
    """
    kernels = find_native_kernels(C)
    if kernels is not None:
        strides = [layout.find_shape(i)[1] for i in range(layout.count)]
        arrays = [[rows.contiguous().numpy() for rows in part] for part in parts]
        kernels.add_gram_sums(
            arrays, skipped, C.numpy(), layout.places, strides, WIDTH, layout.n, threads
        )
        return
    for i, place in enumerate(layout.places):
        row = C[place : place + layout.count_numbers(i)].view(layout.find_shape(i))
        rows, columns = layout.find_slices(i)
        sums = [_multiply_rows([J[:, skipped:] for J in part], rows, columns) for part in parts]
        while len(sums) > 1:
            sums = [left + right for left, right in zip(sums[::2], sums[1::2], strict=True)]
        row += sums[0]


def _multiply_rows(part: Sequence[Tensor], rows: slice, columns: slice) -> Tensor | float:
    """The block (rows, columns) of JᵀJ over the rows J of one part; 0 where there are none."""
    products = [J[:, rows].T @ J[:, columns] for J in part]
    return sum(products[1:], products[0]) if products else 0.0


def compute_row_gram(A: Tensor, threads: int) -> Tensor:
    """A Aᵀ (k, k) of rows A (k, n), in the lower triangle."""
    kernels, k = find_native_kernels(A), len(A)
    if kernels is None:
        return A @ A.T
    K, firsts = A.new_zeros(k, k), range(0, k, WIDTH)
    places = [first * k for first in firsts]
    columns = A.T.contiguous().numpy()
    kernels.add_gram_sums([[columns]], 0, K.numpy(), places, [k] * len(firsts), WIDTH, k, threads)
    return K
