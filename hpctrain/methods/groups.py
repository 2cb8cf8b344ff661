"""Groups of ranks that work on the parts of a method, blocks or shares, and one gather of results.

Every part has a group of ranks, whose first one leads it: it sends the part's result to all and
writes its state to checkpoints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hpctrain.objective import Counts
from hpctrain.parallel.communicator import Communicator

# Numbers behind a result: the work of three kinds, exact in float64 up to 2⁵³ multiply-adds.
KINDS_OF_WORK = 3


@dataclass(frozen=True)
class Groups:
    """Who works on what.

    Attributes:
        communicator: all ranks.
        members: for each part the ranks that work on it, its leader first.
    """

    communicator: Communicator
    members: tuple[tuple[int, ...], ...]

    @property
    def led(self) -> list[int]:
        """The parts that this rank leads, ascending."""
        return self._list_led(self.communicator.rank)

    def _list_led(self, rank: int) -> list[int]:
        return [part for part, group in enumerate(self.members) if group[0] == rank]

    def gather(self, own: Mapping[int, Tensor], sizes: Sequence[int], like: Tensor) -> list[Tensor]:
        """Every part's result on every rank, in the order of the parts; collective.

        Args:
            own: by part, what this rank worked on (sizes[part],); only what it leads is sent.
            sizes: of each part's result.
            like: a tensor of the results' type and device.
        """
        led = [self._list_led(rank) for rank in range(self.communicator.size)]
        rows = [own[part] for part in led[self.communicator.rank]]
        sent = [sum(sizes[part] for part in theirs) for theirs in led]
        flat = torch.cat([like.new_zeros(0), *rows])
        order = [part for theirs in led for part in theirs]
        gathered = self.communicator.allgather_rows(flat, sent).split([sizes[p] for p in order])
        received = dict(zip(order, gathered, strict=True))
        return [received[part] for part in range(len(self.members))]

    def gather_with_work(
        self, own: Mapping[int, tuple[Tensor, Counts]], sizes: Sequence[int], counts: Counts
    ) -> list[Tensor]:
        """Every part's result in float64, and the work behind it added to `counts`; collective.

        The work is added in the order of the parts, so that counts are equal on all ranks.
        """
        rows = {part: _append_work(result, work) for part, (result, work) in own.items()}
        device = next(iter(rows.values())).device if rows else "cpu"
        like = torch.zeros(0, dtype=torch.float64, device=device)
        received = self.gather(rows, [size + KINDS_OF_WORK for size in sizes], like)
        for row in received:
            loss, gradient, hvp = row[-KINDS_OF_WORK:].tolist()
            counts.loss_work += loss
            counts.gradient_work += gradient
            counts.hvp_work += hvp
        return [row[:-KINDS_OF_WORK] for row in received]


def _append_work(result: Tensor, work: Counts) -> Tensor:
    row = result.double()
    return torch.cat([row, row.new_tensor([work.loss_work, work.gradient_work, work.hvp_work])])
