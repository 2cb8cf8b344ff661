"""The optimisers: each a solver of `hpctrain.solvers`, whose options it takes as keywords."""

from collections.abc import Mapping
from typing import Any

from hpctrain.solvers import apts_weights, quasi_newton, trust_region
from hpctrain.torch.optimizer import SolverOptimizer


class LBFGS(SolverOptimizer):
    """L-BFGS with momentum and a strong Wolfe line search: `memory`, `momentum`, `line_search`."""

    solver_class = quasi_newton.LBFGS
    solver_name = "lbfgs"


class SSBFGS(SolverOptimizer):
    """Self-scaled BFGS with the whole inverse Hessian: `memory`, `line_search`."""

    solver_class = quasi_newton.SelfScaled
    solver_name = "ssbfgs"


class SSBroyden(SolverOptimizer):
    """Self-scaled Broyden with the whole inverse Hessian: `memory`, `line_search`."""

    solver_class = quasi_newton.SelfScaled
    solver_name = "ssbroyden"


class TrustRegion(SolverOptimizer):
    """A trust region with an L-SR1 or a linear model: `model`, `memory`, `trust_region` …"""

    solver_class = trust_region.TrustRegion
    solver_name = "trust-region"


class APTS(SolverOptimizer):
    """APTS in weights: a block of parameters is a group, or consists of consecutive tensors.

    `blocks` is the number of groups by default, and 2 where there is one group. A local step of a
    block calls the closure once, as it knows no layers: what the method saves by sweeping a part of
    the network only, it does not save here. Nor do ranks have blocks of their own: each has other
    samples, so that all of them work on one block after the other.
    """

    solver_class = apts_weights.APTSWeights
    solver_name = "apts-weights"
    takes_groups = True

    def _complete_options(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        groups = len(self.param_groups)
        return {"blocks": groups, **given} if groups > 1 else given
