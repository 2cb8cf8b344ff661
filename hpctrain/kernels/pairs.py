"""Products with secant pairs, contiguous vectors (n,) that lie apart, in double precision."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hpctrain.kernels import find_native_kernels
from hpctrain.linalg.vectors import combine_rows, multiply_rows


def multiply_pairs(rows: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """The inner products of each row (n,) with x and y (n,): (rows, 2), float64 on the CPU."""
    kernels = find_native_kernels(x)
    if kernels is None:
        return multiply_rows(torch.stack([*rows]).double(), torch.stack([x, y]).double())
    found = torch.empty(len(rows), 2, dtype=torch.float64, device="cpu")
    kernels.pair_products(x.numpy(), y.numpy(), _addresses(rows, x), found.numpy())
    return found


def combine_pairs(
    weights: Tensor, gamma: float, S: Sequence[Tensor], Y: Sequence[Tensor]
) -> Tensor:
    """Weights (m, k), float64, times the rows Y - γS of k pairs (n,): (m, n) in their precision."""
    kernels = find_native_kernels(S[0])
    if kernels is None:
        rows = torch.stack([*Y]).double() - gamma * torch.stack([*S]).double()
        return combine_rows(weights, rows).to(S[0].dtype)
    out = S[0].new_empty(len(weights), len(S[0]))
    places = _addresses(S, S[0]), _addresses(Y, S[0])
    kernels.pair_combination(out.numpy(), weights.contiguous().numpy(), gamma, *places)
    return out


def _addresses(rows: Sequence[Tensor], like: Tensor) -> list[int]:
    """Where vectors begin in memory; all are as long and as precise as `like`, and contiguous."""
    for row in rows:
        if row.shape != like.shape or row.dtype != like.dtype or not row.is_contiguous():
            raise ValueError("pairs are contiguous vectors of one length and precision")
    return [row.data_ptr() for row in rows]
