"""Trust-region steps whose L, g and B are each of all samples, or of some.

Sources: Nocedal and Wright, Numerical Optimization (2006), algorithm 6.2 (SR1); those of the
sampling variants are in `solvers.trust_region`.
"""

from dataclasses import dataclass, field, replace

from torch import Tensor

from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.quasi_newton.lsr1 import LSR1
from hpctrain.methods.trust_region.control import slid
from hpctrain.methods.trust_region.step import ModelOptions, attempt_step, curvature, learnt
from hpctrain.objective import Evaluation, Point, Smooth, evaluate, point_of


@dataclass
class TrustRegionState:
    """θ, the radius Δ of the next step, the pairs of L-SR1, and how the last step went.

    Attributes:
        step_length: ‖s‖ of the last step; 0 if it was rejected.
        gradients: evaluated for the last step.
        outcome: of the last step.
        window: how far the last W - 1 points lie above this one, of a nonmonotone acceptance.
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


@dataclass(frozen=True)
class Functions:
    """Where L, g and B of a step come from; L and g of all samples are known from the last one."""

    loss: Smooth
    gradient: Smooth
    curvature: Smooth
    known: bool = True


def trust_region_step(
    objective: Smooth, state: TrustRegionState, options: ModelOptions
) -> TrustRegionState:
    """One trial step from a point whose gradient is known; where it is rejected θ stays.

    The linear and the Hessian model evaluate the loss of a trial first, and its gradient only if
    the step is accepted. L-SR1 evaluates both in one pass: B learns from rejected steps too, where
    it was wrong, and they would be repeated if it did not.
    """
    return sampled_step(Functions(objective, objective, objective), state, options)


def sampled_step(
    functions: Functions, state: TrustRegionState, options: ModelOptions
) -> TrustRegionState:
    """`trust_region_step` with L, g and B each from its own function.

    Where these are of this step only, the new point's gradient is the model's at the old one.
    """
    f, old, learns = functions, state.point, options.model == "lsr1"
    if not f.known:
        model = evaluate(f.gradient, old.theta)
        loss = model.loss if f.loss is f.gradient else old.loss
        old = Point(old.theta, loss, model.gradient)
    at_once = learns and f.curvature is f.loss
    B = curvature(f.curvature, old.theta, state.memory, options)
    tried = attempt_step(f.loss, old, B, state.radius, options, at_once, state.window)

    memory = state.memory
    if learns:
        memory = learnt(memory, tried.step, _gradient_change(f, old, tried.trial), options)
    new, window = old, state.window
    if tried.accepted:
        new = point_of(tried.trial) if f.known else _moved(old, tried.trial)
        window = slid(window, old.loss - new.loss, options.window)
    return replace(
        state,
        point=new,
        radius=tried.radius,
        memory=memory,
        step_length=tried.length if tried.accepted else 0.0,
        gradients=int(not f.known) + int(at_once or (f.known and tried.accepted)),
        outcome=tried.outcome,
        window=window,
        iteration=state.iteration + 1,
    )


def _gradient_change(f: Functions, old: Point, trial: Evaluation) -> Tensor:
    """y (n,) of the function that B is of."""
    if f.curvature is f.loss:
        return trial.evaluate_gradient() - old.gradient
    before = old if f.curvature is f.gradient else evaluate(f.curvature, old.theta)
    return evaluate(f.curvature, trial.theta).gradient - before.gradient


def _moved(old: Point, trial: Evaluation) -> Point:
    return Point(trial.theta, trial.loss, old.gradient)
