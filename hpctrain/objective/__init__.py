"""The loss as a function of θ on a group of ranks: evaluated, viewed in parts, counted."""

from hpctrain.objective.corrected import Corrected, consistent
from hpctrain.objective.counts import Counts
from hpctrain.objective.evaluation import Objective
from hpctrain.objective.losses import (
    FiniteSumLoss,
    HalvableLoss,
    LeastSquaresLoss,
    PortableLoss,
    SampledLoss,
    TracedLoss,
)
from hpctrain.objective.sketch import Sketch
from hpctrain.objective.smooth import Evaluation, Point, Smooth, evaluate, point_of
from hpctrain.objective.source import CoarsenableSource, DivisibleSource, LossSource

__all__ = [
    "CoarsenableSource",
    "Corrected",
    "Counts",
    "DivisibleSource",
    "Evaluation",
    "FiniteSumLoss",
    "HalvableLoss",
    "LeastSquaresLoss",
    "LossSource",
    "Objective",
    "Point",
    "PortableLoss",
    "SampledLoss",
    "Sketch",
    "Smooth",
    "TracedLoss",
    "consistent",
    "evaluate",
    "point_of",
]
