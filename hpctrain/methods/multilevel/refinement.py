"""How a finer network begins where a coarser one was trained: its θ, and what is known of it.

Copies of blocks make two half steps of one, with an error of dt²/4 F'F a block, which costs
accuracy. The second of the two is therefore fitted (`transfers.fit_second_half_step`): as in full
multigrid, the first guess on a level takes a prolongation of higher order than corrections do. The
secant pairs of L-SR1 are prolonged too: I s and Pᵀ y, as (I s)ᵀ(Pᵀ y) = sᵀy.

Sources: Kopaničáková and Krause, SIAM Journal on Scientific Computing 45(3) (2023), arXiv
2107.07572; Briggs, Henson, McCormick, A Multigrid Tutorial (2000), chapter 3.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, runtime_checkable

from torch import Tensor

from hpctrain.methods.quasi_newton.lsr1 import LSR1
from hpctrain.methods.sampling.epochs import batch
from hpctrain.methods.trust_region.step import TrialRule
from hpctrain.networks.transfers import Transfer
from hpctrain.objective import FiniteSumLoss, Objective


@runtime_checkable
class HalvableLoss(FiniteSumLoss, Protocol):
    """A loss of a residual network, whose Euler steps can be made two half steps each."""

    half_step_cost: float

    def make_half_step_systems(self, theta: Tensor) -> Iterator[Tensor]:
        """For block after block, `EulerBlock.make_half_step_system` summed over each chunk."""


def sum_half_step_systems(objective: Objective, theta: Tensor) -> Iterator[Tensor]:
    """For block after block of a residual network what `transfers.fit_second_half_step` takes.

    One sum over the ranks for each.
    """
    share = objective.share
    if not isinstance(share, HalvableLoss):
        raise TypeError(f"{type(share).__name__} is not of a residual network")
    return objective.sum_chunks(share.make_half_step_systems(theta), share.half_step_cost)


@dataclass
class LevelKnowledge:
    """What a level keeps from one cycle to the next.

    Attributes:
        radius: Δ of its own steps.
        reach: Δ of corrections by the next coarser level.
        memory: the secant pairs of its L-SR1.
    """

    radius: float
    reach: float
    memory: LSR1 = field(default_factory=LSR1)


@dataclass(frozen=True)
class HalfStepFit:
    """Makes θ of a finer network whose blocks make half the steps of a coarser one's.

    Attributes:
        samples: by which the second half steps are fitted; 0 for copies.
        seed: of the choice of the samples.
    """

    samples: int
    seed: int

    def refine(self, coarse: Objective, transfer: Transfer, theta: Tensor, draw: int) -> Tensor:
        """θ of the finer network (n,); collective.

        Args:
            coarse: the loss of the coarser network.
            transfer: between the two.
            theta: of the coarser network (n_c,).
            draw: number of the choice of samples.
        """
        if self.samples == 0:
            return transfer.prolong(theta)
        chosen = batch(self.seed, draw, 0, self.samples, coarse.samples)
        return transfer.refine(theta, sum_half_step_systems(coarse.subset(chosen), theta))


def carry_knowledge(
    below: LevelKnowledge, reach: float, transfer: Transfer, rule: TrialRule
) -> LevelKnowledge:
    """What a level knows at first: what the next coarser one learnt, prolonged.

    Args:
        below: of the coarser level.
        reach: Δ of corrections on the finer level, which is kept.
        transfer: between the two.
        rule: of the steps on the finer level.
    """
    memory = LSR1()
    for s, y in zip(below.memory.s, below.memory.y, strict=True):
        memory = rule.model.learn(memory, transfer.prolong(s), partial(transfer.lift, y))
    radius = min(transfer.stretch * below.radius, rule.control.max_radius)
    return LevelKnowledge(radius, reach, memory)
