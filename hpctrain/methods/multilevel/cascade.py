"""A cascade: shallower networks are trained first, in stages, the coarsest first.

Stages are numbered from 0. Past the last one the finest network is trained by cycles.

Source: Kopaničáková and Krause, SIAM Journal on Scientific Computing 45(3) (2023), arXiv
2107.07572; nested iteration: Briggs, Henson, McCormick, A Multigrid Tutorial (2000), chapter 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from pydantic import Field

from hpctrain.errors import InputError
from hpctrain.options import Options


class Stage(Options):
    """A part of the cascade: the network of one level is trained for some epochs."""

    level: int = Field(ge=1, description="of the network; 1 is the coarsest")
    epochs: float = Field(gt=0, description="passes over the samples, also a part of one")
    batch_size: int | None = Field(
        None, ge=1, description="samples of a mini-batch at first; as the stage before left it"
    )
    steps: int | None = Field(
        None, ge=1, description="on a mini-batch, without coarser levels; a cycle if left out"
    )

    def describe(self) -> str:
        work = f"{self.steps} steps a batch" if self.steps else "by cycles"
        size = f", batches of {self.batch_size} at first" if self.batch_size else ""
        return f"before, level {self.level} for {self.epochs:g} epochs, {work}{size}"


@dataclass(frozen=True)
class Cascade:
    """Which network is trained when, on mini-batches of which size.

    Attributes:
        stages: in order.
        levels: L.
        batch_size: samples of a mini-batch past the last stage.
        samples: |D|.
    """

    stages: Sequence[Stage]
    levels: int
    batch_size: int
    samples: int

    def stage(self, number: int) -> Stage | None:
        """A stage; None past the last one."""
        return self.stages[number] if number < len(self.stages) else None

    def depth(self, number: int) -> int:
        """How far below the finest level the network is that a stage trains."""
        stage = self.stage(number)
        return 0 if stage is None else self.levels - stage.level

    def steps(self, number: int) -> int | None:
        """Steps of a stage on a mini-batch, without coarser levels; None where it makes cycles."""
        stage = self.stage(number)
        return None if stage is None else stage.steps

    def first_batch_size(self, number: int, before: int) -> int:
        """Samples of a stage's first mini-batches, after those of the stage before it."""
        stage = self.stage(number)
        return self.batch_size if stage is None else stage.batch_size or before

    def fills_epoch(self, number: int) -> bool:
        """Whether a stage sees all samples at least once."""
        stage = self.stage(number)
        return stage is None or stage.epochs >= 1

    def is_over(self, number: int, seen: int) -> bool:
        """Whether a stage ends when so many samples have been seen in all mini-batches."""
        epochs = list(accumulate(stage.epochs for stage in self.stages))
        return number < len(epochs) and seen >= round(epochs[number] * self.samples)


def check_stages(stages: Sequence[Stage], levels: int) -> None:
    """Raises a ValueError where the levels of the stages fall, or one does not exist."""
    trained = [stage.level for stage in stages]
    if any(b < a for a, b in pairwise([*trained, levels])):
        raise ValueError(f"cascade: its levels must not fall, nor exceed {levels}")


def check_batch_sizes(stages: Sequence[Stage], samples: int) -> None:
    """Raises an InputError where a stage asks for more samples than there are."""
    for stage in stages:
        if stage.batch_size is not None and stage.batch_size > samples:
            raise InputError(
                f"solver.cascade: batch_size = {stage.batch_size} is not allowed: at most"
                f" {samples}, the number of samples"
            )
