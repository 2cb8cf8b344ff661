"""The damping of Gauss-Newton steps, controlled by the ratio of decreases.

    ρ = (L(θ) - L(θ + s)) / (m(0) - m(s)),

    λ ← λ max(c, 1 - (2ρ - 1)³) after a step taken, c = min(1/3, L(θ + s) / L(θ)),
    λ ← νλ, ν ← 2ν after each that was not, ν = 2 at first.

Nielsen's rule has c = 1/3. Where the model holds and the loss falls faster than that, so may λ:
with λ in proportion to the loss steps converge quadratically to a residual of zero.

There the same J serves for more than one step: after one that brought the loss down to a hundredth
others follow from where it led to, with λ reduced as the loss was, as long as each does as much.

No step is looked for where the model promises less than rounding errors can show: three times the
change of L by the last bits of θ.

Or with delay: as for ρ = 1 after any step taken, λ ← 1.5 λ after each that was not. The damping
then stays at the edge of what still lowers the loss, and more values of it are tried.

Sources: Nielsen, Damping parameter in Marquardt's method, IMM-REP-1999-05 (1999); Yamashita,
Fukushima, On the rate of convergence of the Levenberg-Marquardt method, Computing Supplement 15
(2001); Transtrum and Sethna, arXiv 1201.5885 (2012), section 2.3 (delayed gratification);
steps with one J: Kelley, Iterative Methods for Linear and Nonlinear Equations (1995), section 5.4
(Shamanskii's method).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import sqrt

import torch
from pydantic import Field, model_validator
from torch import Tensor

from hpctrain.objective import Evaluation, Point, Smooth, complete_point
from hpctrain.options import Options

# Parts of the loss: a decrease for which no more damping is tried, one that may be rounding, and a
# loss after a step whose J serves for another one.
NEGLIGIBLE, SMALL, FALLEN = 1e-10, 0.1, 1e-2
# A decrease is lost in rounding errors below so many changes of L by the last bits of θ.
CHANGES = 3


class DampingOptions(Options):
    """Control of λ by the ratio of decreases, shared by the methods that damp."""

    damping: float = Field(1e-2, gt=0, description="λ at the start, beside (2/N) JᵀJ")
    least_damping: float = Field(1e-20, gt=0, description="λ is not made smaller")
    greatest_damping: float = Field(1e6, gt=0, description="λ beyond which no step is looked for")
    accept: float = Field(1e-4, ge=0, lt=1, description="a step is taken if ρ is above")

    @model_validator(mode="after")
    def _order_limits(self) -> "DampingOptions":
        if not self.least_damping <= self.damping <= self.greatest_damping:
            raise ValueError("least_damping <= damping <= greatest_damping must hold")
        return self

    def grow(self, damping: float, refusals: int) -> float:
        """λ after the k-th step in a row that was not taken, k = `refusals`."""
        return damping * 2.0**refusals

    def ease(self, damping: float, rho: float, decrease: float) -> float:
        """λ after a step that was taken.

        Args:
            rho: its ratio.
            decrease: L(θ + s) / L(θ).
        """
        cube = (2 * min(rho, 1.0) - 1) ** 3  # of a huge ρ it would overflow
        least = min(1 / 3, decrease)
        return max(damping * max(least, 1 - cube), self.least_damping)


@dataclass(frozen=True)
class Proposal:
    """A step s (n,) and the decrease m(0) - m(s) of the undamped model; None that is no step."""

    step: Tensor | None
    predicted: float


@dataclass(frozen=True)
class Damped:
    """The point that a step s (n,) led to, and λ for the next one."""

    point: Point
    step: Tensor
    damping: float


@dataclass(frozen=True)
class DampingSearch:
    """Looks for a λ whose step lowers the loss enough.

    Attributes:
        objective: L.
        point: where the steps start.
        options: of the control.
        propose: the step for one λ; None where there is none.
        extend: a further step d (n,) for one λ from θ + s, with J at θ; None where there is none.
    """

    objective: Smooth
    point: Point
    options: DampingOptions
    propose: Callable[[float], Proposal | None]
    extend: Callable[[float, Tensor], Tensor | None] = lambda _damping, _step: None

    def find(self, damping: float) -> Damped | None:
        """Damps more and more, from `damping`.

        None if no λ will do, up to the greatest one or to where the model promises nothing.
        """
        taken = self._take_step(damping)
        return None if taken is None else self._complete(taken)

    def find_first(self, damping: float) -> Damped | None:
        """Damps less and less too, where `damping` will do and the loss falls further.

        The right λ for a first step may be orders below the given one. To try tenths of it, or as
        much less as the loss fell, in one iteration costs less than to come there by later steps.
        Where that is too little, what lies between is tried.
        """
        best = self._take_step(damping)
        if best is None:
            return None
        found: _Taken | None = best
        while found is not None and found.damping <= damping:
            best = found
            fallen = best.evaluation.loss / self.point.loss
            found = self._find_below(best, best.damping * min(0.1, fallen))
        return self._complete(best)

    def _find_below(self, best: "_Taken", damping: float) -> "_Taken | None":
        """A step of less loss by a λ from `damping` up to a tenth of that of the best one."""
        damping = max(damping, self.options.least_damping)
        while damping <= 0.1 * best.damping:
            less = self._try_step(damping, self.propose(damping))
            if less is not None and less.evaluation.loss < best.evaluation.loss:
                return less
            damping = sqrt(damping * best.damping)
        return None

    def _take_step(self, damping: float) -> "_Taken | None":
        refusals = 0
        while damping <= self.options.greatest_damping:
            proposal = self.propose(damping)
            if proposal is not None and self._is_in_vain(proposal.predicted, refusals):
                return None
            taken = self._try_step(damping, proposal)
            if taken is not None:
                return taken
            refusals += 1
            damping = self.options.grow(damping, refusals)
        return None

    def _is_in_vain(self, predicted: float, refusals: int) -> bool:
        """Whether no step is worth a trial; more damping promises less."""
        if not 0 < predicted <= SMALL * self.point.loss:
            return False
        if refusals and predicted <= NEGLIGIBLE * self.point.loss:
            return True
        return predicted <= CHANGES * self._change_by_rounding

    @cached_property
    def _change_by_rounding(self) -> float:
        """How much L changes with the last bits of θ."""
        theta = self.point.theta
        nearest = torch.nextafter(theta, torch.full_like(theta, torch.inf))
        return abs(self.objective.evaluate(nearest).loss - self.point.loss)

    def _try_step(self, damping: float, proposal: Proposal | None) -> "_Taken | None":
        if proposal is None or proposal.step is None or not proposal.predicted > 0:
            return None
        trial = self.objective.evaluate(self.point.theta + proposal.step)
        rho = (self.point.loss - trial.loss) / proposal.predicted
        if trial.loss < self.point.loss and rho > self.options.accept:
            return _Taken(trial, proposal.step, damping, rho)
        return None

    def _complete(self, taken: "_Taken") -> Damped:
        before, after = self.point.loss, taken
        while after.evaluation.loss <= FALLEN * before:
            further = self._extend(after, after.evaluation.loss / before)
            if further is None:
                break
            before, after = after.evaluation.loss, further
        decrease = after.evaluation.loss / before
        damping = self.options.ease(after.damping, after.rho, decrease)
        return Damped(complete_point(after.evaluation), after.step, damping)

    def _extend(self, taken: "_Taken", decrease: float) -> "_Taken | None":
        damping = max(taken.damping * decrease, self.options.least_damping)
        d = self.extend(damping, taken.step)
        if d is None:
            return None
        trial = self.objective.evaluate(self.point.theta + taken.step + d)
        if not trial.loss < taken.evaluation.loss:  # NaN too
            return None
        return _Taken(trial, taken.step + d, damping, taken.rho)


@dataclass(frozen=True)
class _Taken:
    """A step s (n,) that lowers the loss enough, its λ, and its ratio of decreases."""

    evaluation: Evaluation
    step: Tensor
    damping: float
    rho: float
