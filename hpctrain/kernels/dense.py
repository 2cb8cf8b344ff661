"""Products with dense matrices, each of which passes over the matrix once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hpctrain.kernels import find_native_kernels
from hpctrain.linalg.block_layout import WIDTH, Layout

# Rows of a matrix that are in memory for its Gram matrix at once, beside the matrix of sums.
ROWS_AT_A_TIME = 2048


def update_and_multiply(
    H: Tensor,
    x: Tensor,
    threads: int,
    scale: float = 1.0,
    left: Tensor | None = None,
    right: Tensor | None = None,
) -> Tensor:
    """Computes H ← scale H + left right in place, and then the product H x, in one pass over H.

    Args:
        H: some rows (r, n) of a matrix.
        x: (n,).
        threads: the threads of the compiled kernel.
        scale: the factor of H.
        left, right: (r, 2) and (2, n). Without them, and with scale 1, H stays as it is.

    Returns:
        H x (r,). A row's sum has the same order on any rank and with any number of threads.
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


def fit_parts(longest: int) -> int:
    """Computes the most parts, 2^k, of at most `ROWS_AT_A_TIME` rows together; at least one.

    Args:
        longest: the number of rows of the longest part.
    """
    return 1 << max(ROWS_AT_A_TIME // max(longest, 1), 1).bit_length() - 1


def add_gram_sums(
    parts: Sequence[Sequence[Tensor]], skipped: int, C: Tensor, layout: Layout, threads: int
) -> None:
    """Adds JᵀJ to the lower triangle of C, J (k, n) being rows without their first columns.

    Each part's products are summed over its rows in order, and the parts are then added along the
    complete binary tree over them.

    Args:
        parts: a power of two of parts, each a list of matrices (…, skipped + n) of rows.
        skipped: the number of first columns that do not belong to J.
        C: the numbers of the lower triangle (n, n), whose block rows begin at `layout.places`. The
            part of a diagonal block above the diagonal is undefined.
        layout: how the block rows are cut.
        threads: the threads of the compiled kernel.
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
        row += _sum_products(parts, skipped, rows, columns)


def add_square_gram(
    parts: Sequence[Sequence[Tensor]], skipped: int, C: Tensor, threads: int
) -> None:
    """Adds JᵀJ to the lower triangle of a whole matrix C (n, n); else as `add_gram_sums`.

    What lies above the diagonal is undefined.
    """
    kernels, n = find_native_kernels(C), len(C)
    if kernels is not None:
        firsts = range(0, n, WIDTH)
        arrays = [[rows.contiguous().numpy() for rows in part] for part in parts]
        places = [first * n for first in firsts]
        kernels.add_gram_sums(
            arrays, skipped, C.view(-1).numpy(), places, [n] * len(firsts), WIDTH, n, threads
        )
        return
    every = slice(0, n)
    C += _sum_products(parts, skipped, every, every)


def _sum_products(
    parts: Sequence[Sequence[Tensor]], skipped: int, rows: slice, columns: slice
) -> Tensor | float:
    """Computes a block of JᵀJ in torch, its parts added in pairs."""
    sums = [_multiply_rows([J[:, skipped:] for J in part], rows, columns) for part in parts]
    while len(sums) > 1:
        sums = [left + right for left, right in zip(sums[::2], sums[1::2], strict=True)]
    return sums[0]


def _multiply_rows(part: Sequence[Tensor], rows: slice, columns: slice) -> Tensor | float:
    """Computes a block of JᵀJ, J the rows of one part; 0 where it has no rows.

    Args:
        rows, columns: of the block.
    """
    products = [J[:, rows].T @ J[:, columns] for J in part]
    return sum(products[1:], products[0]) if products else 0.0


def compute_row_gram(A: Tensor, threads: int) -> Tensor:
    """Computes the lower triangle of A Aᵀ (k, k) for rows A (k, n)."""
    if find_native_kernels(A) is None:
        return A @ A.T
    K = A.new_zeros(len(A), len(A))
    add_square_gram([[A.T.contiguous()]], 0, K, threads)
    return K
