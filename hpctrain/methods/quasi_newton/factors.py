"""The inverse Hessian of k self-scaled updates as a sum of their factors, by rows over the ranks.

    H_k = c I + Σ_i [q_i s_i] D_i [q_i s_i]ᵀ,   q_i = H_i y_i,

since each update is H⁺ = H/τ + [q s] C [q s]ᵀ (see `broyden`): it divides c and all D_i by τ, and
adds a term. These are the iterates of the dense matrix, with 2kn numbers in the place of n²: a
product reads the factors twice, which costs less as long as k < n/2, and a network too large for
n² numbers is trained all the same.

A sum is a value: one that goes on from another writes its term into the same panel, behind the
other's, which weighs that column by zero. Only where two go on from the same one, the second takes
a copy of the panel.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from hpctrain.kernels.panels import add_outer_products, add_product, multiply_transposed
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.rows import find_held_rows
from hpctrain.parallel.tree import reduce_leaves
from hpctrain.store.state import RowBlock

# Updates whose vectors share a panel: rows of 2 x 64 numbers are whole cache lines.
PANEL = 64


@dataclass
class Written:
    """How many terms there are in the memory of some panels, which several sums may share."""

    terms: int


@dataclass
class Factors:
    """Σ_i [q_i s_i] D_i [q_i s_i]ᵀ (n, n).

    Attributes:
        panels: columns q₁ s₁ q₂ s₂ … (n, 2 · `PANEL`) each, by rows; beyond the last update they
            are zero, or another sum's, and finite.
        D: (k, 2, 2), on every rank.
    """

    panels: list[RowBlock] = field(default_factory=list)
    D: Tensor = field(
        default_factory=lambda: torch.zeros(0, 2, 2, dtype=torch.float64, device="cpu")
    )

    def __post_init__(self) -> None:
        self._written = Written(len(self.D))

    def __len__(self) -> int:
        """k, the number of updates."""
        return len(self.D)

    def share(self) -> "Factors":
        """The same sum in the same panels."""
        shared = Factors([*self.panels], self.D)
        shared._written = self._written
        return shared

    def append(self, vectors: Tensor, C: Tensor, tau: float, ranks: Communicator) -> None:
        """Divides the sum by τ and adds the term of [q s]ᵀ (2, n) and C (2, 2)."""
        column, n = 2 * (len(self) % PANEL), vectors.shape[1]
        held = find_held_rows(n, ranks.size, ranks.rank)
        if len(self) != self._written.terms:
            self._leave_memory()
        if column == 0:
            empty = vectors.new_zeros(held.last - held.first, 2 * PANEL)
            self.panels.append(RowBlock(empty, held.first, n))
        # Both at once: a row's two numbers are in one cache line, far from the next row's.
        self.panels[-1].rows[:, column : column + 2] = vectors[:, held.first : held.last].T
        self.D = torch.cat([self.D.to(vectors.device) / tau, C[None].to(vectors.device)])
        self._written.terms = len(self)

    def _leave_memory(self) -> None:
        """Takes a copy of the panel in which another sum has written the next term already."""
        if len(self) % PANEL:
            self.panels[-1] = replace(self.panels[-1], rows=self.panels[-1].rows.clone())
        self._written = Written(len(self))

    def multiply(self, x: Tensor, scale: float, ranks: Communicator, threads: int) -> Tensor:
        """scale · x plus the sum times x (n,); collective, with two passes over the panels."""
        if not self.panels:
            return scale * x
        held = find_held_rows(len(x), ranks.size, ranks.rank)
        own, panels = x[held.first : held.last], [panel.rows for panel in self.panels]
        inner = reduce_leaves(
            multiply_transposed(panels, own, held.bounds, threads), held.parts_before
        )
        y = scale * own
        add_product(panels, self._weight(ranks.sum_by_tree(inner, held.parts)), y, threads)
        return ranks.allgather_rows(y, held.counts)

    def move_to(self, H: Tensor, ranks: Communicator, threads: int) -> None:
        """H += the sum, for this rank's rows H (r, n); collective. The factors are given back."""
        n = H.shape[1]
        counts = find_held_rows(n, ranks.size, ranks.rank).counts
        D = self.D.to(H)
        for start in range(0, len(D), PANEL):
            panel = self.panels.pop(0).rows
            blocks = H.new_zeros(PANEL, 2, 2)
            blocks[: len(D) - start] = D[start : start + PANEL]
            left = _multiply_blocks(panel, blocks)
            add_outer_products(H, left, ranks.allgather_rows(panel, counts).T, threads)
        self.D = self.D[:0].clone()

    def _weight(self, inner: Tensor) -> Tensor:
        """D times inner products (2k,), both filled up with zeros to whole panels."""
        pairs = inner.view(-1, 2)
        weights = torch.zeros_like(pairs)
        D, used = self.D.to(inner), pairs[: len(self)]
        weights[: len(self)] = D[:, :, 0] * used[:, :1] + D[:, :, 1] * used[:, 1:]
        return weights.view(-1)


def _multiply_blocks(panel: Tensor, blocks: Tensor) -> Tensor:
    """panel (r, 2b) times the block-diagonal matrix of symmetric blocks (b, 2, 2)."""
    pairs = panel.view(len(panel), -1, 2)
    weighted = pairs[:, :, :1] * blocks[:, 0] + pairs[:, :, 1:] * blocks[:, 1]
    return weighted.reshape(panel.shape)
