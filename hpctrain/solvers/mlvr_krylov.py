"""MLVR with K-cycles: L-BFGS on all samples, whose H₀ is a solve with Hessians of fewer samples.

    D¹ ⊂ … ⊂ D^L = D;  d = -H ∇L(θ),  H by L-BFGS from H₀ = B^{L-1},  θ ← θ + α d
    B^l q ≈ (∇²L^l(θ))⁻¹ q:  ν iterations of flexible conjugate gradients, preconditioned by B^{l-1}

The coarse models of MLVR are taken to second order at θ. An iteration so costs one gradient of all
samples and a few products of small parts of them; what these leave out of the Hessian, the secant
pairs of all samples put in. With one level below the finest and no pairs it is sub-sampled Newton.
Few iterations a level are meant: more would fit the level's own samples. The first θ comes from
the coarser levels: some steps of L-BFGS on each, from the coarsest up. The samples are then drawn
anew in every iteration: those that θ was fitted to show too little curvature, and what one draw
misses another has. The pairs, which are of all samples, remain.

Sources: Braglia, Kopaničáková, Krause, A multilevel approach to training, arXiv 2006.15602; the
K-cycle: Notay and Vassilevski, Numerical Linear Algebra with Applications 15 (2008); H₀ of other
kinds: Nocedal and Wright, Numerical Optimization (2006), section 7.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field
from torch import Tensor

from hpctrain.linalg.krylov.flexible_cg import flexible_cg
from hpctrain.linalg.vectors import dot, norm
from hpctrain.methods.multilevel.cycles import LevelState, Room
from hpctrain.methods.multilevel.smoothers import LBFGSSteps
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.quasi_newton.secant_pairs import SecantPairs
from hpctrain.methods.quasi_newton.update_cost import count_pairs
from hpctrain.methods.sampling.subsets import SampleLevels, draw_nested_subsets, find_level_sizes
from hpctrain.methods.search.armijo import ArmijoOptions, armijo
from hpctrain.methods.search.strong_wolfe import LineSearchOptions
from hpctrain.objective import Objective, Point, complete_point, evaluate_point
from hpctrain.solvers.base import Need, Record, Setting, Solver

# A coarser level gives the first θ where its gradient's norm has fallen by this. Closer to its
# minimum few samples are all but separated: their Hessian is far too small, and so d too long.
CASCADE_TOLERANCE = 0.2


class MLVRKrylovOptions(SampleLevels):
    """Settings of multilevel variance reduction with K-cycles."""

    name: Literal["mlvr-krylov"] = "mlvr-krylov"
    coarsening_factor: float = Field(
        10.0, ge=1, description="how many times fewer samples a level has than the next finer one"
    )
    resample: Literal["never", "cycle"] = Field(
        "cycle", description="when the subsets are drawn anew"
    )
    cg_iterations: int = Field(2, ge=1, description="cap on Hessian products of a solve, ν")
    cg_tolerance: float = Field(0.1, ge=0, lt=1, description="relative residual that ends them")
    memory: int = Field(50, ge=1, description="secant pairs of L-BFGS, m")
    cascade_steps: int = Field(
        10, ge=0, description="steps at most on each coarser level for the first θ; 0: θ₀ is it"
    )
    line_search: ArmijoOptions = Field(
        ArmijoOptions(), description="constants of Armijo backtracking"
    )


@dataclass
class MLVRKrylovState:
    """θ with the full loss and gradient there, secant pairs of all samples, cycles so far."""

    point: Point
    pairs: SecantPairs = field(default_factory=SecantPairs)
    iteration: int = 0


class MLVRKrylov(Solver[MLVRKrylovState]):
    """One iteration is one K-cycle and its line search; costs are effective evaluations."""

    names = ("mlvr-krylov",)
    Options = MLVRKrylovOptions
    needs = frozenset({Need.SUBSETS})

    def __init__(self, setting: Setting, options: MLVRKrylovOptions) -> None:
        super().__init__(setting, options)
        self._sizes = find_level_sizes(options, setting.objective.samples)
        self._drawn: tuple[int, list[Objective]] | None = None

    def init(self, theta: Tensor) -> MLVRKrylovState:
        """The state where the coarser levels lead from θ₀."""
        o = self.options
        steps = LBFGSSteps(o.memory, LineSearchOptions(), CASCADE_TOLERANCE)
        with self.setting.timer.phase("global"):
            for L_l in reversed(self._make_coarser(0)) if o.cascade_steps else ():
                start = LevelState(evaluate_point(L_l, theta))
                theta = steps.advance(L_l, start, o.cascade_steps, Room(theta)).point.theta
            return MLVRKrylovState(evaluate_point(self.setting.objective, theta))

    def step(self, state: MLVRKrylovState) -> tuple[MLVRKrylovState, Record]:
        before = self.setting.counts.effective_evaluations
        with self.setting.timer.phase("global"):
            new = self._step(state)
        spent = self.setting.counts.effective_evaluations - before
        length = norm(new.point.theta - state.point.theta)
        failed = Outcome.MEMORY_DROPPED if state.pairs.s else Outcome.NO_NEWTON_DESCENT
        outcome = Outcome.ACCEPTED if length else failed
        updates = count_pairs(self.options.memory)
        record = Record(new.point.loss, norm(new.point.gradient), length, spent, updates, outcome)
        return new, record

    def _step(self, state: MLVRKrylovState) -> MLVRKrylovState:
        """The next state; where no decrease was found θ stays and the pairs are forgotten."""
        o, old, cycle = self.options, state.point, state.iteration + 1
        coarser = self._make_coarser(0 if o.resample == "never" else cycle)
        d = -state.pairs.multiply_inverse_hessian(
            old.gradient, lambda q: self._solve(coarser, old.theta, q)
        )
        slope = dot(old.gradient, d)
        # One pass gives loss and gradient, at the price of either.
        likely = o.line_search.max_trials
        L, search = self.setting.objective, o.line_search
        found = armijo(L, old.theta, d, old.loss, slope, 1.0, search, likely)
        if found is None:
            return MLVRKrylovState(old, iteration=cycle)
        new = complete_point(found.evaluation)
        pairs = SecantPairs(state.pairs.s, state.pairs.y)
        pairs.store(new.theta - old.theta, new.gradient - old.gradient, o.memory)
        return MLVRKrylovState(new, pairs, cycle)

    def _make_coarser(self, draw: int) -> list[Objective]:
        """L^l of the levels below the finest, descending; kept until another draw is asked for."""
        if self._drawn is None or self._drawn[0] != draw:
            L, seed = self.setting.objective, self.setting.seed
            subsets = draw_nested_subsets(seed, L.samples, self._sizes, draw)
            self._drawn = draw, [L.subset(subset) for subset in subsets]
        return self._drawn[1]

    def _solve(self, levels: Sequence[Objective], theta: Tensor, q: Tensor) -> Tensor:
        """B^l q for the finest of these levels."""
        o, (L_l, *coarser) = self.options, levels
        return flexible_cg(
            lambda v: L_l.multiply_hessian(theta, v),
            q,
            o.cg_tolerance,
            o.cg_iterations,
            (lambda r: self._solve(coarser, theta, r)) if coarser else None,
        )

    def describe(self) -> list[str]:
        o, finest = self.options, self.setting.objective.samples
        sizes = " > ".join(str(size) for size in (finest, *self._sizes))
        return [
            f"multilevel variance reduction with K-cycles, {o.levels} levels of {sizes} samples,"
            f" drawn anew: {o.resample}",
            f"L-BFGS, {o.memory} secant pairs, H0 by at most {o.cg_iterations} conjugate gradients"
            " a level; Armijo backtracking",
            f"first point by at most {o.cascade_steps} steps on each coarser level",
        ]
