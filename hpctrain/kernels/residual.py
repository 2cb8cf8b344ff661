"""Sums of squared residuals over chunks of samples, with their gradients and their Jacobian.

A residual function reads the jets of a network at a point and q unknown scalars, and returns m
numbers. θ (n + q,) consists of the network's n parameters and the unknowns. The loss of a chunk is
Σ_i Σ_j r_ij², over its samples i and the m residuals j.

`FusedResidual` evaluates a traced residual within the jet kernel, tile by tile, so that jets,
residuals and adjoints stay in cache. `TorchResidual` evaluates the residual in torch, between a
forward and a reverse sweep of the jets over all points. It takes any residual, on any device, and
also residuals whose samples are groups of several points.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from hpctrain.errors import UserCodeError
from hpctrain.kernels.jets import JetEvaluator
from hpctrain.kernels.linearised import Linearised, LinearJets, is_native
from hpctrain.kernels.pointwise import trace
from hpctrain.kernels.program import NotTraceableError
from hpctrain.linalg.arrays import add_in_order, sum_chunks
from hpctrain.user_code.faults import explain, place_of

# Takes numbers of samples (K,); gives the residual at them, and how many it is called for.
Choose = Callable[[Tensor], "tuple[Residual, int]"]
# Takes the jet, jet[c][o] component c (N,) of output o, and the unknowns, a sequence of q scalars;
# gives the m residuals, each (N,).
Residual = Callable[[Any, Any], Sequence[Any]]

OF_GROUPS = "a residual of groups of points"


class ResidualLoss(Protocol):
    """The squared residuals of N samples, summed over each of C chunks.

    `first`, `last` and `activations` choose layers as in `JetEvaluator`. Vectors of residuals
    (N·m,) list the samples in order, with the m residuals of each one after the other.

    Attributes:
        untraced: what the residual does that has no instruction, so that it stays in torch although
            the compiled kernels are there. None where that is not so.
    """

    untraced: str | None

    @property
    def jets(self) -> JetEvaluator:
        """The evaluator of the jets that the residual reads."""

    def evaluate_prefix(self, theta: Tensor, layer: int) -> Tensor:
        """Evaluates the jets that enter a layer, as `JetEvaluator` does, at θ (n + q,)."""

    def sum_losses(self, theta: Tensor, first: int, activations: Tensor | None) -> Tensor:
        """Computes the sums of squares (C,).

        Args:
            theta: θ (n + q,).
            first, activations: the layer to start at, and the jets that enter it.
        """

    def sum_losses_and_gradients(
        self,
        theta: Tensor,
        first: int,
        last: int,
        activations: Tensor | None,
        *,
        unknowns_wanted: bool | None = None,
    ) -> Tensor:
        """Computes the sums of squares, and their gradients by some layers and the unknowns.

        Args:
            theta: θ (n + q,).
            first, last, activations: the layers, and the jets that enter the first one.
            unknowns_wanted: whether the gradient by the unknowns is included. By default it is
                where `last` is the network's last layer.

        Returns:
            (C, 1 + the number of these parameters).
        """

    def evaluate_residuals(self, theta: Tensor) -> Tensor:
        """Computes the residuals (N·m,) of all samples at θ (n + q,)."""

    def regroup(self, bounds: list[int]) -> "ResidualLoss":
        """Makes the loss of the same samples, cut into other chunks."""

    def select(self, chosen: Tensor, bounds: list[int]) -> "ResidualLoss":
        """Makes the loss of some of the samples.

        Args:
            chosen: the numbers of the samples in ascending order.
            bounds: of the new chunks.
        """

    def pull_back(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Computes Jᵀw = Σ_k w_k ∂r_k/∂θ over each chunk, (C, n + q), for weights w (N·m,)."""

    def evaluate_jacobian(self, theta: Tensor, first: int, last: int) -> Tensor:
        """Computes the rows [r, ∂r/∂θ] of some samples, (k·m, 1 + n + q).

        Args:
            theta: θ (n + q,).
            first, last: the samples are the k samples of the chunks first … last - 1.
        """

    def multiply_jacobian(self, theta: Tensor, v: Tensor) -> Tensor:
        """Computes J v (N·m,), J = ∂r/∂θ, for a vector v (n + q,)."""

    def multiply_gauss_newton_chunks(self, theta: Tensor, v: Tensor) -> Tensor:
        """Computes JᵀJ v over each chunk, (C, n + q), for a vector v (n + q,)."""


