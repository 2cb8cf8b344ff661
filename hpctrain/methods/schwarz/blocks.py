"""Blocks of layers as the parts of a Schwarz method: which ranks solve them, on which loss."""

from dataclasses import dataclass

from hpctrain.decomposition.blocks import (
    Block,
    Decomposition,
    Pieces,
    count_tensors,
    cut_layers,
    cut_tensors,
    find_excess,
)
from hpctrain.errors import InputError
from hpctrain.methods.groups import Groups
from hpctrain.objective import Counts, Objective
from hpctrain.parallel.grid import assign_blocks, make_block_communicator, share_blocks


@dataclass(frozen=True)
class BlockWork:
    """Where a method solves its blocks.

    Attributes:
        decomposition: the blocks.
        objective: L on the ranks that share this rank's blocks.
        own: the blocks that this rank works on, in order.
        groups: for each block the ranks that work on it.
    """

    decomposition: Decomposition
    objective: Objective
    own: tuple[int, ...]
    groups: Groups

    @classmethod
    def of(
        cls, objective: Objective, blocks: int, overlap: int = 0, pieces: Pieces = "layers"
    ) -> "BlockWork":
        """Blocks of an objective's layers on its ranks, balanced by their cost; collective.

        Where samples stay on the ranks that brought them, all ranks work on one block after the
        other.

        Args:
            objective: L.
            blocks: S.
            overlap: of blocks of layers.
            pieces: what the blocks are made of.

        Raises:
            InputError: the network has fewer layers, or tensors.
        """
        layers, in_tensors = objective.layers, pieces == "tensors"
        most = count_tensors(layers) if in_tensors else len(layers)
        excess = find_excess(blocks, overlap, most, pieces)
        if excess is not None:
            raise InputError(
                f"solver.{excess.key} = {excess.given} is not allowed: {excess.allowed}"
            )
        decomposition = (
            cut_tensors(layers, blocks) if in_tensors else cut_layers(layers, blocks, overlap)
        )
        ranks = objective.communicator
        if objective.is_bound:
            shared = share_blocks(blocks, ranks.size)
            own, groups = shared.blocks[ranks.rank], shared.groups
            return cls(decomposition, objective, own, Groups(ranks, groups))
        # A gradient of a block sweeps the network from the block's first layer on.
        costs = [sum(layer.cost for layer in layers[b.first :]) for b in decomposition.blocks]
        block_map = assign_blocks(costs, ranks.size)
        group = make_block_communicator(ranks, block_map)
        local = objective if group.size == ranks.size else objective.on(group)
        own = block_map.blocks[ranks.rank]
        return cls(decomposition, local, own, Groups(ranks, block_map.groups))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """s = 1 … S, from input to output."""
        return self.decomposition.blocks

    @property
    def sizes(self) -> list[int]:
        """n_s of each block."""
        return [block.size for block in self.blocks]

    def make_fresh_counts(self) -> Counts:
        """Of one block's solve, in units of the whole network."""
        whole = self.objective.counts
        return Counts(whole.loss_cost, whole.gradient_cost)
