"""Converts torch's tensors, which may be on a GPU, to NumPy's arrays in host memory, and back.

All conversions are here. Only compiled kernels, MPI and files also read the memory of tensors on
the CPU.
"""

from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

CPU = torch.device("cpu")


def to_array(tensor: Tensor) -> np.ndarray:
    """Returns a tensor as an array: the same memory where the tensor is on the CPU, else a copy."""
    return tensor.detach().cpu().numpy()


def to_tensor(array: np.ndarray, device: torch.device = CPU) -> Tensor:
    """Returns an array as a tensor on a device: the same memory on the CPU, else a copy."""
    return torch.from_numpy(array).to(device)


def add_in_order(values: Tensor, dim: int) -> Tensor:
    """Adds values along a dimension (from 0 on), one after the other.

    torch's own sums take the last numbers of an array in another order, so that what they give
    depends on where a rank's share ends.
    """
    zeros = values.new_zeros(values.shape[:dim] + values.shape[dim + 1 :])
    return reduce(torch.add, values.unbind(dim), zeros)


def sum_chunks(values: Tensor, bounds: list[int]) -> Tensor:
    """Sums values (…, N) over each chunk, (…, C); 0 for an empty one.

    A chunk's sum depends on its own values alone. NumPy sums on the CPU, in one thread. On a GPU
    torch sums rows that are filled up with zeros, in the same order in each call.

    Args:
        values: (…, N).
        bounds: chunk c has the values bounds[c] … bounds[c + 1] - 1.
    """
    if values.device == CPU:
        held = np.flatnonzero(np.diff(bounds))
        totals = np.zeros((*values.shape[:-1], len(bounds) - 1), to_array(values).dtype)
        if len(held):
            totals[..., held] = np.add.reduceat(to_array(values), np.array(bounds)[held], axis=-1)
        return to_tensor(totals)
    starts, stops = (torch.tensor(b, device=values.device) for b in (bounds[:-1], bounds[1:]))
    longest = max(last - first for first, last in pairwise(bounds))
    places = starts[:, None] + torch.arange(longest, device=values.device)
    inside = places < stops[:, None]
    rows: Any = values[..., places.clamp(max=values.shape[-1] - 1)]
    return torch.where(inside, rows, 0).sum(dim=-1)
