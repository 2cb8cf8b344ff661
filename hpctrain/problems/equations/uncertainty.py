"""Standard errors of unknowns, from the Jacobian of all residuals at the end of a run.

Near a minimum the unknowns τ and the parameters of the network are estimates by least squares
with the covariance s² (JᵀJ)⁻¹. The rows of J are scaled as in the loss, and s² is the mean square
of the scaled rows of measurements, so that their own errors set the scale; without measurements
that of all rows. An unknown p = p(τ) has the standard error |dp/dτ| s √((JᵀJ)⁻¹_ττ).

Source: G. A. F. Seber, C. J. Wild, Nonlinear Regression (1989), section 2.1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hpctrain.objective import Objective
from hpctrain.problems.equations.unknowns import Unknown

# Parameters up to which the matrix is factored for this.
MOST_PARAMETERS = 6000
# JᵀJ is often singular to rounding: the first of these parts of its largest diagonal element that
# lets it be factored is added.
SHIFTS = (1e-14, 1e-13, 1e-12, 1e-11, 1e-10)
# An unknown is not found where the other parameters take so much of its own curvature away.
REDUCED = 1e8


@dataclass(frozen=True)
class Uncertainty:
    """Of one unknown.

    Attributes:
        standard_error: of its value.
        is_identified: whether the residuals determine it.
    """

    standard_error: float
    is_identified: bool

    @property
    def interval(self) -> float:
        """Half of the width of the 95 % confidence interval."""
        return 1.96 * self.standard_error


def estimate(
    objective: Objective, unknowns: Mapping[str, Unknown], variance: float, theta: Tensor
) -> dict[str, Uncertainty]:
    """The uncertainties of the unknowns, the last parameters in θ (n,); collective.

    Nothing is known where θ is longer than `MOST_PARAMETERS`, or JᵀJ cannot be factored.

    Args:
        objective: the whole loss; no work is counted.
        variance: s².
    """
    if len(theta) > MOST_PARAMETERS:
        return {}
    objective = objective.copy_uncounted()
    G = objective.residuals.assemble_gauss_newton(theta)
    largest = G.find_largest()
    factor = next((f for s in SHIFTS if (f := G.factorise(s * largest)) is not None), None)
    if factor is None:
        return {}
    found = {}
    for place, (name, unknown) in enumerate(unknowns.items(), start=len(theta) - len(unknowns)):
        e = torch.zeros_like(theta)
        e[place] = 1
        inverse = float(factor.solve(e)[place])
        curvature = float(objective.residuals.multiply_gauss_newton(theta, e)[place])
        error = math.sqrt(variance * inverse * 2 / objective.samples)
        slope = abs(unknown.slope(float(theta[place])))
        found[name] = Uncertainty(slope * error, inverse * curvature < REDUCED)
    return found