def make_residual_loss(
    evaluator: JetEvaluator,
    residual: Residual,
    dtype: torch.dtype,
    unknowns: int = 0,
    group: int = 1,
    samples: int | None = None,
    choose: Choose | None = None,
) -> ResidualLoss:
    """Makes the fastest loss that the device, the network and the residual allow.

    Args:
        evaluator: the jets that the residual reads.
        residual: takes the jets and the unknowns, and returns the m residuals.
        dtype: the type of the values.
        unknowns: q.
        group: g, the number of points that a sample consists of. Sample j reads the points
            g·j … g·j + g - 1, and the residual is given jets (components, outputs, g, N).
        samples: the number of samples for which the residual must be called, by default N. Where it
            is larger, the last sample is repeated for the call, and the rest is dropped.
        choose: returns the residual for some samples, and for how many it must be called. `select`
            needs it where the residual stays in torch.
    """
    samples = evaluator.points // group if samples is None else samples
    if not is_native(evaluator):
        return TorchResidual(evaluator, residual, unknowns, group, samples, choose=choose)
    if group > 1:
        return TorchResidual(evaluator, residual, unknowns, group, samples, OF_GROUPS, choose)
    from hpctrain.kernels.native import FusedResidual

    try:
        program = trace(
            residual,
            evaluator.components,
            samples,
            dtype,
            evaluator.network.outputs,
            unknowns,
        )
    except NotTraceableError as error:
        return TorchResidual(evaluator, residual, unknowns, 1, samples, error.operation, choose)
    return FusedResidual(evaluator, program, dtype)


