"""Which samples L, g and B of the steps of a trust region are of, and how many.

    exact          L, g and B of all samples
    mini-batches   L, g and B of mini-batches, which go through all samples epoch by epoch
    drawn          B, or g and B, or L, g and B of a sample that is drawn anew in every step

A growing sample keeps the error of g in proportion to the step, |S_k+1| = |S_0| (Δ₀/‖s_k‖)², at
most twice as large as the last one and never smaller: short steps need a sharp gradient.

Sources: those of `solvers.trust_region`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hpctrain.methods.sampling.mini_batches import MiniBatches
from hpctrain.methods.sampling.subsets import draw_subset
from hpctrain.methods.trust_region.sampled import (
    Exact,
    Functions,
    Sampled,
    SampledDerivatives,
    SampledHessian,
    TrustRegionState,
)
from hpctrain.objective import Objective

# By how much a growing sample may grow from one step to the next.
SAMPLE_GROWTH = 2


class Sampling(Protocol):
    """The functions of every step, and the size of the next sample."""

    def choose_functions(self, state: TrustRegionState) -> Functions:
        """L, g and B of the next step."""

    def choose_next_size(self, state: TrustRegionState) -> int:
        """Samples of the step that follows the one that led to this state."""

    def describe(self) -> str:
        """The rule in a line."""


@dataclass(frozen=True)
class AllSamples:
    """L, g and B of all samples."""

    objective: Objective

    def choose_functions(self, state: TrustRegionState) -> Functions:
        return Exact(self.objective)

    def choose_next_size(self, state: TrustRegionState) -> int:
        return state.sample_size

    def describe(self) -> str:
        return "all samples in every iteration"


@dataclass(frozen=True)
class MiniBatchSampling:
    """L, g and B of mini-batches."""

    objective: Objective
    batches: MiniBatches

    def choose_functions(self, state: TrustRegionState) -> Functions:
        return Sampled(self.batches.make_objective(self.objective, state.iteration))

    def choose_next_size(self, state: TrustRegionState) -> int:
        return state.sample_size

    def describe(self) -> str:
        return self.batches.describe()


@dataclass(frozen=True)
class DrawnSampling:
    """A sample of fixed size, drawn anew in every step.

    Attributes:
        objective: L.
        seed: of the draws.
        compose: L and its mean over the sample ↦ L, g and B of the step.
        text: the rule in a line.
    """

    objective: Objective
    seed: int
    compose: Callable[[Objective, Objective], Functions]
    text: str

    def choose_functions(self, state: TrustRegionState) -> Functions:
        L = self.objective
        chosen = draw_subset(self.seed, L.samples, state.sample_size, state.iteration)
        return self.compose(L, L.subset(chosen))

    def choose_next_size(self, state: TrustRegionState) -> int:
        return state.sample_size

    def describe(self) -> str:
        return self.text


@dataclass(frozen=True)
class GrowingSampling:
    """L, g and B of a sample that grows as steps become shorter.

    Attributes:
        objective: L.
        seed: of the draws.
        first_size: |S_0|.
        first_radius: Δ₀.
    """

    objective: Objective
    seed: int
    first_size: int
    first_radius: float

    def choose_functions(self, state: TrustRegionState) -> Functions:
        L = self.objective
        chosen = draw_subset(self.seed, L.samples, state.sample_size, state.iteration)
        return Sampled(L.subset(chosen))

    def choose_next_size(self, state: TrustRegionState) -> int:
        """|S_k+1|; a refused step leaves it unchanged."""
        if not state.step_length:
            return state.sample_size
        ratio, samples = self.first_radius / state.step_length, self.objective.samples
        wanted = self.first_size * min(ratio**2, samples)
        largest = min(SAMPLE_GROWTH * state.sample_size, samples)
        return max(state.sample_size, min(math.ceil(wanted), largest))

    def describe(self) -> str:
        return f"L, g and B of samples drawn for a step, {self.first_size} at first, growing"


def make_hessian_sampling(objective: Objective, seed: int, size: int) -> DrawnSampling:
    """B of a sample."""
    text = f"B of {size} samples drawn for a step, L and g of all"
    return DrawnSampling(objective, seed, SampledHessian, text)


def make_derivatives_sampling(objective: Objective, seed: int, size: int) -> DrawnSampling:
    """g and B of a sample."""
    text = f"g and B of {size} samples drawn for a step, L of all"
    return DrawnSampling(objective, seed, SampledDerivatives, text)
