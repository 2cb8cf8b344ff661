"""Which part of the samples of a loss is whose."""

from typing import NamedTuple

from hpctrain.parallel.tree import share_chunks


class Holding(NamedTuple):
    """What rank `rank` of `ranks` holds of samples that are cut into chunks, on so many threads."""

    chunks: int
    rank: int
    ranks: int
    threads: int

    @property
    def held(self) -> tuple[int, int]:
        """The first of its chunks and one past the last."""
        return share_chunks(self.chunks, self.ranks)[self.rank]

    def cut(self, samples: int) -> list[int]:
        """Bounds of its chunks of so many samples: chunk c has bounds[c] … bounds[c + 1] - 1."""
        first, last = self.held
        return [chunk * samples // self.chunks for chunk in range(first, last + 1)]

    def count_by_rank(self, samples: int) -> list[int]:
        """How many of so many samples each rank holds."""
        bounds = [self._replace(rank=rank).cut(samples) for rank in range(self.ranks)]
        return [each[-1] - each[0] for each in bounds]
