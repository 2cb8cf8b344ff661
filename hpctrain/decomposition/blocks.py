"""Cuts the parameters into blocks of consecutive layers, which may overlap, or of tensors.

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
from itertools import accumulate, pairwise
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class LayerRange:
    """The parameters θ[start:stop] of a layer, and its cost in multiply-adds for one sample.

    Attributes:
        name: of the layer, for messages.
        tensors: the sizes of the tensors that it consists of, such as its matrix and its bias, in
            order; none where it is one.
    """

    start: int
    stop: int
    cost: int
    name: str = ""
    tensors: tuple[int, ...] = ()


@dataclass(frozen=True)
class Block:
    """A block: the parameters θ[start:stop], in the layers `first` to `last` (included).

    They are all parameters of these layers, or some tensors of them.
    """

    index: int
    first: int
    last: int
    start: int
    stop: int

    @property
    def runs(self) -> tuple["Block", ...]:
        """Itself alone, as a `LayerSet` has several."""
        return (self,)

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


# What blocks are made of.
Pieces = Literal["layers", "tensors"]


def find_excess(blocks: int, overlap: int, layers: int, pieces: Pieces = "layers") -> Excess | None:
    """Finds the setting that asks for more than there is; None if there is none.

    Args:
        blocks, overlap: the settings.
        layers: how many layers, or pieces of another kind, the network has.
        pieces: of which kind they are.
    """
    if blocks > layers:
        return Excess("blocks", blocks, f"at most {layers}, the number of the network's {pieces}")
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

    firsts = _divide(len(layers), blocks)
    grown = [
        make_block(index, max(first - overlap, 0), min(after - 1 + overlap, len(layers) - 1))
        for index, (first, after) in enumerate(pairwise(firsts))
    ]
    coarse = LayerSet(
        tuple(make_block(index, each, each) for index, each in enumerate(firsts[:-1]))
    )
    return Decomposition(layers[-1].stop, tuple(grown), coarse)


def count_tensors(layers: Sequence[LayerRange]) -> int:
    """Counts the tensors of layers."""
    return sum(max(len(layer.tensors), 1) for layer in layers)


def cut_tensors(layers: Sequence[LayerRange], blocks: int) -> Decomposition:
    """Cuts the tensors of layers into blocks of consecutive ones, without overlap.

    Blocks differ by one tensor at most, and the larger ones come first.

    Args:
        layers: from input to output.
        blocks: S.

    Raises:
        ValueError: there are more blocks than tensors.
    """
    tensors = [
        Block(0, k, k, start, stop)
        for k, layer in enumerate(layers)
        for start, stop in pairwise(
            accumulate(layer.tensors or (layer.stop - layer.start,), initial=layer.start)
        )
    ]
    if not 1 <= blocks <= len(tensors):
        raise ValueError(f"{blocks} blocks are not possible: 1 to {len(tensors)}, one a tensor")
    parts = [tensors[first:after] for first, after in pairwise(_divide(len(tensors), blocks))]
    return Decomposition(
        layers[-1].stop,
        tuple(
            Block(index, part[0].first, part[-1].last, part[0].start, part[-1].stop)
            for index, part in enumerate(parts)
        ),
    )


def _divide(count: int, parts: int) -> list[int]:
    """Where each of some parts of a list begins, and its end: the larger parts come first."""
    size, larger = divmod(count, parts)
    return [index * size + min(index, larger) for index in range(parts + 1)]
