"""Residuals linearised at one θ: rows of their Jacobian, and its products with vectors.

    ∂r_ij/∂θ = Σ ∂r_ij/∂u ∂u/∂θ

The sum is over all numbers u of the jets that residual j of sample i reads. torch computes ∂r/∂u,
and the jet kernels compute ∂u/∂θ. Residuals that stay in torch use this.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from operator import add, mul
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor

from hpctrain.kernels.jets import JetEvaluator
from hpctrain.kernels.pointwise import trace
from hpctrain.linalg.arrays import add_in_order

if TYPE_CHECKING:
    from hpctrain.kernels.native import FusedResidual, NativeJets


def is_native(evaluator: JetEvaluator) -> TypeGuard["NativeJets"]:
    """Whether these jets are evaluated by the compiled kernels, which can run residuals as well."""
    from hpctrain.kernels import is_native_available

    if not is_native_available():
        return False
    from hpctrain.kernels.native import NativeJets

    return isinstance(evaluator, NativeJets)


class LinearJets:
    """Computes gradients of linear combinations of the jets of single points.

    Args:
        evaluator: the jets.
    """

    def __init__(self, evaluator: JetEvaluator) -> None:
        self.evaluator = evaluator

    def compute_rows(self, theta: Tensor, weights: Tensor, first: int, last: int) -> Tensor:
        """Computes ∂/∂θ of m linear combinations Σ weights · jets at single points.

        Args:
            theta: θ, with the network's n parameters first.
            weights: (m, components, outputs, N).
            first, last: the points are the k points of the chunks first … last - 1.

        Returns:
            (k, m, n).
        """
        n = self.evaluator.network.parameters
        if is_native(self.evaluator):
            J = _fuse(self.evaluator, weights).evaluate_jacobian(theta[:n], first, last)[:, 1:]
            return J.reshape(-1, len(weights), n)
        part = slice(self.evaluator.bounds[first], self.evaluator.bounds[last])
        self._single.forward(theta, keep=True)
        return torch.stack([self._single.reverse(theta, w)[part] for w in weights], dim=1)

    @cached_property
    def _single(self) -> JetEvaluator:
        """The jets of single points, the gradient of each of which is a row."""
        return self.evaluator.separate()


@dataclass(frozen=True)
class Linearised:
    """The residuals at one θ and their derivatives by the jets and the unknowns.

    There are N samples. Each reads the jets of a group of g points, one point where g = 1.

    Attributes:
        theta: θ (n + q,), the network's parameters and q unknowns.
        r: the m residuals of each sample, (m, N).
        by_jet: ∂r_j/∂u (m, components, outputs, N·g) for the jets u of every point.
        by_unknown: the derivatives by the unknowns, (m, q, N).
        group: g.
        jets: what computes the rows of ∂u/∂θ.
    """

    theta: Tensor
    r: Tensor
    by_jet: Tensor
    by_unknown: Tensor
    group: int
    jets: LinearJets

    def evaluate_jacobian(self, first: int, last: int) -> Tensor:
        """Computes the rows [r, ∂r/∂θ] of some samples, (k·m, 1 + n + q).

        Args:
            first, last: the samples are the k samples of the chunks first … last - 1.
        """
        bounds = self.jets.evaluator.bounds
        part = slice(bounds[first] // self.group, bounds[last] // self.group)
        by_point = self.jets.compute_rows(self.theta, self.by_jet, first, last)
        if self.group > 1:
            by_point = by_point.unflatten(0, (-1, self.group)).sum(1)
        r, by_unknown = self.r[:, part].T[..., None], self.by_unknown[..., part].permute(2, 0, 1)
        return torch.cat([r, by_point, by_unknown], dim=2).flatten(0, 1)

    def multiply_vector(self, v: Tensor) -> Tensor:
        """Computes (∂r/∂θ) v (N·m,) for a vector v (n + q,)."""
        u_dot = self.jets.evaluator.differentiate_along(self.theta, v)
        n = self.jets.evaluator.network.parameters
        by_point = add_in_order((self.by_jet * u_dot).flatten(1, 2), 1)
        by_sample = add_in_order(by_point.unflatten(1, (-1, self.group)), 2)
        by_unknown = add_in_order(self.by_unknown * v[None, n:, None], 1)
        return (by_sample + by_unknown).T.flatten()


def _fuse(jets: "NativeJets", weights: Tensor) -> "FusedResidual":
    """Makes a residual for the compiled kernel whose m values are Σ weights · jets.

    Args:
        weights: (m, components, outputs, N).
    """
    from hpctrain.kernels.native import FusedResidual

    residual, outputs = partial(_sum_weighted, weights), jets.network.outputs
    program = trace(residual, jets.components, jets.points, weights.dtype, outputs)
    return FusedResidual(jets, program, weights.dtype)


def _sum_weighted(weights: Tensor, jet: Sequence[Sequence[Any]], _unknowns: Any) -> list[Any]:
    """Computes Σ weights · jet for each of the m weights (components, outputs, N)."""
    flat = [u for component in jet for u in component]
    return [reduce(add, map(mul, w.flatten(0, 1), flat)) for w in weights]
