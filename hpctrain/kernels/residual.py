"""Sums of squared residuals over chunks of points, and their gradients.

A residual reads the jets of a network's outputs at a point and q unknown scalars, and gives m
numbers. θ (n + q,) holds the network's n parameters and then the unknowns; the loss of a chunk is
Σ_i Σ_j r_ij² over its points i and the m residuals j.

`FusedResidual` runs a traced residual inside the jet kernel, tile by tile, so that nothing leaves
the cache between the jets, the residual and the reverse sweep. `TorchResidual` evaluates it in
torch between two sweeps over all points; it takes any residual, any jets, and residuals that read
the jets of several points.
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
from hpctrain.linalg.arrays import sum_chunks
from hpctrain.user_code.faults import explain, place_of

# Takes numbers of samples (K,); gives the residual at them, and how many it is called for.
Choose = Callable[[Tensor], "tuple[Residual, int]"]
# Takes the jet, jet[c][o] component c (N,) of output o, and the unknowns, a sequence of q scalars;
# gives the m residuals, each (N,).
Residual = Callable[[Any, Any], Sequence[Any]]

OF_GROUPS = "a residual of groups of points"


class ResidualLoss(Protocol):
    """Sums over the C chunks of an evaluator's points of the squared residuals.

    `first`, `last` and `activations` choose layers as in `JetEvaluator`. Residuals are listed point
    by point, the m of each point one after the other.

    Attributes:
        untraced: what of the residual has no instruction, so that it stays in torch although the
            native kernels are there; None where nothing is left to name.
    """

    untraced: str | None

    @property
    def jets(self) -> JetEvaluator:
        """The network's jets at its points."""

    def losses(self, theta: Tensor, first: int, activations: Tensor | None) -> Tensor:
        """The sums (C,)."""

    def losses_and_gradients(
        self,
        theta: Tensor,
        first: int,
        last: int,
        activations: Tensor | None,
        *,
        unknowns_wanted: bool | None = None,
    ) -> Tensor:
        """The sums and their gradients with respect to layers first … last, and the unknowns.

        Args:
            unknowns_wanted: whether those for the unknowns follow; by default where `last` is the
                network's last layer.

        Returns:
            (C, 1 + their number).
        """

    def residuals(self, theta: Tensor) -> Tensor:
        """r (N·m,) at all points."""

    def regroup(self, bounds: list[int]) -> "ResidualLoss":
        """The same at the same points, cut into other chunks."""

    def select(self, chosen: Tensor, bounds: list[int]) -> "ResidualLoss":
        """The same at some of the samples, ascending, cut into other chunks."""

    def weighted_gradients(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Σ_k w_k ∂r_k/∂θ over each chunk, (C, n + q), for weights w (N·m,)."""

    def jacobian(self, theta: Tensor, first: int, last: int) -> Tensor:
        """[r ∂r/∂θ] (k·m, 1 + n + q), rows of the k points of chunks first … last - 1."""

    def jacobian_product(self, theta: Tensor, v: Tensor) -> Tensor:
        """J v (N·m,) along v (n + q,), J = ∂r/∂θ."""

    def multiply_gauss_newton_chunks(self, theta: Tensor, v: Tensor) -> Tensor:
        """Jᵀ J v over each chunk, (C, n + q)."""


def make_residual_loss(
    evaluator: JetEvaluator,
    residual: Residual,
    dtype: torch.dtype,
    unknowns: int = 0,
    group: int = 1,
    samples: int | None = None,
    choose: Choose | None = None,
) -> ResidualLoss:
    """The fastest loss that the evaluator and the residual allow.

    Args:
        unknowns: q.
        group: g > 1 for a residual that reads g points at a time, g·j … g·j + g - 1 of the
            evaluator for sample j; it takes jets (components, outputs, g, N).
        samples: that the residual is called for, by default N; those beyond N repeat the last one,
            and are dropped.
        choose: the residual at some of the samples, for `select`, which needs it where the residual
            stays in torch.
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
    """See the module; the residual may use all of torch, point by point or group by group.

    Each point has a copy (N,) of the unknowns of its own, so that their gradients come by chunk.
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

    def losses(self, theta: Tensor, first: int, activations: Tensor | None) -> Tensor:
        jets = self.jets.forward(theta, keep=False, first=first, activations=activations)
        with torch.no_grad():
            r = self._evaluate(jets, self._copy_unknowns(theta))
        return self._sum_chunks(r.square().sum(0))

    def losses_and_gradients(
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
        parts = [self._sum_chunks(r.square().sum(0))[:, None], gradients]
        if self.jets.includes_unknowns(last, unknowns_wanted):
            parts.append(self._sum_chunks(by_unknown).T)
        return torch.cat(parts, dim=1)

    def residuals(self, theta: Tensor) -> Tensor:
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

    def weighted_gradients(self, theta: Tensor, weights: Tensor) -> Tensor:
        jets = self.jets.forward(theta, keep=True)
        by_point = weights.reshape(self._bounds[-1], -1).T
        _, by_jet, by_unknown = self._pull_back(theta, jets, lambda _: by_point)
        gradients = self.jets.reverse(theta, by_jet)
        return torch.cat([gradients, self._sum_chunks(by_unknown).T], dim=1)

    def jacobian(self, theta: Tensor, first: int, last: int) -> Tensor:
        return self._linearise(theta).jacobian(first, last)

    def jacobian_product(self, theta: Tensor, v: Tensor) -> Tensor:
        return self._linearise(theta).multiply_vector(v)

    def multiply_gauss_newton_chunks(self, theta: Tensor, v: Tensor) -> Tensor:
        return self.weighted_gradients(theta, self.jacobian_product(theta, v))

    def _linearise(self, theta: Tensor) -> Linearised:
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
        """r (m, N) of the network's jets, and the adjoints of these and of the unknowns (q, N).

        Args:
            weights: the adjoint w(r) (m, N) of r.
        """
        r, leaf, copies = self._record(theta, jets)
        return r.detach(), *self._differentiate_recorded(r, leaf, copies, weights(r.detach()))

    def _record(self, theta: Tensor, jets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """r (m, N), with the jets and the copies of unknowns (q, N) that it was recorded from."""
        leaf, copies = jets.requires_grad_(), self._copy_unknowns(theta).requires_grad_()
        with torch.enable_grad():
            return self._evaluate(leaf, copies), leaf, copies

    def _differentiate_recorded(
        self, r: Tensor, leaf: Tensor, copies: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Σ weights · ∂r/∂jets and Σ weights · ∂r/∂copies.

        Raises:
            UserCodeError: torch cannot differentiate the residual here.
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
        """r (m, N)."""
        if self._group > 1:
            jets = jets.unflatten(2, (-1, self._group)).transpose(2, 3)
        jets, copies = self._lengthen(jets), self._lengthen(copies)
        r = torch.stack(tuple(self._residual(jets, copies.unbind())))
        return r[:, : self._bounds[-1]]

    def _lengthen(self, values: Tensor) -> Tensor:
        """(…, N) with the last one repeated."""
        if not self._more:
            return values
        return torch.cat([values, *[values[..., -1:]] * self._more], dim=-1)

    def _copy_unknowns(self, theta: Tensor) -> Tensor:
        """The unknowns (q, N), those of each point."""
        first = self.jets.network.parameters
        scalars = theta[first : first + self._unknowns].detach()
        return scalars[:, None].repeat(1, self._bounds[-1])

    def _sum_chunks(self, values: Tensor) -> Tensor:
        """Sums (…, C) over the chunks of values (…, N); an empty chunk's are zero."""
        filled = [c for c, (first, last) in enumerate(pairwise(self._bounds)) if last > first]
        sums = values.new_zeros(*values.shape[:-1], len(self._bounds) - 1)
        if filled:
            starts = [self._bounds[c] for c in filled]
            sums[..., filled] = sum_chunks(values, [*starts, self._bounds[-1]])
        return sums
