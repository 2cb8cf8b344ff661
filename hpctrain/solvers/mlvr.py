"""Multilevel variance reduction: a multilevel method whose levels have fewer and fewer samples.

    D¹ ⊂ … ⊂ D^L = D,   L^l(θ) = (1/|D^l|) Σ_{j ∈ D^l} ℓ_j(θ),   I = R = P = id

The coarse models are first-order consistent, so that their gradients are estimates of the full one
with a variance that falls as the iterates converge. Special cases are known methods: one sample,
drawn anew in every step of gradient descent, is SVRG; one Newton step on D¹ without smoothing is
sub-sampled Newton; D¹ = D is Newton's method.

Source: Braglia, Kopaničáková, Krause, A multilevel approach to training, arXiv 2006.15602.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from hpctrain.linalg.vectors import norm
from hpctrain.methods.multilevel.cycles import (
    Correction,
    Cycle,
    Level,
    LevelSolver,
    LevelState,
    LineSearchControl,
    NoControl,
    Room,
)
from hpctrain.methods.multilevel.smoothers import (
    DirectionSteps,
    LBFGSSteps,
    StepRule,
    make_newton_direction,
    negate_gradient,
)
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.quasi_newton.secant_pairs import SecantPairs
from hpctrain.methods.sampling.subsets import (
    SampleLevels,
    draw_nested_subsets,
    draw_subsets,
    find_level_sizes,
)
from hpctrain.methods.search.armijo import ArmijoOptions
from hpctrain.methods.search.strong_wolfe import LineSearchOptions
from hpctrain.networks.transfers import Identity
from hpctrain.objective import Objective, Point, evaluate_point, make_consistent
from hpctrain.solvers.base import Need, Record, Setting, Solver

Method = Literal["gradient-descent", "lbfgs", "newton"]


class MLVROptions(SampleLevels):
    """Settings of multilevel variance reduction."""

    name: Literal["mlvr"] = "mlvr"
    resample: Literal["never", "cycle", "step"] = Field(
        "never", description="when the subsets are drawn anew; step: in every coarse step"
    )
    cycle: Cycle = Field("V", description="V or F")
    pre_smoothing: int = Field(2, ge=0, description="smoothing steps before a correction, μ₁")
    post_smoothing: int = Field(2, ge=0, description="smoothing steps after a correction, μ₂")
    smoother: Method = Field("lbfgs", description="what makes them")
    coarse_steps: int = Field(10, ge=1, description="steps on the coarsest level")
    coarse_solver: Method = Field("newton", description="what makes them")
    coarse_tolerance: float = Field(
        0.1, ge=0, lt=1, description="they end where the gradient's norm has fallen by this"
    )
    cascade: bool = Field(
        False, description="begin with cycles on the coarser levels, from the coarsest up"
    )
    control: Literal["line-search", "none"] = Field(
        "line-search", description="of corrections: Armijo backtracking, or all are taken"
    )
    learning_rate: float | None = Field(
        None, gt=0, description="fixed length of steps; by default Armijo or Wolfe searches"
    )
    memory: int = Field(10, ge=1, description="secant pairs of L-BFGS, m")
    cg_iterations: int = Field(10, ge=1, description="cap on Hessian products of a Newton step")
    cg_tolerance: float = Field(0.1, ge=0, lt=1, description="relative residual that ends them")
    line_search: ArmijoOptions = Field(
        ArmijoOptions(), description="constants of Armijo backtracking"
    )

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "MLVROptions":
        fixed = self.learning_rate is not None
        smooths = self.pre_smoothing + self.post_smoothing > 0
        if fixed and "lbfgs" in (self.coarse_solver, self.smoother if smooths else ""):
            raise ValueError("a learning_rate is for gradient-descent and newton, not for lbfgs")
        if self.resample == "step" and not (fixed and self.coarse_solver == "gradient-descent"):
            raise ValueError(
                'resample = "step" goes with coarse_solver = "gradient-descent" and a learning_rate'
            )
        if self.resample == "step" and self.cascade:
            raise ValueError('cascade = true needs levels to begin with, not resample = "step"')
        return self


@dataclass
class MLVRState:
    """θ, the secant pairs of each level, the finest first, and the cycles so far."""

    point: Point
    pairs: list[SecantPairs]
    iteration: int = 0


@dataclass(frozen=True)
class FreshSteps:
    """The coarsest level where every step of gradient descent has a subset of its own.

        θ_t+1 = θ_t - α ∇h_t(θ_t),   h_t consistent with the finer level's gradient at θ_0

    Attributes:
        objective: L, of which subsets are drawn.
        samples, steps, learning_rate: of each subset, on a visit, of each step.
        seed, indices: of the draws.
        memory: for the state, which has one a level; empty here.
    """

    objective: Objective
    samples: int
    steps: int
    learning_rate: float
    seed: int
    indices: tuple[int, ...]
    memory: SecantPairs
    transfer = Identity()
    is_coarsest = True

    def compute_correction(
        self, origin: Tensor, gradient: Tensor, radius: float, cycle: Cycle
    ) -> Correction:
        theta = origin
        drawn = draw_subsets(self.objective, self.samples, self.steps, self.seed, *self.indices)
        for subset in drawn:
            h, _ = make_consistent(subset, gradient, origin)
            theta = theta - self.learning_rate * evaluate_point(h, theta).gradient
        return Correction(theta, float("nan"))


class MLVR(Solver[MLVRState]):
    """One iteration is one cycle; its cost is counted in effective gradient evaluations."""

    names = ("mlvr",)
    Options = MLVROptions
    needs = frozenset({Need.SUBSETS})

    def __init__(self, setting: Setting, options: MLVROptions) -> None:
        super().__init__(setting, options)
        self._sizes = find_level_sizes(options, setting.objective.samples)

    def init(self, theta: Tensor) -> MLVRState:
        with self.setting.timer.phase("global"):
            point = evaluate_point(self.setting.objective, theta)
            return MLVRState(point, [SecantPairs() for _ in range(self.options.levels)])

    def step(self, state: MLVRState) -> tuple[MLVRState, Record]:
        L, old = self.setting.objective, state.point
        before = self.setting.counts.effective_evaluations
        with self.setting.timer.phase("global"):
            finest, coarser = self._make_levels(state)
            begin = coarser[0]
            if state.iteration == 0 and self.options.cascade and isinstance(begin, Level):
                old = evaluate_point(L, begin.cascade(old.theta))
            start = LevelState(old, memory=state.pairs[0])
            end = finest.cycle(L, start, self.options.cycle, Room(old.theta))
        new = end.point
        spent = self.setting.counts.effective_evaluations - before
        length = norm(new.theta - old.theta)
        outcome = Outcome.ACCEPTED if length else Outcome.NO_CHANGE_BY_CYCLE
        record = Record(new.loss, norm(new.gradient), length, spent, 1, outcome)
        pairs = [end.memory, *(level.memory for level in coarser)]
        return MLVRState(new, pairs, state.iteration + 1), record

    def _make_levels(self, state: MLVRState) -> tuple[Level, list[Level | FreshSteps]]:
        """The finest level of this cycle, and the coarser ones, the coarsest last."""
        o, L = self.options, self.setting.objective
        draw = 0 if o.resample == "never" else state.iteration
        subsets = draw_nested_subsets(self.setting.seed, L.samples, self._sizes, draw)
        # Pairs of other samples than a level's say little of its Hessian.
        pairs = state.pairs
        if o.resample != "never":
            pairs = [pairs[0], *(SecantPairs() for _ in subsets)]
        smoother = _make_level_solver(o.smoother, o, 0.0)
        smoothing = (o.pre_smoothing, o.post_smoothing)
        control = LineSearchControl(o.line_search) if o.control == "line-search" else NoControl()
        levels = [self._make_coarsest(subsets[-1], pairs[-1], state.iteration)]
        for subset, memory in reversed([*zip(subsets[:-1], pairs[1:-1], strict=True)]):
            L_l = self._take_subset(subset)
            levels.insert(0, Level(L_l, smoother, smoothing, levels[0], control, memory=memory))
        return Level(L, smoother, smoothing, levels[0], control), levels

    def _make_coarsest(
        self, subset: Tensor, pairs: SecantPairs, iteration: int
    ) -> Level | FreshSteps:
        o, L, seed = self.options, self.setting.objective, self.setting.seed
        if o.resample == "step":
            assert o.learning_rate is not None, "the options are checked"
            samples, steps = len(subset), o.coarse_steps
            return FreshSteps(L, samples, steps, o.learning_rate, seed, (iteration,), pairs)
        solver = _make_level_solver(o.coarse_solver, o, o.coarse_tolerance)
        return Level(self._take_subset(subset), solver, (o.coarse_steps, 0), memory=pairs)

    def _take_subset(self, subset: Tensor) -> Objective:
        L = self.setting.objective
        return L if len(subset) == L.samples else L.subset(subset)

    def describe(self) -> list[str]:
        o, finest = self.options, self.setting.objective.samples
        sizes = " > ".join(str(size) for size in (finest, *self._sizes))
        steps = f"learning rate {o.learning_rate:g}" if o.learning_rate else "line searches"
        return [
            f"multilevel variance reduction, {o.levels} levels of {sizes} samples,"
            f" drawn anew: {o.resample}",
            f"{o.cycle}-cycle, {o.pre_smoothing} + {o.post_smoothing} smoothing steps by"
            f" {o.smoother}, {o.coarse_steps} coarse ones by {o.coarse_solver}, {steps},"
            f" corrections controlled by {o.control}",
        ]


def _make_level_solver(method: Method, options: MLVROptions, tolerance: float) -> LevelSolver:
    o = options
    if method == "lbfgs":
        return LBFGSSteps(o.memory, LineSearchOptions(), tolerance)
    newton = method == "newton"
    direction = (
        make_newton_direction(o.cg_iterations, o.cg_tolerance) if newton else negate_gradient
    )
    search = o.line_search if o.learning_rate is None else None
    return DirectionSteps(direction, StepRule(o.learning_rate or 1.0, search), tolerance)
