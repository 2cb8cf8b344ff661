"""Shares of the samples as the parts of a method: which ranks work on them, on which loss."""

from dataclasses import dataclass

from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.linalg.arrays import to_tensor
from hpctrain.linalg.randomness import make_generator
from hpctrain.methods.groups import Groups
from hpctrain.methods.sampling.subsets import add_overlap
from hpctrain.objective import Objective
from hpctrain.parallel.grid import assign_blocks, make_block_communicator


@dataclass(frozen=True)
class Share:
    """A share of the samples.

    Attributes:
        samples: their numbers in the whole set, ascending.
        objective: the mean loss over them on the ranks that share this rank's shares, with counts
            of its own.
    """

    samples: Tensor
    objective: Objective


@dataclass(frozen=True)
class ShareWork:
    """Where a method works on its shares of the samples.

    Attributes:
        own: by index, the shares that this rank works on.
        groups: for each share the ranks that work on it.
    """

    own: dict[int, Share]
    groups: Groups

    @classmethod
    def of(cls, objective: Objective, count: int, overlap: float, seed: int) -> "ShareWork":
        """Random shares of an objective's samples on its ranks; collective.

        Args:
            objective: over all samples.
            count: N.
            overlap: o, in percent: a share draws o % of the other samples too.
            seed: of the draw.

        Raises:
            InputError: a share has fewer samples than it is cut into chunks.
        """
        ranks = objective.communicator
        numbers = draw_shares(seed, objective.samples, count, overlap)
        share_map = assign_blocks([len(each) for each in numbers], ranks.size)
        group = make_block_communicator(ranks, share_map)
        try:
            own = ranks.run_on_all(
                lambda: {
                    index: Share(numbers[index], objective.take_samples(numbers[index], group))
                    for index in share_map.blocks[ranks.rank]
                }
            )
        except InputError as error:
            raise InputError(f"solver.subdomains = {count} is not allowed: {error}") from error
        return cls(own, Groups(ranks, share_map.groups))


def draw_shares(seed: int, samples: int, count: int, overlap: float = 0.0) -> list[Tensor]:
    """Random shares of the samples, equal to within one: their numbers, ascending.

    Args:
        seed: of the draw.
        samples: |D|.
        count: N.
        overlap: o, in percent: a share then draws o % of the samples that it has not.
    """
    order = to_tensor(make_generator(seed, "sample shares").permutation(samples))
    parts = [part.sort().values for part in order.tensor_split(count)]
    return [
        add_overlap(part, samples, overlap, make_generator(seed, "share overlap", index))
        for index, part in enumerate(parts)
    ]
