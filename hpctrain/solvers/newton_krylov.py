"""Newton-Krylov-Schwarz: damped Gauss-Newton steps by preconditioned conjugate gradients.

For L = (1/N) ‖r‖² with the Jacobian J of r (N, n) and B = (2/N) JᵀJ:

    (B + λ I) p ≈ -∇L by Steihaug's conjugate gradients,   θ⁺ = θ + p,
    ρ = (L(θ) - L(θ⁺)) / (m(0) - m(p)),   λ controlled by ρ (`methods.least_squares.damping`).

Neither J nor B is stored: a product is one pass over each rank's samples and one sum over the
ranks. The preconditioner is a two-level additive Schwarz method over the blocks s of layers,

    M⁻¹ = Σ_s E_s (B̃_ss + λ I)⁻¹ R_s + W (Wᵀ (B̃ + λ I) W)⁻¹ Wᵀ,   B̃ = (2/N) AᵀA,

with A = S J a random sketch of k rows, renewed in each iteration, and as the coarse space W two
vectors of each block: its part of the gradient and of the last step. A block's inverse takes a
k × k factor, for A_s = A E_s and δ = λ N / 2,

    (B̃_ss + λ I)⁻¹ = (1/λ) (I - A_sᵀ (A_s A_sᵀ + δ I)⁻¹ A_s),

and lives with the block's rank: k n_s + k² numbers.

Sources: Cai and Keyes, SIAM Journal on Scientific Computing 24 (2002) (Newton-Krylov-Schwarz);
Steihaug 1983; Woodbury's identity; sketches as in `objective.residuals`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from hpctrain.decomposition.blocks import Block, Excess, find_excess
from hpctrain.kernels.dense import compute_row_gram
from hpctrain.linalg.krylov import UNBOUNDED, Product
from hpctrain.linalg.krylov.steihaug_cg import CGResult, steihaug_cg
from hpctrain.linalg.vectors import norm
from hpctrain.methods.least_squares.damping import DampingOptions, DampingSearch, Proposal
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.schwarz.blocks import BlockWork
from hpctrain.objective import Point, Sketch, evaluate_point
from hpctrain.solvers.base import Need, Record, Setting, Solver

# Least δ, in rounding errors of the greatest diagonal entry.
ROUNDING_UNITS = 50


class NewtonKrylovOptions(DampingOptions):
    """Settings of Newton-Krylov-Schwarz."""

    name: Literal["newton-krylov-schwarz"] = "newton-krylov-schwarz"
    blocks: int = Field(8, ge=1, description="S, groups of consecutive layers")
    sketch: int = Field(1024, ge=1, description="k, rows of the sketch in the preconditioner")
    coarse: bool = Field(True, description="a coarse space of two vectors of each block")
    max_products: int = Field(50, ge=1, description="products by B in an iteration, at most")
    tolerance: float = Field(1e-2, gt=0, lt=1, description="of the linear residual, relative")


@dataclass
class NewtonKrylovState:
    """θ with its loss and gradient, the damping λ, the last step (n,), and the iterations."""

    point: Point
    damping: float
    last_step: Tensor
    iteration: int = 0


class NewtonKrylovSchwarz(Solver[NewtonKrylovState]):
    """See the module."""

    names = ("newton-krylov-schwarz",)
    Options = NewtonKrylovOptions
    needs = frozenset({Need.RESIDUALS})

    @classmethod
    def find_excess(cls, options: NewtonKrylovOptions, layers: int) -> Excess | None:
        return find_excess(options.blocks, 0, layers)

    def __init__(self, setting: Setting, options: NewtonKrylovOptions) -> None:
        super().__init__(setting, options)
        self.work = BlockWork.of(setting.objective, options.blocks)

    def init(self, theta: Tensor) -> NewtonKrylovState:
        with self.setting.timer.phase("global"):
            point = evaluate_point(self.setting.objective, theta)
        return NewtonKrylovState(point, self.options.damping, torch.zeros_like(theta))

    def step(self, state: NewtonKrylovState) -> tuple[NewtonKrylovState, Record]:
        o, objective, old = self.options, self.setting.objective, state.point
        with self.setting.timer.phase("local"):
            sketch = objective.residuals.sketch(
                old.theta, o.sketch, self.setting.seed, state.iteration
            )
            blocks = [
                SketchedBlock(self.work.blocks[s], sketch, objective.threads)
                for s in self.work.groups.led  # one rank solves a block, the first of its group
            ]
        with self.setting.timer.phase("global"):
            vectors = self._list_coarse_vectors(state) if o.coarse else []
            coarse = CoarseSpace(vectors, sketch) if vectors else None
            return self._search(state, blocks, coarse)

    def _search(
        self,
        state: NewtonKrylovState,
        blocks: list["SketchedBlock"],
        coarse: "CoarseSpace | None",
    ) -> tuple[NewtonKrylovState, Record]:
        o, old, count = self.options, state.point, state.iteration + 1

        def propose(damping: float) -> Proposal:
            found = self._solve(state, damping, blocks, coarse)
            # The damping's part of the model's decrease is no decrease of the loss.
            return Proposal(found.step, found.predicted + 0.5 * damping * norm(found.step) ** 2)

        found = DampingSearch(self.setting.objective, old, o, propose).find(state.damping)
        if found is None:
            record = Record(old.loss, norm(old.gradient), 0.0, 1, 1, Outcome.SKETCH_EXHAUSTED)
            return NewtonKrylovState(old, o.damping, state.last_step, count), record
        new = found.point
        record = Record(new.loss, norm(new.gradient), norm(found.step), 1, 1)
        return NewtonKrylovState(new, found.damping, found.step, count), record

    def _solve(
        self,
        state: NewtonKrylovState,
        damping: float,
        blocks: list["SketchedBlock"],
        coarse: "CoarseSpace | None",
    ) -> CGResult:
        o, objective, point = self.options, self.setting.objective, state.point
        half = 0.5 * objective.samples
        inverses = [block.make_inverse(damping, half) for block in blocks]
        coarse_inverse = coarse.make_inverse(damping, half) if coarse else None

        def product(v: Tensor) -> Tensor:
            return objective.residuals.multiply_gauss_newton(point.theta, v) + damping * v

        def precondition(x: Tensor) -> Tensor:
            z = self._add_blocks([each(x) for each in inverses])
            return z if coarse_inverse is None else z + coarse_inverse(x)

        return steihaug_cg(
            product, point.gradient, UNBOUNDED, o.tolerance, o.max_products, precondition
        )

    def _add_blocks(self, own: list[Tensor]) -> Tensor:
        """Σ_s E_s z_s (n,), of this rank's z_s and those of the others; collective."""
        L, work = self.setting.objective, self.work
        led = dict(zip(work.groups.led, own, strict=True))
        like = torch.zeros(0, dtype=L.dtype, device=L.device)
        return work.decomposition.extend_add(work.groups.gather(led, work.sizes, like))

    def _list_coarse_vectors(self, state: NewtonKrylovState) -> list[Tensor]:
        """Each block's part (n,) of the gradient and of the last step, where it is not zero."""
        parts = self.work.decomposition
        vectors = [
            parts.extend(block, block.restrict(v).clone())
            for v in (state.point.gradient, state.last_step)
            for block in parts.blocks
        ]
        return [v for v in vectors if norm(v) > 0]

    def describe(self) -> list[str]:
        n, o = self.setting.objective.parameters, self.options
        level = "two-level" if o.coarse else "one-level"
        return [
            f"newton-krylov-schwarz: conjugate gradients on JᵀJ ({n} x {n}, by products),"
            f" tolerance {o.tolerance:g}, at most {o.max_products} products",
            f"{level} additive Schwarz over {len(self.work.blocks)} blocks of"
            f" layers, from a sketch of {o.sketch} rows of J",
            f"damping {o.damping:g} at first, controlled by the ratio of decreases",
        ]


