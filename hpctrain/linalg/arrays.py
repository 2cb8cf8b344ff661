"""Converts tensors of torch, which may be on a GPU, to arrays of NumPy in host memory, and back.

All conversions are made here, except where compiled kernels, MPI or files read the memory of a CPU
tensor in place.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

CPU = torch.device("cpu")


def to_array(tensor: Tensor) -> np.ndarray:
    """The tensor's values: in its own memory where that is the host's, else copied there."""
    return tensor.detach().cpu().numpy()


def to_tensor(array: np.ndarray, device: torch.device = CPU) -> Tensor:
    """The array's values on a device: in its own memory where that is the CPU, else copied."""
    return torch.from_numpy(array).to(device)


def sum_chunks(values: Tensor, bounds: list[int]) -> Tensor:
    """Sums (…, C) of values (…, N) over the chunks bounds[c] … bounds[c + 1] - 1, 0 over none.

    A sum's order depends on its chunk alone. On the CPU the sums are NumPy's, in one thread; on a
    GPU each is one of torch's along a row that zeros fill up, which is the same in every call.
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
