"""A quadratic loss with known answers, in the form that `Objective` asks for."""

from typing import Any

import torch
from torch import Tensor

from hpctrain.decomposition.blocks import LayerRange, Region
from hpctrain.objective import Counts, Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.solvers.base import Setting


class Quadratic:
    """ℓ_j(θ) = ½ θᵀA_jθ - b_jᵀθ + c_j for the samples j, one a chunk; L has their means.

    In a subset a sample that is not chosen is an empty chunk: its A_j, b_j and c_j are zero.
    """

    prefix_cost = 0
    loss_cost = 1
    gradient_cost = 3
    dtype, device = torch.float64, torch.device("cpu")

    def __init__(self, A: Tensor, b: Tensor, c: Tensor | None = None) -> None:
        self.A, self.b, self.c = A, b, A.new_zeros(len(A)) if c is None else c
        self.parameters = b.shape[1]

    def sum_losses(self, theta: Tensor) -> Tensor:
        return 0.5 * torch.einsum("i,jik,k->j", theta, self.A, theta) - self.b @ theta + self.c

    def sum_losses_and_gradients(self, theta: Tensor) -> Tensor:
        gradients = torch.einsum("jik,k->ji", self.A, theta) - self.b
        return torch.cat([self.sum_losses(theta)[:, None], gradients], dim=1)

    def multiply_hessians(self, theta: Tensor, v: Tensor) -> Tensor:
        return torch.einsum("jik,k->ji", self.A, v)

    def subset(self, chosen: Tensor) -> "Quadratic":
        kept = torch.zeros(len(self.b), dtype=self.dtype)
        kept[chosen] = 1
        return Quadratic(kept[:, None, None] * self.A, kept[:, None] * self.b, kept * self.c)

    def restrict(self, region: Region, theta: Tensor) -> "Quadratic":
        """½ θ_sᵀA_ssθ_s - (b - A_so θ_o)ᵀθ_s and the loss of the frozen part alone."""
        inside = region.restrict(torch.arange(self.parameters))
        frozen = theta.clone()
        frozen[inside] = 0
        b = self.b[:, inside] - torch.einsum("jik,k->ji", self.A[:, inside], frozen)
        return Quadratic(self.A[:, inside][:, :, inside], b, self.sum_losses(frozen))


def random_quadratic(n: int, samples: int = 4, seed: int = 0, spread: float = 1.0) -> Quadratic:
    """Symmetric positive definite A_j of condition number about 10^spread, random b_j."""
    generator = torch.Generator().manual_seed(seed)
    M = torch.randn(samples, n, n, generator=generator, dtype=torch.float64)
    scale = torch.logspace(0, spread, n, dtype=torch.float64)
    A = M @ M.transpose(1, 2) / n + torch.diag(scale)
    return Quadratic(A, torch.randn(samples, n, generator=generator, dtype=torch.float64))


class LayeredSource:
    """A loss on one rank as a problem whose layers hold so many parameters each."""

    def __init__(self, loss: Any, samples: int, sizes: list[int]) -> None:
        self.loss, self.samples = loss, samples
        stops = torch.tensor(sizes).cumsum(0).tolist()
        self.layers = [
            LayerRange(stop - size, stop, 1) for size, stop in zip(sizes, stops, strict=True)
        ]

    def share(self, chunks: int, rank: int, ranks: int, threads: int) -> Any:
        return self.loss

    def share_samples(
        self, samples: Tensor, chunks: int, rank: int, ranks: int, threads: int
    ) -> Any:
        return self.loss.subset(samples)


def objective_of(
    loss: Any, sizes: list[int] | None = None, samples: int | None = None
) -> Objective:
    """One sample a chunk, on one rank, as one layer or as layers of so many parameters."""
    samples = len(loss.b) if samples is None else samples
    source = LayeredSource(loss, samples, sizes or [loss.parameters])
    return Objective.of(source, Communicator(), samples, counts=Counts(1, 3))


def setting_of(loss: Quadratic, sizes: list[int]) -> Setting:
    """Layers of so many parameters, on one rank."""
    return Setting(objective_of(loss, sizes))


def minimum(loss: Quadratic) -> Tensor:
    return torch.linalg.solve(loss.A.mean(0), loss.b.mean(0))