class SketchedBlock:
    """One block of the preconditioner: A_s (k, n_s) and A_s A_sᵀ (k, k)."""

    def __init__(self, block: Block, sketch: Sketch, threads: int) -> None:
        self.block = block
        self.A = sketch.rows[:, 1 + block.start : 1 + block.stop].contiguous()
        self.gram = compute_row_gram(self.A, threads)

    def make_inverse(self, damping: float, half: float) -> Product:
        """x (n,) ↦ (B̃_ss + λ I)⁻¹ R_s x (n_s,), for λ and N / 2."""
        delta, factor = factor_shifted(self.gram, half * damping)

        def apply(x: Tensor) -> Tensor:
            own = self.block.restrict(x)
            z = torch.cholesky_solve(torch.mv(self.A, own)[:, None], factor)[:, 0]
            return (own - torch.mv(self.A.T, z)) * (half / delta)

        return apply


def factor_shifted(K: Tensor, shift: float) -> tuple[float, Tensor]:
    """The least δ beyond `shift` with which K + δ I has a Cholesky factor in rounding, and that.

    K (k, k) is singular where it is of more rows than columns: a δ below its own rounding error,
    which depends on the precision, leaves no factor. δ grows tenfold until one is there.
    """
    limits = torch.finfo(K.dtype)
    rounding = max(ROUNDING_UNITS * limits.eps * float(K.diagonal().max()), limits.tiny)
    while True:
        delta = shift + rounding
        shifted = K.clone()
        shifted.diagonal().add_(delta)
        factor, failed = torch.linalg.cholesky_ex(shifted)
        if not int(failed) or not math.isfinite(rounding):
            return delta, factor
        rounding *= 10


class CoarseSpace:
    """W (n, c), orthonormal, and Wᵀ AᵀA W (c, c); the same on every rank."""

    def __init__(self, vectors: list[Tensor], sketch: Sketch) -> None:
        self.W, _ = torch.linalg.qr(torch.stack(vectors, dim=1))
        AW = sketch.rows[:, 1:] @ self.W
        self.gram = AW.T @ AW

    def make_inverse(self, damping: float, half: float) -> Product:
        """x (n,) ↦ W (Wᵀ (B̃ + λ I) W)⁻¹ Wᵀ x (n,), for λ and N / 2."""
        _, factor = factor_shifted(self.gram / half, damping)
        return lambda x: self.W @ torch.cholesky_solve((self.W.T @ x)[:, None], factor)[:, 0]
