"""Cuts the parameters into blocks of consecutive layers, which may overlap.

The restriction R_s θ consists of the parameters of block s, and the extension E_s = R_sᵀ puts them
back into a vector of zeros. With an overlap of o layers, a block reaches o layers into its
neighbours on each side. Corrections δ_s of the blocks are then averaged by the number of blocks w
that own a parameter,

    Σ_s E_s δ_s / w,   w = Σ_s E_s 1,

componentwise. So δ_s = R_s d for all s gives d again.

Sources: Kopaničáková, Kothari, Karniadakis, Krause, SISC 46(5), 2024, section 3; overlap: Lee,
Kopaničáková, Karniadakis, arXiv 2406.10997.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class LayerRange:
    """The parameters θ[start:stop] of a layer, and its cost in multiply-adds for one sample."""

    start: int
    stop: int
    cost: int
    name: str = ""


@dataclass(frozen=True)
class Block:
    """A block: the layers `first` to `last` (included), with the parameters θ[start:stop]."""

    index: int
    first: int
    last: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """n_s, the number of its parameters."""
        return self.stop - self.start

    def restrict(self, theta: Tensor) -> Tensor:
        """Returns R_s θ (n_s,), a view of θ (n,)."""
        return theta[self.start : self.stop]

    def replace(self, theta: Tensor, part: Tensor) -> None:
        """Writes `part` (n_s,) into θ (n,) in the place of R_s θ."""
        theta[self.start : self.stop] = part


@dataclass(frozen=True)
class LayerSet:
    """Some layers, which need not be consecutive: blocks without overlap, in ascending order."""

    runs: tuple[Block, ...]

    @property
    def first(self) -> int:
        """The lowest layer."""
        return self.runs[0].first

    @property
    def last(self) -> int:
        """The highest layer."""
        return self.runs[-1].last

    @property
    def size(self) -> int:
        """The number of its parameters, m."""
        return sum(run.size for run in self.runs)

    def restrict(self, theta: Tensor) -> Tensor:
        """Returns the parameters (m,) of these layers, a copy out of θ (n,)."""
        return torch.cat([run.restrict(theta) for run in self.runs])

    def replace(self, theta: Tensor, part: Tensor) -> None:
        """Writes `part` (m,) into θ (n,) in the place of these layers' parameters."""
        for run, its in zip(self.runs, part.split([run.size for run in self.runs]), strict=True):
            run.replace(theta, its)


# What a loss can be restricted to.
Region = Block | LayerSet


@dataclass(frozen=True)
class Decomposition:
    """The blocks s = 1 … S of a vector of n parameters. Every parameter is in at least one block.

    Attributes:
        parameters: n.
        blocks: in order from input to output.
        coarse: the parameters of a coarse step; empty where there is none.
    """

    parameters: int
    blocks: tuple[Block, ...]
    coarse: LayerSet = LayerSet(())

    @cached_property
    def owners(self) -> Tensor:
        """w (n,), the number of blocks that own each parameter; on the CPU."""
        owners = torch.zeros(self.parameters, dtype=torch.int64, device="cpu")
        for block in self.blocks:
            owners[block.start : block.stop] += 1
        return owners

    def extend(self, region: Region, correction: Tensor) -> Tensor:
        """Computes E δ (n,) for the correction δ on one region."""
        extended = correction.new_zeros(self.parameters)
        region.replace(extended, correction)
        return extended

    def extend_add(self, corrections: Sequence[Tensor]) -> Tensor:
        """Computes Σ_s E_s δ_s / w (n,) for corrections δ_s (n_s,), one of each block in order."""
        total = corrections[0].new_zeros(self.parameters)
        for block, correction in zip(self.blocks, corrections, strict=True):
            total[block.start : block.stop] += correction
        return total / self.owners.to(total.device)


@dataclass(frozen=True)
class Excess:
    """A setting that asks for more layers than the network has.

    Attributes:
        key: the setting, "blocks" or "overlap".
        given: its value.
        allowed: what it may be, in words.
    """

    key: str
    given: int
    allowed: str


def find_excess(blocks: int, overlap: int, layers: int) -> Excess | None:
    """Finds the setting that asks for more layers than there are; None if there is none."""
    if blocks > layers:
        return Excess("blocks", blocks, f"at most {layers}, the number of the network's layers")
    if overlap >= layers:
        most = f"at most {layers - 1}, below the number of the network's layers"
        return Excess("overlap", overlap, most)
    return None


def cut_layers(layers: Sequence[LayerRange], blocks: int, overlap: int = 0) -> Decomposition:
    """Cuts the layers into blocks of consecutive ones.

    Blocks differ by one layer at most, and the larger ones come first.

    Args:
        layers: from input to output.
        blocks: S.
        overlap: by how many layers each block is then extended on each side, as far as there are
            any.

    Returns:
        The blocks. The coarse parameters are the first layer of each block before its extension.

    Raises:
        ValueError: there are more blocks than layers, or the overlap is not below that number.
    """
    if not 1 <= blocks <= len(layers):
        raise ValueError(f"{blocks} blocks are not possible: 1 to {len(layers)}, one a layer")
    if not 0 <= overlap < len(layers):
        raise ValueError(f"an overlap of {overlap} is not possible: 0 to {len(layers) - 1} layers")

    def make_block(index: int, first: int, last: int) -> Block:
        return Block(index, first, last, layers[first].start, layers[last].stop)

    size, larger = divmod(len(layers), blocks)
    firsts = [index * size + min(index, larger) for index in range(blocks + 1)]
    grown = [
        make_block(index, max(first - overlap, 0), min(after - 1 + overlap, len(layers) - 1))
        for index, (first, after) in enumerate(pairwise(firsts))
    ]
    coarse = LayerSet(
        tuple(make_block(index, each, each) for index, each in enumerate(firsts[:-1]))
    )
    return Decomposition(layers[-1].stop, tuple(grown), coarse)
