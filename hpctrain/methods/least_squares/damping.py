"""The damping of Gauss-Newton steps, controlled by the ratio of decreases.

    ρ = (L(θ) - L(θ + s)) / (m(0) - m(s)),

    λ ← λ max(c, 1 - (2ρ - 1)³) after a step taken, c = min(1/3, L(θ + s) / L(θ)),
    λ ← νλ, ν ← 2ν after each that was not, ν = 2 at first.

Nielsen's rule has c = 1/3. Where the model holds and the loss falls faster than that, so may λ:
with λ in proportion to the loss steps converge quadratically to a residual of zero.

Or with delay: as for ρ = 1 after any step taken, λ ← 1.5 λ after each that was not. The damping
then stays at the edge of what still lowers the loss, and more values of it are tried.

Sources: Nielsen, Damping parameter in Marquardt's method, IMM-REP-1999-05 (1999); Yamashita,
Fukushima, On the rate of convergence of the Levenberg-Marquardt method, Computing Supplement 15
(2001); Transtrum and Sethna, arXiv 1201.5885 (2012), section 2.3 (delayed gratification).
"""

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import Field
from torch import Tensor

from hpctrain.objective import Evaluation, Point, Smooth, complete_point
from hpctrain.options import Options

# A part of the loss for which no more damping is tried.
NEGLIGIBLE = 1e-10


class DampingOptions(Options):
    """Control of λ by the ratio of decreases, shared by the methods that damp."""

    damping: float = Field(1e-2, gt=0, description="λ at the start, beside (2/N) JᵀJ")
    least_damping: float = Field(1e-20, gt=0, description="λ is not made smaller")
    greatest_damping: float = Field(1e6, gt=0, description="λ beyond which no step is looked for")
    accept: float = Field(1e-4, ge=0, lt=1, description="a step is taken if ρ is above")

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
    """

    objective: Smooth
    point: Point
    options: DampingOptions
    propose: Callable[[float], Proposal | None]

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
        """
        best = self._take_step(damping)
        if best is None:
            return None
        while best.damping <= damping:
            fallen = best.evaluation.loss / self.point.loss
            smaller = best.damping * min(0.1, fallen)
            if smaller < self.options.least_damping:
                break
            less = self._try_step(smaller, self.propose(smaller))
            if less is None or less.evaluation.loss >= best.evaluation.loss:
                break
            best = less
        return self._complete(best)

    def _take_step(self, damping: float) -> "_Taken | None":
        refusals = 0
        while damping <= self.options.greatest_damping:
            proposal = self.propose(damping)
            taken = self._try_step(damping, proposal)
            if taken is not None:
                return taken
            predicted = 0.0 if proposal is None else proposal.predicted
            if refusals and 0 < predicted <= NEGLIGIBLE * self.point.loss:
                return None  # less damping was refused, and more promises less
            refusals += 1
            damping = self.options.grow(damping, refusals)
        return None

    def _try_step(self, damping: float, proposal: Proposal | None) -> "_Taken | None":
        if proposal is None or proposal.step is None or not proposal.predicted > 0:
            return None
        trial = self.objective.evaluate(self.point.theta + proposal.step)
        rho = (self.point.loss - trial.loss) / proposal.predicted
        if trial.loss < self.point.loss and rho > self.options.accept:
            return _Taken(trial, proposal.step, damping, rho)
        return None

    def _complete(self, taken: "_Taken") -> Damped:
        damping = self.options.ease(
            taken.damping, taken.rho, taken.evaluation.loss / self.point.loss
        )
        return Damped(complete_point(taken.evaluation), taken.step, damping)


@dataclass(frozen=True)
class _Taken:
    """A step s (n,) that lowers the loss enough, its λ, and its ratio of decreases."""

    evaluation: Evaluation
    step: Tensor
    damping: float
    rho: float
