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

    Raises:
        ValueError: the vectors differ in length, precision or device, or are not contiguous.
    """
    _require_alike([x, y, *rows])
    kernels = find_native_kernels(x)
    if kernels is None:
        return multiply_rows(torch.stack([*rows]).double(), torch.stack([x, y]).double())
    found = torch.empty(len(rows), 2, dtype=torch.float64, device="cpu")
    kernels.pair_products(x.numpy(), y.numpy(), _list_addresses(rows), found.numpy())
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

    Raises:
        ValueError: the weights are not float64, there are not k of each, or the vectors differ in
            length, precision or device, or are not contiguous.
    """
    if weights.dtype != torch.float64 or not weights.shape[1] == len(S) == len(Y):
        raise ValueError("weights are float64, one for each pair")
    _require_alike([*S, *Y])
    kernels = find_native_kernels(S[0])
    if kernels is None:
        rows = torch.stack([*Y]).double() - gamma * torch.stack([*S]).double()
        return combine_rows(weights, rows).to(S[0].dtype)
    out = S[0].new_empty(len(weights), len(S[0]))
    places = _list_addresses(S), _list_addresses(Y)
    kernels.pair_combination(out.numpy(), weights.contiguous().numpy(), gamma, *places)
    return out


def _require_alike(vectors: Sequence[Tensor]) -> None:
    """Raises ValueError unless vectors are contiguous and alike: the kernels get addresses only."""
    like = vectors[0]
    for v in vectors:
        same = v.shape == like.shape and v.dtype == like.dtype and v.device == like.device
        if not (same and v.dim() == 1 and v.is_contiguous()):
            raise ValueError("pairs are contiguous vectors of one length and precision")


def _list_addresses(rows: Sequence[Tensor]) -> list[int]:
    """Lists where vectors begin in memory."""
    return [row.data_ptr() for row in rows]
