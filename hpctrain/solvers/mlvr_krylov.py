"""MLVR with K-cycles: L-BFGS on all samples, whose H₀ is a solve with Hessians of fewer samples.

    D¹ ⊂ … ⊂ D^L = D;  d = -H ∇L(θ),  H by L-BFGS from H₀ = B^{L-1},  θ ← θ + α d
    B^l q ≈ (∇²L^l(θ))⁻¹ q:  ν iterations of flexible conjugate gradients, preconditioned by B^{l-1}

The coarse models of MLVR are taken to second order at θ. An iteration so costs one gradient of all
samples and a few products of small parts of them; what these leave out of the Hessian, the secant
pairs of all samples put in. With one level below the finest and no pairs it is sub-sampled Newton.
Few iterations a level are meant: more would fit the level's own samples. The first θ comes from
the coarser levels: some steps of L-BFGS on each, from the coarsest up.

Sources: Braglia, Kopaničáková, Krause, A multilevel approach to training, arXiv 2006.15602; the
K-cycle: Notay and Vassilevski, Numerical Linear Algebra with Applications 15 (2008); H₀ of other
kinds: Nocedal and Wright, Numerical Optimization (2006), section 7.2.
"""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field
from torch import Tensor

from hpctrain.globalization.backtracking import ArmijoOptions, armijo
from hpctrain.globalization.flexible_cg import flexible_cg
from hpctrain.globalization.line_search import LineSearchOptions
from hpctrain.objective import Objective
from hpctrain.quasi_newton.lbfgs import SecantPairs
from hpctrain.solvers.base import Point, Record, Setting, Solver, evaluate, point_of
from hpctrain.solvers.level_solvers import LBFGSSteps
from hpctrain.solvers.multilevel import LevelState, Room
from hpctrain.solvers.sampling import SampleLevels, level_sizes, nested_subsets
from hpctrain.solvers.variance_reduction import effective_evaluations, require_subsets
from hpctrain.vectors import dot, norm

# A coarser level gives the first θ where its gradient's norm has fallen by this.
CASCADE_TOLERANCE = 0.03


class MLVRKrylovOptions(SampleLevels):
    """Settings of multilevel variance reduction with K-cycles."""

    name: Literal["mlvr-krylov"] = "mlvr-krylov"
    coarsening_factor: float = Field(
        5.0, ge=1, description="how many times fewer samples a level has than the next finer one"
    )
    cg_iterations: int = Field(2, ge=1, description="cap on Hessian products of a solve, ν")
    cg_tolerance: float = Field(0.1, ge=0, lt=1, description="relative residual that ends them")
    memory: int = Field(20, ge=1, description="secant pairs of L-BFGS, m")
    cascade_steps: int = Field(
        10, ge=0, description="steps at most on each coarser level for the first θ; 0: θ₀ is it"
    )
    line_search: ArmijoOptions = ArmijoOptions()


@dataclass
class MLVRKrylovState:
    """θ with the full loss and gradient there, and the secant pairs of all samples."""

    point: Point
    pairs: SecantPairs = field(default_factory=SecantPairs)


class MLVRKrylov(Solver[MLVRKrylovState]):
    """One iteration is one K-cycle and its line search; costs are effective evaluations."""

    def __init__(self, setting: Setting, options: MLVRKrylovOptions) -> None:
        super().__init__(setting, options)
        require_subsets(setting, options.name)
        L = setting.objective
        self._sizes = level_sizes(options, L.samples)
        subsets = nested_subsets(setting.seed, L.samples, self._sizes)
        self._coarser: list[Objective] = [L.subset(subset) for subset in subsets]

    def init(self, theta: Tensor) -> MLVRKrylovState:
        """The state where the coarser levels lead from θ₀."""
        o = self.options
        steps = LBFGSSteps(o.memory, LineSearchOptions(), CASCADE_TOLERANCE)
        with self.setting.timer.phase("global"):
            for L_l in reversed(self._coarser) if o.cascade_steps else ():
                start = LevelState(evaluate(L_l, theta))
                theta = steps.steps(L_l, start, o.cascade_steps, Room(theta)).point.theta
            return MLVRKrylovState(evaluate(self.setting.objective, theta))

    def step(self, state: MLVRKrylovState) -> tuple[MLVRKrylovState, Record]:
        before = effective_evaluations(self.setting.counts)
        with self.setting.timer.phase("global"):
            new = self._step(state)
        spent = effective_evaluations(self.setting.counts) - before
        length = norm(new.point.theta - state.point.theta)
        stalled = length == 0 and not state.pairs.s
        record = Record(new.point.loss, norm(new.point.gradient), length, spent, 1, stalled)
        return new, record

    def _step(self, state: MLVRKrylovState) -> MLVRKrylovState:
        """The next state; where no decrease was found θ stays and the pairs are forgotten."""
        o, old = self.options, state.point
        d = -state.pairs.inverse_hessian_product(
            old.gradient, lambda q: self._solve(0, old.theta, q)
        )
        slope = dot(old.gradient, d)
        found = armijo(self.setting.objective, old.theta, d, old.loss, slope, 1.0, o.line_search)
        if found is None:
            return MLVRKrylovState(old)
        new = point_of(found.evaluation)
        pairs = SecantPairs(state.pairs.s, state.pairs.y)
        pairs.store(new.theta - old.theta, new.gradient - old.gradient, o.memory)
        return MLVRKrylovState(new, pairs)

    def _solve(self, depth: int, theta: Tensor, q: Tensor) -> Tensor:
        """B^l q for the coarser level of this depth, 0 next to the finest."""
        o, L_l = self.options, self._coarser[depth]
        coarsest = depth == len(self._coarser) - 1
        return flexible_cg(
            lambda v: L_l.hessian_vector(theta, v),
            q,
            o.cg_tolerance,
            o.cg_iterations,
            None if coarsest else lambda r: self._solve(depth + 1, theta, r),
        )

    def describe(self) -> list[str]:
        o, finest = self.options, self.setting.objective.samples
        sizes = " > ".join(str(size) for size in (finest, *self._sizes))
        return [
            f"multilevel variance reduction with K-cycles, {o.levels} levels of {sizes} samples",
            f"L-BFGS, {o.memory} secant pairs, H0 by at most {o.cg_iterations} conjugate gradients"
            " a level; Armijo backtracking",
            f"first point by at most {o.cascade_steps} steps on each coarser level",
        ]
