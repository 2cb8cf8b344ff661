"""Transfer of parameters between the levels of a multilevel method.

    I prolongs a coarse correction,   R = Iᵀ restricts a fine gradient,   P I = id projects θ,
    Pᵀ lifts a coarse gradient: R Pᵀ = id

A residual network is an explicit Euler scheme for dy/dt = F(y, θ(t)): its blocks are the values of
θ(t) on a grid, and a level with about half the blocks has the grid of twice the step. What is not
a function of time (the first layer, the last one, strided ones) all levels share.

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
    """Between the parameters of a level and those of the next coarser one.

    Attributes:
        stretch: ‖I‖₂ or a bound of it, by which a correction may grow on its way up.
    """

    stretch: float

    def prolong(self, s: Tensor) -> Tensor:
        """I s: a coarse correction on the fine level."""

    def restrict(self, g: Tensor) -> Tensor:
        """R g = Iᵀ g: a fine gradient on the coarse level."""

    def project(self, theta: Tensor) -> Tensor:
        """P θ: fine parameters on the coarse level; P I = id."""

    def lift(self, g: Tensor) -> Tensor:
        """Pᵀ g: a coarse gradient on the fine level; R Pᵀ = id."""

    def sample(self, theta: Tensor) -> Tensor:
        """Every other block of θ: random ones stay as large as they are, where P takes means."""

    def refine(self, theta: Tensor, systems: Iterator[Tensor]) -> Tensor:
        """I θ, but for the second of the two blocks that each one becomes, which is fitted.

        Args:
            systems: of block after block, as `fit_second_half_step` takes them.
        """


class Identity:
    """I = R = P = id, where levels differ in their samples only."""

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
    """The transfer of values θ(t_1) … θ(t_K), the rows of a matrix (K, size)."""

    stretch: ClassVar[float] = math.sqrt(2)

    @abstractmethod
    def find_coarse_depth(self, depth: int) -> int | None:
        """K_c for K_f; None where there is no coarser grid."""

    @abstractmethod
    def prolong(self, s: Tensor) -> Tensor:
        """(K_c, size) ↦ (K_f, size)."""

    @abstractmethod
    def restrict(self, g: Tensor) -> Tensor:
        """(K_f, size) ↦ (K_c, size)."""

    @abstractmethod
    def project(self, theta: Tensor) -> Tensor:
        """(K_f, size) ↦ (K_c, size)."""

    @abstractmethod
    def lift(self, g: Tensor) -> Tensor:
        """(K_c, size) ↦ (K_f, size)."""


class Constant(InTime):
    """K_f = 2 K_c: I copies each block to two, P = ½ Iᵀ takes their mean; IᵀI = 2."""

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
    """K_f = 2 K_c - 1: I puts the mean of two blocks between them, P takes every other block.

    The absolute row sums of IᵀI are at most 2, hence ‖I‖ ≤ √2.
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
    """A stretch of θ: `depth` blocks of `size` numbers each, or one piece that levels share.

    Attributes:
        depth: None for what is shared.
    """

    size: int
    depth: int | None = None

    @property
    def numbers(self) -> int:
        return self.size * (self.depth or 1)


class DepthTransfer:
    """Between a residual network and the next shallower one: a rule for the blocks of each stage.

    Args:
        runs: of the fine network's θ, in order.
        rule: how blocks are transferred.
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
    """How the second of two half steps differs from its block: the change of (W, b), flat.

    Copies of an Euler block y + dt F(y), F(y) = σ(W y + b), make two half steps that miss its own
    step by dt²/4 F'F. With the least-squares solution of W' y₁ + b' ≈ W y + b, y₁ behind the first
    half step, held near (W, b) by a small ridge, most of that is gone.

    Args:
        system: [UᵀU, UᵀV] (q + 1, q + 1 + c), a row of U being what an output of W y₁ + b is made
            of, with a one, and of V what it lacks of W y + b.
    """
    q = len(system) - 1
    G, right = system.double().split([q + 1, system.shape[1] - q - 1], dim=1)
    ridge = RIDGE * G.diagonal().mean()
    identity = torch.eye(q + 1, dtype=G.dtype, device=G.device)
    change = torch.linalg.solve(G + ridge * identity, right).mT.to(system.dtype)
    return torch.cat([change[:, :q].reshape(-1), change[:, q]])


def _map_runs(v: Tensor, runs: Sequence[Run], function: Callable[[Tensor], Tensor]) -> Tensor:
    """What a function makes of the blocks in v (n,), where the shared pieces stay."""
    pieces = v.split([run.numbers for run in runs])
    return torch.cat(
        [
            piece if run.depth is None else function(piece.view(run.depth, run.size)).reshape(-1)
            for piece, run in zip(pieces, runs, strict=True)
        ]
    )
