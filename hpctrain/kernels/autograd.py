"""Jets as a torch function of θ, for losses that are written in torch and differentiated by it."""

from typing import Any

import torch
from torch import Tensor

from hpctrain.kernels.jets import JetEvaluator


def evaluate_jets(evaluator: JetEvaluator, theta: Tensor) -> Tensor:
    """Evaluates the jets (components, outputs, N) at θ (n,); torch can differentiate them once.

    An evaluator keeps one evaluation at a time: evaluate, call `backward`, then evaluate again.
    """
    return _Jets.apply(theta, evaluator)


class _Jets(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, theta: Tensor, evaluator: JetEvaluator) -> Tensor:
        ctx.save_for_backward(theta)
        ctx.evaluator = evaluator
        return evaluator.forward(theta, keep=True)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *adjoint: Tensor) -> tuple[Tensor, None]:
        (theta,) = ctx.saved_tensors
        return ctx.evaluator.reverse(theta, adjoint[0]).sum(dim=0), None
