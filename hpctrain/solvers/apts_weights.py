"""APTS in weights: subdomains are blocks of parameters, each with all samples of the iteration.

    h_p(θ_p) = L with the parameters outside block p frozen as in θ_k,   ∇h_p(R_p θ_k) = R_p ∇L(θ_k)
    ‖s_p‖_∞ ≤ Δ,     hence ‖Σ_p E_p s_p‖_∞ ≤ Δ, since blocks are disjoint

Blocks are groups of layers, or of tensors: as fine as single matrices and biases, so that a network
of three layers has up to six. In the 2-norm the budget is Δ/√N. The start of a local phase is known
from the global gradient, and the activations below a block are computed once in it. `solvers.apts`
has the algorithm. Source: Trotti, Cruz, Kopaničáková, Krause, arXiv 2312.13677.
"""

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor

from hpctrain.decomposition.blocks import Excess, Pieces, find_excess
from hpctrain.methods.groups import Groups
from hpctrain.methods.schwarz.blocks import BlockWork
from hpctrain.methods.trust_region.control import TrustRegionOptions
from hpctrain.methods.trust_region.subdomains import LocalProblem
from hpctrain.methods.trust_region.subproblem import Norm
from hpctrain.objective import Objective, Point
from hpctrain.solvers.apts import APTS, APTSOptions
from hpctrain.solvers.base import Setting


class WeightsRegionOptions(TrustRegionOptions):
    """Constants of the radius control, as published for APTS in weights."""

    norm: Norm = Field("inf", description='of a step: 2, or "inf" for its largest component')
    radius: float = Field(0.01, gt=0, description="Δ at the start")
    min_radius: float = Field(1e-4, gt=0, description="least Δ")
    max_radius: float = Field(0.1, gt=0, description="greatest Δ")


class APTSWeightsOptions(APTSOptions):
    """Settings of APTS in weights."""

    name: Literal["apts-weights"] = "apts-weights"
    blocks: int = Field(2, ge=1, description="N, groups of consecutive pieces of the network")
    pieces: Pieces = Field(
        "layers", description="what blocks consist of: layers, or tensors, as matrices and biases"
    )
    trust_region: WeightsRegionOptions = Field(
        WeightsRegionOptions(), description="the radius, and the constants of its control"
    )


class ParameterBlocks:
    """Blocks of parameters, each with all samples of the iteration, as the subdomains of APTS.

    Args:
        objective: L over all samples on all ranks.
        work: which ranks work on which block.
        norm: of steps.
        pieces: what blocks consist of.
    """

    local_gradients = 1.0

    def __init__(self, objective: Objective, work: BlockWork, norm: Norm, pieces: Pieces) -> None:
        self.work = work
        self.own: Sequence[int] = work.own
        self.groups: Groups = work.groups
        self.sizes: Sequence[int] = work.sizes
        self._objective = objective
        self._norm = norm
        self._pieces = pieces
        self._on_group: tuple[Objective, Objective] | None = None

    def pose_problem(
        self, p: int, L: Objective, chosen: Tensor | None, point: Point
    ) -> LocalProblem:
        """L as a function of θ_p, all else frozen as in θ_k."""
        block, counts = self.work.blocks[p], self.work.make_fresh_counts()
        h_p = self._share_with_group(L, chosen).restrict(block, point.theta, counts)
        return LocalProblem(h_p, point.restrict(block), counts)

    def _share_with_group(self, L: Objective, chosen: Tensor | None) -> Objective:
        """L on the ranks that share this rank's blocks, made once a local phase."""
        local = self.work.objective
        if local is self._objective:
            return L
        if chosen is None:
            return local
        if self._on_group is None or self._on_group[0] is not L:
            self._on_group = L, local.subset(chosen)
        return self._on_group[1]

    def limit_step(self, radius: float) -> float:
        """Δ in the infinity norm, Δ/√N in the 2-norm."""
        return radius if self._norm == "inf" else radius / math.sqrt(len(self.sizes))

    def add(self, steps: Sequence[Tensor]) -> Tensor:
        return self.work.decomposition.extend_add(steps)

    def describe(self) -> str:
        sizes = ", ".join(str(size) for size in self.sizes)
        return f"{len(self.sizes)} blocks of {self._pieces} (n_p = {sizes}), all samples"


class APTSWeights(APTS):
    """APTS whose subdomains are blocks of parameters."""

    names = ("apts-weights",)
    Options = APTSWeightsOptions

    @classmethod
    def find_excess(cls, options: APTSWeightsOptions, layers: int) -> Excess | None:
        """How many tensors there are is known when the network is made."""
        in_layers = options.pieces == "layers"
        return find_excess(options.blocks, 0, layers) if in_layers else None

    def __init__(self, setting: Setting, options: APTSWeightsOptions) -> None:
        L, o = setting.objective, options
        work = BlockWork.of(L, o.blocks, pieces=o.pieces)
        super().__init__(setting, options, ParameterBlocks(L, work, o.norm, o.pieces))
