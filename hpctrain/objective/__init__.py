"""The loss that solvers minimise: evaluated, restricted, corrected, and its work counted."""

from hpctrain.objective.corrected import Corrected, make_consistent
from hpctrain.objective.counts import Counts
from hpctrain.objective.evaluation import Objective
from hpctrain.objective.losses import (
    FiniteSumLoss,
    LeastSquaresLoss,
    PortableLoss,
    SampledLoss,
    TracedLoss,
)
from hpctrain.objective.sketch import Sketch
from hpctrain.objective.smooth import Evaluation, Point, Smooth, complete_point, evaluate_point
from hpctrain.objective.source import BoundSource, DivisibleSource, LossSource

__all__ = [
    "BoundSource",
    "Corrected",
    "Counts",
    "DivisibleSource",
    "Evaluation",
    "FiniteSumLoss",
    "LeastSquaresLoss",
    "LossSource",
    "Objective",
    "Point",
    "PortableLoss",
    "SampledLoss",
    "Sketch",
    "Smooth",
    "TracedLoss",
    "complete_point",
    "evaluate_point",
    "make_consistent",
]
