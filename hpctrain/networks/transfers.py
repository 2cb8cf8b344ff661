"""Transfers of parameters and gradients between the levels of a multilevel method.

    I prolongs a coarse correction,   R = Iᵀ restricts a fine gradient,   P I = id projects θ,
    Pᵀ lifts a coarse gradient: R Pᵀ = id

A residual network is an explicit Euler scheme for dy/dt = F(y, θ(t)), and its blocks are the values
of θ(t) on a grid. A level with about half the blocks has the grid of twice the step. Layers that
are no function of time (the first one, the last one, strided ones) are shared by all levels.

Source: Kopaničáková and Krause, SIAM Journal on Scientific Computing 45(3) (2023), arXiv
2107.07572.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

Rule = Literal["constant", "linear"]

# What holds a fitted block near its copy, over the mean of the diagonal of UᵀU.
RIDGE = 1e-2


class Transfer(Protocol):
    """Transfers between the parameters of a level and those of the next coarser one.

    Attributes:
        stretch: ‖I‖₂ or a bound of it, by which a correction may grow when it is prolonged.
    """

    stretch: float

    def prolong(self, s: Tensor) -> Tensor:
        """Computes I s: a coarse correction on the fine level."""

    def restrict(self, g: Tensor) -> Tensor:
        """Computes R g = Iᵀ g: a fine gradient on the coarse level."""

    def project(self, theta: Tensor) -> Tensor:
        """Computes P θ: fine parameters on the coarse level, with P I = id."""

    def lift(self, g: Tensor) -> Tensor:
        """Computes Pᵀ g: a coarse gradient on the fine level, with R Pᵀ = id."""

    def sample(self, theta: Tensor) -> Tensor:
        """Takes every other block of θ. P takes means, which would make random blocks smaller."""

    def refine(self, theta: Tensor, systems: Iterator[Tensor]) -> Tensor:
        """Computes I θ, where the second of the two blocks that a block becomes is fitted.

        Args:
            theta: coarse parameters.
            systems: for each block in order, a system as `fit_second_half_step` takes it.
        """


class Identity:
    """The transfer between levels that differ in their samples only: I = R = P = id."""

    stretch = 1.0

    def prolong(self, s: Tensor) -> Tensor:
        return s

    def restrict(self, g: Tensor) -> Tensor:
        return g

    def project(self, theta: Tensor) -> Tensor:
        return theta

    def lift(self, g: Tensor) -> Tensor:
        return g

    def sample(self, theta: Tensor) -> Tensor:
        return theta

    def refine(self, theta: Tensor, systems: Iterator[Tensor]) -> Tensor:
        return theta


class InTime(ABC):
    """The transfer of values θ(t_1) … θ(t_K), which are the rows of a matrix (K, size)."""

    stretch: ClassVar[float] = math.sqrt(2)

    @abstractmethod
    def find_coarse_depth(self, depth: int) -> int | None:
        """Returns the coarse depth K_c for a fine one K_f; None where there is none."""

    @abstractmethod
    def prolong(self, s: Tensor) -> Tensor:
        """Applies I: (K_c, size) ↦ (K_f, size)."""

    @abstractmethod
    def restrict(self, g: Tensor) -> Tensor:
        """Applies R: (K_f, size) ↦ (K_c, size)."""

    @abstractmethod
    def project(self, theta: Tensor) -> Tensor:
        """Applies P: (K_f, size) ↦ (K_c, size)."""

    @abstractmethod
    def lift(self, g: Tensor) -> Tensor:
        """Applies Pᵀ: (K_c, size) ↦ (K_f, size)."""


class Constant(InTime):
    """Piecewise constant in time, K_f = 2 K_c: I copies each block, and P = ½ Iᵀ takes means."""

    def find_coarse_depth(self, depth: int) -> int | None:
        return None if depth % 2 else depth // 2

    def prolong(self, s: Tensor) -> Tensor:
        return s.repeat_interleave(2, dim=0)

    def restrict(self, g: Tensor) -> Tensor:
        return g[0::2] + g[1::2]

    def project(self, theta: Tensor) -> Tensor:
        return 0.5 * self.restrict(theta)

    def lift(self, g: Tensor) -> Tensor:
        return 0.5 * self.prolong(g)


class Linear(InTime):
    """Piecewise linear in time, K_f = 2 K_c - 1.

    I puts the mean of two blocks between them, and P takes every other block. The absolute row sums
    of IᵀI are at most 2, so that ‖I‖ ≤ √2.
    """

    def find_coarse_depth(self, depth: int) -> int | None:
        return (depth + 1) // 2 if depth % 2 and depth > 1 else None

    def prolong(self, s: Tensor) -> Tensor:
        fine = s.new_empty(2 * len(s) - 1, s.shape[1])
        fine[0::2] = s
        fine[1::2] = 0.5 * (s[:-1] + s[1:])
        return fine

    def restrict(self, g: Tensor) -> Tensor:
        coarse = g[0::2].clone()
        coarse[:-1] += 0.5 * g[1::2]
        coarse[1:] += 0.5 * g[1::2]
        return coarse

    def project(self, theta: Tensor) -> Tensor:
        return theta[0::2]

    def lift(self, g: Tensor) -> Tensor:
        fine = g.new_zeros(2 * len(g) - 1, g.shape[1])
        fine[0::2] = g
        return fine


RULES: dict[Rule, InTime] = {"constant": Constant(), "linear": Linear()}


@dataclass(frozen=True)
class Run:
    """A part of θ: `depth` blocks of `size` numbers each, or one piece that all levels share.

    Attributes:
        size: how many numbers a block or the piece has.
        depth: the number of blocks; None for a piece that is shared.
    """

    size: int
    depth: int | None = None

    @property
    def numbers(self) -> int:
        """How many numbers it has in all."""
        return self.size * (self.depth or 1)


class DepthTransfer:
    """The transfer between a residual network and the next shallower one.

    Args:
        runs: the parts of the fine network's θ, in order.
        rule: the transfer of the blocks of each part.
    """

    def __init__(self, runs: Sequence[Run], rule: Rule) -> None:
        self._rule = RULES[rule]
        self._fine = list(runs)
        self._coarse = [self._coarsen(run) for run in runs]
        self.stretch = self._rule.stretch

    def _coarsen(self, run: Run) -> Run:
        if run.depth is None:
            return run
        depth = self._rule.find_coarse_depth(run.depth)
        if depth is None:
            raise ValueError(f"{run.depth} blocks have no coarser grid")
        return replace(run, depth=depth)

    def prolong(self, s: Tensor) -> Tensor:
        return _map_runs(s, self._coarse, self._rule.prolong)

    def restrict(self, g: Tensor) -> Tensor:
        return _map_runs(g, self._fine, self._rule.restrict)

    def project(self, theta: Tensor) -> Tensor:
        return _map_runs(theta, self._fine, self._rule.project)

    def lift(self, g: Tensor) -> Tensor:
        return _map_runs(g, self._coarse, self._rule.lift)

    def sample(self, theta: Tensor) -> Tensor:
        return _map_runs(theta, self._fine, lambda blocks: blocks[0::2])

    def refine(self, theta: Tensor, systems: Iterator[Tensor]) -> Tensor:
        def refine_blocks(blocks: Tensor) -> Tensor:
            fine = self._rule.prolong(blocks)
            for block in fine[1::2]:
                block += fit_second_half_step(next(systems))
            return fine

        return _map_runs(theta, self._coarse, refine_blocks)


def fit_second_half_step(system: Tensor) -> Tensor:
    """Computes by how much the second of two half steps differs from its block: (W, b), flat.

    Where an Euler block y + dt F(y), F(y) = σ(W y + b), is replaced by two copies with half the
    step, the result differs by about dt²/4 F'F. Most of this is removed by other parameters W', b'
    of the second one, the least-squares solution of W' y₁ + b' ≈ W y + b, y₁ being the result of
    the first half step. A small ridge holds them near (W, b).

    Args:
        system: [UᵀU, UᵀV] (q + 1, q + 1 + c). A row of U has the q numbers of which an output of
            W y₁ + b is made, and 1. A row of V has what its c outputs lack, W y + b - (W y₁ + b).
    """
    q = len(system) - 1
    G, right = system.double().split([q + 1, system.shape[1] - q - 1], dim=1)
    ridge = RIDGE * G.diagonal().mean()
    identity = torch.eye(q + 1, dtype=G.dtype, device=G.device)
    change = torch.linalg.solve(G + ridge * identity, right).mT.to(system.dtype)
    return torch.cat([change[:, :q].reshape(-1), change[:, q]])


def _map_runs(v: Tensor, runs: Sequence[Run], function: Callable[[Tensor], Tensor]) -> Tensor:
    """Applies a function to the blocks in v (n,), and leaves the shared pieces as they are."""
    pieces = v.split([run.numbers for run in runs])
    return torch.cat(
        [
            piece if run.depth is None else function(piece.view(run.depth, run.size)).reshape(-1)
            for piece, run in zip(pieces, runs, strict=True)
        ]
    )