class TorchResidual:
    """A residual that torch evaluates, for all samples at once; see the module.

    Every sample has a copy of the unknowns, so that their gradient is known for each chunk.

    Args:
        evaluator, residual, unknowns, group, samples, choose: as for `make_residual_loss`.
        untraced: why the residual is not traced; see `ResidualLoss`.
    """

    def __init__(
        self,
        evaluator: JetEvaluator,
        residual: Residual,
        unknowns: int = 0,
        group: int = 1,
        samples: int | None = None,
        untraced: str | None = None,
        choose: Choose | None = None,
    ) -> None:
        self._choose = choose
        self.jets = evaluator
        self._residual = residual
        self._unknowns = unknowns
        self._group = group
        self._bounds = [bound // group for bound in evaluator.bounds]
        self._samples = samples
        self._more = 0 if samples is None else samples - self._bounds[-1]
        self.untraced = untraced
        self._linear = LinearJets(evaluator)
        self._kept: Linearised | None = None

    def evaluate_prefix(self, theta: Tensor, layer: int) -> Tensor:
        return self.jets.evaluate_prefix(theta, layer)

    def sum_losses(self, theta: Tensor, first: int, activations: Tensor | None) -> Tensor:
        jets = self.jets.forward(theta, keep=False, first=first, activations=activations)
        with torch.no_grad():
            r = self._evaluate(jets, self._copy_unknowns(theta))
        return self._sum_chunks(add_in_order(r.square(), 0))

    def sum_losses_and_gradients(
        self,
        theta: Tensor,
        first: int,
        last: int,
        activations: Tensor | None,
        *,
        unknowns_wanted: bool | None = None,
    ) -> Tensor:
        jets = self.jets.forward(theta, keep=True, first=first, activations=activations)
        r, by_jet, by_unknown = self._pull_back(theta, jets, lambda r: 2 * r)
        gradients = self.jets.reverse(
            theta, by_jet, first=first, last=last, activations=activations
        )
        parts = [self._sum_chunks(add_in_order(r.square(), 0))[:, None], gradients]
        if self.jets.includes_unknowns(last, unknowns_wanted):
            parts.append(self._sum_chunks(by_unknown).T)
        return torch.cat(parts, dim=1)

    def evaluate_residuals(self, theta: Tensor) -> Tensor:
        with torch.no_grad():
            r = self._evaluate(self.jets.forward(theta, keep=False), self._copy_unknowns(theta))
        return r.T.flatten()

    def regroup(self, bounds: list[int]) -> "TorchResidual":
        jets = self.jets.recut([self._group * bound for bound in bounds])
        return TorchResidual(
            jets,
            self._residual,
            self._unknowns,
            self._group,
            self._samples,
            self.untraced,
            self._choose,
        )

    def select(self, chosen: Tensor, bounds: list[int]) -> "TorchResidual":
        if self._choose is None:
            raise TypeError("a residual in torch is called for all samples, if not told how else")
        g = self._group
        places = (g * chosen[:, None] + torch.arange(g, device=chosen.device)).flatten()
        jets = self.jets.select(places, [g * bound for bound in bounds])
        residual, samples = self._choose(chosen)
        return TorchResidual(jets, residual, self._unknowns, g, samples, self.untraced)

    def pull_back(self, theta: Tensor, weights: Tensor) -> Tensor:
        jets = self.jets.forward(theta, keep=True)
        by_point = weights.reshape(self._bounds[-1], -1).T
        _, by_jet, by_unknown = self._pull_back(theta, jets, lambda _: by_point)
        gradients = self.jets.reverse(theta, by_jet)
        return torch.cat([gradients, self._sum_chunks(by_unknown).T], dim=1)

    def evaluate_jacobian(self, theta: Tensor, first: int, last: int) -> Tensor:
        return self._linearise(theta).evaluate_jacobian(first, last)

    def multiply_jacobian(self, theta: Tensor, v: Tensor) -> Tensor:
        return self._linearise(theta).multiply_vector(v)

    def multiply_gauss_newton_chunks(self, theta: Tensor, v: Tensor) -> Tensor:
        return self.pull_back(theta, self.multiply_jacobian(theta, v))

    def _linearise(self, theta: Tensor) -> Linearised:
        """Returns the linearised residuals at θ, which are kept until it is asked for another θ."""
        if self._kept is None or not torch.equal(self._kept.theta, theta):
            jets = self.jets.forward(theta, keep=False)
            r, leaf, copies = self._record(theta, jets)
            parts = [
                self._differentiate_recorded(each, leaf, copies, torch.ones_like(each))
                for each in r
            ]
            by_jet, by_unknown = (torch.stack(part) for part in zip(*parts, strict=True))
            self._kept = Linearised(
                theta.clone(), r.detach(), by_jet, by_unknown, self._group, self._linear
            )
        return self._kept

    def _pull_back(
        self, theta: Tensor, jets: Tensor, weights: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Computes the residuals r, and the derivatives of Σ w·r by the jets and the unknowns.

        Args:
            theta: θ (n + q,).
            jets: the jets at θ.
            weights: computes w (m, N) from r; the derivatives treat w as constant.

        Returns:
            r (m, N), and the derivatives, in the shape of the jets and (q, N).
        """
        r, leaf, copies = self._record(theta, jets)
        return r.detach(), *self._differentiate_recorded(r, leaf, copies, weights(r.detach()))

    def _record(self, theta: Tensor, jets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluates the residuals with their graph.

        Returns:
            r (m, N), the jets and the samples' copies (q, N) of the unknowns.
        """
        leaf, copies = jets.requires_grad_(), self._copy_unknowns(theta).requires_grad_()
        with torch.enable_grad():
            return self._evaluate(leaf, copies), leaf, copies

    def _differentiate_recorded(
        self, r: Tensor, leaf: Tensor, copies: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Computes the derivatives of Σ weights · r by the jets and by the copies of the unknowns.

        Raises:
            UserCodeError: torch cannot differentiate the residual.
        """
        try:
            by_jet, by_copy = torch.autograd.grad(
                r, (leaf, copies), weights, retain_graph=True, materialize_grads=True
            )
        except (Exception, SystemExit) as error:
            where = explain(error, place_of(self._residual))
            raise UserCodeError(f"the derivative of the residual fails: {where}") from error
        return by_jet, by_copy

    def _evaluate(self, jets: Tensor, copies: Tensor) -> Tensor:
        """Evaluates the residual; returns r (m, N)."""
        if self._group > 1:
            jets = jets.unflatten(2, (-1, self._group)).transpose(2, 3)
        jets, copies = self._lengthen(jets), self._lengthen(copies)
        r = torch.stack(tuple(self._residual(jets, copies.unbind())))
        return r[:, : self._bounds[-1]]

    def _lengthen(self, values: Tensor) -> Tensor:
        """Repeats the last of N values (…, N) for the samples beyond N that the call needs."""
        if not self._more:
            return values
        return torch.cat([values, *[values[..., -1:]] * self._more], dim=-1)

    def _copy_unknowns(self, theta: Tensor) -> Tensor:
        """Copies the unknowns for every sample, (q, N)."""
        first = self.jets.network.parameters
        scalars = theta[first : first + self._unknowns].detach()
        return scalars[:, None].repeat(1, self._bounds[-1])

    def _sum_chunks(self, values: Tensor) -> Tensor:
        """Sums values (…, N) over each chunk, (…, C); the sum over an empty chunk is zero."""
        filled = [c for c, (first, last) in enumerate(pairwise(self._bounds)) if last > first]
        sums = values.new_zeros(*values.shape[:-1], len(self._bounds) - 1)
        if filled:
            starts = [self._bounds[c] for c in filled]
            sums[..., filled] = sum_chunks(values, [*starts, self._bounds[-1]])
        return sums
