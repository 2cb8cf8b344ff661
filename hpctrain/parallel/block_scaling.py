"""A change of variables z = R θ by blocks, in which a matrix has orthonormal columns by blocks.

θ is cut into pieces, and J has the columns J_i of each. Of

    [J_i; c m I] = Q_i R_i,   m the norm of the largest column of J_i,

the block J_i R_i⁻¹ has singular values σ / √(σ² + c² m²), σ those of J_i: one, but for directions
in which J_i is smaller than c m.

Sources: A. van der Sluis, Condition numbers and equilibration of matrices, Numer. Math. 14 (1969);
Å. Björck, Numerical Methods for Least Squares Problems (1996), section 7.2 (preconditioners).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.linalg import solve_triangular

from hpctrain.linalg.vectors import one_thread, substitute
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.owners import find_piece_owner, join_pieces, share_tensors


def regularise(R: Tensor, cutoff: float) -> Tensor:
    """The factor R_i (p, p) of [J_i; c m I], for a triangular factor R (k, p) of J_i."""
    largest = float(R.square().sum(dim=0).max().sqrt()) if len(R) else 0.0
    own = torch.eye(R.shape[1], dtype=R.dtype, device=R.device) * (cutoff * (largest or 1.0))
    with one_thread():
        return torch.linalg.qr(torch.cat([R, own]), mode="r").R


class BlockScaling:
    """See the module. Each rank computes its pieces of a vector.

    Args:
        ranks: all of them.
        pieces: the entries of each piece among the n, which are all of them.
        factors: R_i (p, p), upper triangles, on every rank.
    """

    def __init__(
        self, ranks: Communicator, pieces: Sequence[Tensor], factors: Sequence[Tensor]
    ) -> None:
        self._ranks, self._pieces, self._factors = ranks, pieces, factors

    def scale(self, theta: Tensor) -> Tensor:
        """z = R θ (n,); collective, as are the other changes of a vector."""
        return self._change(theta, torch.mv)

    def unscale(self, z: Tensor) -> Tensor:
        """θ = R⁻¹ z (n,)."""
        return self._change(z, lambda R, own: substitute(R.mT, own, transposed=True))

    def pull_back(self, gradient: Tensor) -> Tensor:
        """The gradient by z (n,), R⁻ᵀ g, for that by θ."""
        return self._change(gradient, lambda R, own: substitute(R.mT, own, transposed=False))

    def _change(self, vector: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        ranks, shapes = self._ranks, {i: (len(piece),) for i, piece in enumerate(self._pieces)}

        def find_owner(piece: int) -> int:
            return find_piece_owner(piece, ranks.size)

        with one_thread():
            own = {
                i: change(self._factors[i], vector[self._pieces[i]])
                for i in shapes
                if find_owner(i) == ranks.rank
            }
        parts = share_tensors(own, shapes, find_owner, ranks, vector)
        return join_pieces(parts, self._pieces, vector)

    def scale_columns(self, rows: Tensor, numbers: Sequence[int]) -> Tensor:
        """The columns J_i R_i⁻¹ of some rows of J, for those J_i of some pieces, side by side."""
        widths = [len(self._pieces[i]) for i in numbers]
        with one_thread():
            scaled = [
                solve_triangular(self._factors[i], J.contiguous(), upper=True, left=False)
                for i, J in zip(numbers, rows.split(widths, dim=1), strict=True)
            ]
        return torch.cat(scaled, dim=1)
