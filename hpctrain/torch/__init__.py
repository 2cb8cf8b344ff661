"""Solvers as optimisers of torch: `optimizer.step(closure)` in a training loop of one's own.

A closure zeroes the gradients, computes the loss, calls `backward` and returns the loss, as for
`torch.optim.LBFGS`. A step evaluates it as often as the method needs, makes up to `max_iter`
iterations, and returns the loss that it began with. The step lengths are found, so that there is no
`lr`, and a scheduler of it is refused.
"""

from hpctrain.torch.methods import APTS, LBFGS, SSBFGS, SSBroyden, TrustRegion

__all__ = ["APTS", "LBFGS", "SSBFGS", "SSBroyden", "TrustRegion"]
