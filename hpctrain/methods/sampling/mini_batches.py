"""Which samples an iteration works on: all, or the mini-batches of one epoch after the other.

With an overlap of o % a mini-batch draws o % of the other samples too.
"""

from dataclasses import dataclass

from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.linalg.randomness import make_generator
from hpctrain.methods.sampling.epochs import batch, count_batches
from hpctrain.methods.sampling.subsets import add_overlap
from hpctrain.objective import Objective


@dataclass(frozen=True)
class MiniBatches:
    """The samples of every iteration, equal on all ranks.

    Args:
        seed: of the order of the samples.
        strata: samples of each kind, in all |D|.
        size: of a mini-batch, before it overlaps others; None for all samples in every iteration.
        overlap: o, in percent.
    """

    seed: int
    strata: tuple[int, ...]
    size: int | None = None
    overlap: float = 0.0

    @property
    def samples(self) -> int:
        """|D|."""
        return sum(self.strata)

    def choose(self, iteration: int) -> Tensor | None:
        """The numbers of an iteration's samples, ascending; None for all of them."""
        if self.size is None:
            return None
        epoch, index = divmod(iteration, count_batches(self.samples, self.size))
        own = batch(self.seed, epoch, index, self.size, *self.strata)
        random = make_generator(self.seed, "mini-batch overlap", iteration)
        return add_overlap(own, self.samples, self.overlap, random)

    def count_epochs(self, iteration: int) -> float | None:
        """As many samples as all |D| are one; None where each iteration takes all.

        What overlaps is included: with it mini-batches have more than |D| samples together.
        """
        return None if self.size is None else iteration * self.fraction

    def ends_epoch(self, iteration: int) -> bool:
        """Whether all samples have been seen as often after so many iterations."""
        return self.size is None or iteration % count_batches(self.samples, self.size) == 0

    @property
    def fraction(self) -> float:
        """The part of all samples that a mini-batch has in the mean, with what overlaps."""
        if self.size is None:
            return 1.0
        own = 1 / count_batches(self.samples, self.size)
        return own + self.overlap / 100 * (1 - own)

    def describe(self) -> str:
        """As a solver's description has it."""
        if self.size is None:
            return "all samples in every iteration"
        count = count_batches(self.samples, self.size)
        overlap = f", overlap {self.overlap:g} %" if self.overlap else ""
        kinds = len(self.strata)
        size = f"at most {self.size} samples" if kinds == 1 else f"about {self.size} samples"
        shares = f", a share of each of {kinds} terms" if kinds > 1 else ""
        return f"{count} mini-batches an epoch, of {size}{shares}{overlap}"

    def make_objective(self, objective: Objective, iteration: int) -> Objective:
        """The loss over an iteration's samples."""
        chosen = self.choose(iteration)
        return objective if chosen is None else objective.subset(chosen)


def make_mini_batches(
    objective: Objective, seed: int, size: int | None, overlap: float = 0.0
) -> MiniBatches:
    """The mini-batches of a solver's options.

    Raises:
        InputError: the loss cannot be taken over some of its samples, or has fewer of them.
    """
    if size is not None and not objective.has_batches:
        raise InputError(
            f"solver.batch_size = {size}: this problem's loss cannot be taken over some of its"
            " samples; leave batch_size out"
        )
    if size is not None and size > objective.samples:
        raise InputError(
            f"solver.batch_size = {size} is not allowed: at most {objective.samples}, the number"
            " of samples"
        )
    kinds = len(objective.strata)
    if size is not None and size < kinds:
        raise InputError(
            f"solver.batch_size = {size} is not allowed: at least {kinds}, a sample of each term"
        )
    return MiniBatches(seed, objective.strata, size, overlap)
