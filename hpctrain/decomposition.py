"""Decomposition of the parameters into blocks of consecutive layers.

R_s picks the parameters of block s out of θ, E_s = R_sᵀ puts them back.
Source: Kopaničáková, Kothari, Karniadakis, Krause, SISC 46(5), 2024, section 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LayerRange:
    """A layer's parameters θ[start:stop] and its cost, in multiply-adds for one sample."""

    start: int
    stop: int
    cost: int


@dataclass(frozen=True)
class Block:
    """Layers `first` to `last` (included), which hold θ[start:stop]."""

    index: int
    first: int
    last: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """n_s."""
        return self.stop - self.start

    def restrict(self, theta: Tensor) -> Tensor:
        """R_s θ (n_s,), a view of θ (n,)."""
        return theta[self.start : self.stop]


@dataclass(frozen=True)
class Decomposition:
    """The blocks s = 1 … S of a parameter vector of length n."""

    parameters: int
    blocks: tuple[Block, ...]

    def extend_add(self, corrections: Sequence[Tensor]) -> Tensor:
        """Σ_s E_s δ_s (n,), of one correction (n_s,) a block, in block order."""
        total = torch.zeros(self.parameters, dtype=corrections[0].dtype)
        for block, correction in zip(self.blocks, corrections, strict=True):
            total[block.start : block.stop] += correction
        return total


def by_layers(layers: Sequence[LayerRange], blocks: int) -> Decomposition:
    """Cuts the layers into consecutive blocks, equal to within one layer, the larger ones first.

    Raises:
        ValueError: there are more blocks than layers.
    """
    if not 1 <= blocks <= len(layers):
        raise ValueError(f"{blocks} blocks are not possible: 1 to {len(layers)}, one a layer")
    size, larger = divmod(len(layers), blocks)
    found: list[Block] = []
    for index in range(blocks):
        first = found[-1].last + 1 if found else 0
        last = first + size - 1 + (index < larger)
        found.append(Block(index, first, last, layers[first].start, layers[last].stop))
    return Decomposition(layers[-1].stop, tuple(found))
