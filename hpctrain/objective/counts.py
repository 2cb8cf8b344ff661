"""The work of evaluations, counted in multiply-adds."""

from dataclasses import dataclass


@dataclass
class Counts:
    """Work done so far, in multiply-adds for one sample, averaged over the full data set.

    Divided by the cost of one evaluation of the full network these are true evaluations: a block's
    gradient, which sweeps a part of the network, counts as that part.
    """

    loss_cost: int
    gradient_cost: int
    loss_work: float = 0
    gradient_work: float = 0
    hvp_work: float = 0

    @property
    def loss_evaluations(self) -> float:
        """Evaluations of the loss alone; a gradient contains its own."""
        return self.loss_work / self.loss_cost

    @property
    def gradient_evaluations(self) -> float:
        return self.gradient_work / self.gradient_cost

    @property
    def hvp_evaluations(self) -> float:
        """Hessian-vector products, in units of one gradient."""
        return self.hvp_work / self.gradient_cost

    @property
    def effective_evaluations(self) -> float:
        """Σ |D_used| / |D| over losses, gradients and Hessian-vector products so far.

        `hvp_evaluations` counts a product as two gradients.
        """
        return self.loss_evaluations + self.gradient_evaluations + 0.5 * self.hvp_evaluations
