"""Counts the work of evaluations, in multiply-adds."""

from dataclasses import dataclass


@dataclass
class Counts:
    """The work done so far, in multiply-adds for one sample, averaged over the full data set.

    A gradient of one block sweeps a part of the network only, and counts as this part. Divided by
    the cost of the full network, work becomes a number of full evaluations.

    Attributes:
        loss_cost, gradient_cost: the cost of the loss of the full network, and of the loss with its
            gradient, in multiply-adds for one sample.
        loss_work: the work of evaluations of the loss alone.
        gradient_work: the work of evaluations of the loss with its gradient.
        hvp_work: the work of products with the Hessian or the Gauss-Newton matrix.
    """

    loss_cost: int
    gradient_cost: int
    loss_work: float = 0
    gradient_work: float = 0
    hvp_work: float = 0

    @property
    def loss_evaluations(self) -> float:
        """The number of evaluations of the loss alone; those with a gradient are not among them."""
        return self.loss_work / self.loss_cost

    @property
    def gradient_evaluations(self) -> float:
        """The number of evaluations of the loss with its gradient."""
        return self.gradient_work / self.gradient_cost

    @property
    def hvp_evaluations(self) -> float:
        """The work of products with the Hessian, in units of one gradient."""
        return self.hvp_work / self.gradient_cost

    @property
    def effective_evaluations(self) -> float:
        """The number of passes over the full data set, Σ |D_used| / |D|.

        A loss, a gradient and a product with the Hessian are one pass each. A product counts as two
        gradients in `hvp_evaluations`, which is therefore halved here.
        """
        return self.loss_evaluations + self.gradient_evaluations + 0.5 * self.hvp_evaluations
