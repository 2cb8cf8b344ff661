"""Products with the vectors of secant pairs, which lie apart in memory, in float64."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hpctrain.kernels import find_native_kernels
from hpctrain.linalg.vectors import combine_rows, multiply_rows


def multiply_pairs(rows: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Computes the inner products of each of k vectors (n,) with x and with y (n,).

    Returns:
        (k, 2), float64, on the CPU.
    """
    kernels = find_native_kernels(x)
    if kernels is None:
        return multiply_rows(torch.stack([*rows]).double(), torch.stack([x, y]).double())
    found = torch.empty(len(rows), 2, dtype=torch.float64, device="cpu")
    kernels.pair_products(x.numpy(), y.numpy(), _list_addresses(rows, x), found.numpy())
    return found


def combine_pairs(
    weights: Tensor, gamma: float, S: Sequence[Tensor], Y: Sequence[Tensor]
) -> Tensor:
    """Computes linear combinations of the vectors y_i - γ s_i of k secant pairs (s_i, y_i).

    Args:
        weights: (m, k), float64.
        gamma: γ.
        S: the k vectors s_i (n,).
        Y: the k vectors y_i (n,).

    Returns:
        (m, n), in the vectors' precision.
    """
    kernels = find_native_kernels(S[0])
    if kernels is None:
        rows = torch.stack([*Y]).double() - gamma * torch.stack([*S]).double()
        return combine_rows(weights, rows).to(S[0].dtype)
    out = S[0].new_empty(len(weights), len(S[0]))
    places = _list_addresses(S, S[0]), _list_addresses(Y, S[0])
    kernels.pair_combination(out.numpy(), weights.contiguous().numpy(), gamma, *places)
    return out


def _list_addresses(rows: Sequence[Tensor], like: Tensor) -> list[int]:
    """Lists where vectors begin in memory.

    All must be contiguous, of the length and the precision of `like`.
    """
    for row in rows:
        if row.shape != like.shape or row.dtype != like.dtype or not row.is_contiguous():
            raise ValueError("pairs are contiguous vectors of one length and precision")
    return [row.data_ptr() for row in rows]
