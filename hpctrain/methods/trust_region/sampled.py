"""Trust-region steps whose L, g and B are each of all samples, or of some.

    g, B at θ;   s ≈ argmin m(s), ‖s‖ ≤ Δ;   θ ← θ + s if ρ ≥ η₁;   Δ follows ρ;   B learns from s

`Functions` say what L, g and B of a step are of: `Exact`, `SampledHessian`, `SampledDerivatives`,
or `Sampled` altogether. `Sampling` says which samples these are, step by step.

Sources: Nocedal and Wright, Numerical Optimization (2006), algorithm 6.2 (SR1); those of the
sampling variants are in `solvers.trust_region`.
"""

from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor

from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.quasi_newton.lsr1 import LSR1
from hpctrain.methods.trust_region.control import slide_window
from hpctrain.methods.trust_region.models import Evaluate, Model
from hpctrain.methods.trust_region.step import TrialRule
from hpctrain.objective import Evaluation, Point, Smooth, complete_point, evaluate_point


@dataclass
class TrustRegionState:
    """θ, the radius Δ of the next step, the pairs of L-SR1, and how the last step went.

    Attributes:
        step_length: ‖s‖ of the last step; 0 if it was refused.
        gradients: evaluated for the last step, of the function that g is of.
        outcome: of the last step.
        window: how far the losses of the last W - 1 points lie above the present one.
        iteration: steps so far.
        sample_size: of the next step, where samples grow.
    """

    point: Point
    radius: float
    memory: LSR1 = field(default_factory=LSR1)
    step_length: float = 0.0
    gradients: int = 0
    outcome: Outcome = Outcome.ACCEPTED
    window: list[float] = field(default_factory=list)
    iteration: int = 0
    sample_size: int = 0


class Functions(Protocol):
    """Where L, g and B of one step come from."""

    @property
    def curvature(self) -> Smooth:
        """What B is of."""

    def start(self, point: Point) -> Point:
        """θ with the L and the g of this step, from where the last step ended."""

    def choose_evaluation(self, model: Model) -> Evaluate:
        """How L is evaluated at the trial."""

    def change(self, start: Point, trial: Evaluation) -> Tensor:
        """y (n,), the change of the gradient of what B is of."""

    def reach(self, start: Point, trial: Evaluation) -> Point:
        """The point at a trial that is taken."""

    def count_gradients(self, model: Model, accepted: bool) -> int:
        """Gradients that a step has evaluated of what g is of."""

    def qualify(self, outcome: Outcome) -> Outcome:
        """What an outcome of the step means for the method."""


@dataclass(frozen=True)
class Exact:
    """L, g and B of one function, whose value and gradient are known from the last step."""

    curvature: Smooth

    def start(self, point: Point) -> Point:
        return point

    def choose_evaluation(self, model: Model) -> Evaluate:
        return model.choose_evaluation(self.curvature, gradient_likely=False)

    def change(self, start: Point, trial: Evaluation) -> Tensor:
        return trial.evaluate_gradient() - start.gradient

    def reach(self, start: Point, trial: Evaluation) -> Point:
        return complete_point(trial)

    def count_gradients(self, model: Model, accepted: bool) -> int:
        return int(model.learns or accepted)

    def qualify(self, outcome: Outcome) -> Outcome:
        return outcome


@dataclass(frozen=True)
class SampledHessian:
    """B of a sample; L and g of all samples are known from the last step."""

    whole: Smooth
    curvature: Smooth

    def start(self, point: Point) -> Point:
        return point

    def choose_evaluation(self, model: Model) -> Evaluate:
        return self.whole.evaluate

    def change(self, start: Point, trial: Evaluation) -> Tensor:
        after = evaluate_point(self.curvature, trial.theta).gradient
        return after - evaluate_point(self.curvature, start.theta).gradient

    def reach(self, start: Point, trial: Evaluation) -> Point:
        return complete_point(trial)

    def count_gradients(self, model: Model, accepted: bool) -> int:
        return int(accepted)

    def qualify(self, outcome: Outcome) -> Outcome:
        return outcome.take_samples()


@dataclass(frozen=True)
class SampledDerivatives:
    """g and B of a sample; L of all samples is known from the last step.

    The point at a trial has the gradient of the model that led there: the next one has its own.
    """

    whole: Smooth
    curvature: Smooth

    def start(self, point: Point) -> Point:
        return replace(point, gradient=evaluate_point(self.curvature, point.theta).gradient)

    def choose_evaluation(self, model: Model) -> Evaluate:
        return self.whole.evaluate

    def change(self, start: Point, trial: Evaluation) -> Tensor:
        return evaluate_point(self.curvature, trial.theta).gradient - start.gradient

    def reach(self, start: Point, trial: Evaluation) -> Point:
        return Point(trial.theta, trial.loss, start.gradient)

    def count_gradients(self, model: Model, accepted: bool) -> int:
        return 1

    def qualify(self, outcome: Outcome) -> Outcome:
        return outcome.take_samples()


@dataclass(frozen=True)
class Sampled:
    """L, g and B of the samples of this step.

    The point at a trial has the gradient of the model that led there: the next one has its own.
    """

    curvature: Smooth

    def start(self, point: Point) -> Point:
        return evaluate_point(self.curvature, point.theta)

    def choose_evaluation(self, model: Model) -> Evaluate:
        return model.choose_evaluation(self.curvature, gradient_likely=False)

    def change(self, start: Point, trial: Evaluation) -> Tensor:
        return trial.evaluate_gradient() - start.gradient

    def reach(self, start: Point, trial: Evaluation) -> Point:
        return Point(trial.theta, trial.loss, start.gradient)

    def count_gradients(self, model: Model, accepted: bool) -> int:
        return 1 + model.learns

    def qualify(self, outcome: Outcome) -> Outcome:
        return outcome.take_samples()


def make_step(
    functions: Functions, state: TrustRegionState, rule: TrialRule, window: int = 1
) -> TrustRegionState:
    """One trial step; where it is refused θ stays. Collective.

    Args:
        functions: what L, g and B are of.
        state: where the step starts.
        rule: of the step.
        window: W of a nonmonotone acceptance, 1 for a monotone one.
    """
    f, model = functions, rule.model
    start = f.start(state.point)
    B = model.make_curvature(f.curvature, start.theta, state.memory)
    tried = rule.attempt(f.choose_evaluation(model), start, B, state.radius, state.window)
    new = replace(
        state,
        point=start,
        radius=tried.radius,
        memory=model.learn(state.memory, tried.step, lambda: f.change(start, tried.trial)),
        step_length=0.0,
        gradients=f.count_gradients(model, tried.accepted),
        outcome=f.qualify(tried.outcome),
        iteration=state.iteration + 1,
    )
    if not tried.accepted:
        return new
    return replace(
        new,
        point=f.reach(start, tried.trial),
        step_length=tried.length,
        window=slide_window(state.window, start.loss - tried.trial.loss, window),
    )
