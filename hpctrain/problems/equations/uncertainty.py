"""Standard errors of unknowns, from the Jacobian of all residuals at the end of a run.

Near a minimum the unknowns τ and the parameters of the network are estimates by least squares
with the covariance s² (JᵀJ)⁻¹. The rows of J are scaled as in the loss, and s² = Σr²/(N - q) is
over the N scaled rows of measurements, so that their own errors set the scale, for q unknowns;
without measurements over all rows. Tables of measurements may differ in it, by their numbers of
rows and weights: of those the covariance is (JᵀJ)⁻¹ (Σ_t s_t² J_tᵀJ_t) (JᵀJ)⁻¹, where s_t² is
N/(N - q) times the mean of r² over the table, with s² for all other rows. An unknown p = p(τ) has
the standard error |dp/dτ| times the root of its diagonal element, and an interval by Student's
distribution of N - q degrees of freedom. What the network takes of the noise is not counted in q:
the residuals of the equations, which bind it, have to weigh enough.

Sources: G. A. F. Seber, C. J. Wild, Nonlinear Regression (1989), section 2.1; for rows that scatter
unequally H. White, Econometrica 48 (1980), with the factor of J. G. MacKinnon, H. White, Journal of
Econometrics 29 (1985).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from scipy.special import stdtrit
from torch import Tensor

from hpctrain.objective import Objective
from hpctrain.problems.equations.unknowns import Unknown

CONFIDENCE = 0.95
# Parameters up to which the matrix is factored for this.
MOST_PARAMETERS = 6000
# JᵀJ is often singular to rounding: the first of these parts of its largest diagonal element that
# lets it be factored is added.
SHIFTS = (1e-14, 1e-13, 1e-12, 1e-11, 1e-10)
# An unknown is not found where the other parameters take so much of its own curvature away.
REDUCED = 1e8
# Nor where what was added makes this part of the curvature that is left.
FROM_RIDGE = 0.1


@dataclass(frozen=True)
class Uncertainty:
    """Of one unknown.

    Attributes:
        standard_error: of its value.
        freedom: N - q, the degrees of freedom of the scale.
        is_identified: whether the residuals determine it.
    """

    standard_error: float
    freedom: int
    is_identified: bool

    @property
    def interval(self) -> float:
        """Half of the width of the 95 % confidence interval."""
        return float(stdtrit(self.freedom, (1 + CONFIDENCE) / 2)) * self.standard_error


@dataclass(frozen=True)
class Spread:
    """How the scaled rows of T terms scatter: those of measurements, or all where there are none.

    Attributes:
        squares: Σ r² over the rows of each term (T,).
        rows: how many each has.
        unknowns: q.
        sum_changes: p (n,) ↦ ‖J_t p‖² of each term (T,), collective; None where all scatter alike.
    """

    squares: Tensor
    rows: Sequence[int]
    unknowns: int
    sum_changes: Callable[[Tensor], Tensor] | None

    @property
    def freedom(self) -> int:
        """N - q."""
        return sum(self.rows) - self.unknowns

    @property
    def pooled(self) -> float:
        """s², of all of them."""
        return float(self.squares.sum()) / self.freedom

    def find_variance(self, p: Tensor, inverse: float) -> float:
        """pᵀ (Σ_t s_t² J_tᵀJ_t + s² Σ_others JᵀJ) p for p = (JᵀJ)⁻¹ e; collective.

        Args:
            p: (n,).
            inverse: pᵀ JᵀJ p = (JᵀJ)⁻¹_ττ.
        """
        if self.sum_changes is None or len(self.rows) == 1:
            return self.pooled * inverse
        less = sum(self.rows) / self.freedom
        own = [
            less * each / n - self.pooled for each, n in zip(self.squares, self.rows, strict=True)
        ]
        changes = self.sum_changes(p)
        more = math.fsum(float(s * change) for s, change in zip(own, changes, strict=True))
        return max(self.pooled * inverse + more, 0.0)


def estimate(
    objective: Objective, unknowns: Mapping[str, Unknown], spread: Spread, theta: Tensor
) -> dict[str, Uncertainty]:
    """The uncertainties of the unknowns, the last parameters in θ (n,); collective.

    Nothing is known where θ is longer than `MOST_PARAMETERS`, JᵀJ cannot be factored, or there are
    no more measurements than unknowns.

    Args:
        objective: the whole loss; no work is counted.
        spread: of the rows that set the scale.
    """
    if len(theta) > MOST_PARAMETERS or spread.freedom < 1:
        return {}
    objective = objective.copy_uncounted()
    G = objective.residuals.assemble_gauss_newton(theta)
    largest = G.find_largest()
    factored = ((s * largest, G.factorise(s * largest)) for s in SHIFTS)
    ridge, factor = next(((s, f) for s, f in factored if f is not None), (0.0, None))
    if factor is None:
        return {}
    found, unit = dict[str, Uncertainty](), 2 / objective.samples  # G = unit · JᵀJ
    for place, (name, unknown) in enumerate(unknowns.items(), start=len(theta) - len(unknowns)):
        e = torch.zeros_like(theta)
        e[place] = 1
        z = factor.solve(e)
        inverse = float(z[place])
        curvature = float(objective.residuals.multiply_gauss_newton(theta, e)[place])
        error = math.sqrt(spread.find_variance(unit * z, unit * inverse))
        slope = abs(unknown.slope(float(theta[place])))
        is_identified = inverse * curvature < REDUCED and inverse * ridge < FROM_RIDGE
        found[name] = Uncertainty(slope * error, spread.freedom, is_identified)
    return found
