"""The triangular factor of chunks of rows on any number of ranks, with the bits of one rank."""

import pytest
import torch

from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.tree import share_chunks
from hpctrain.parallel.triangular_factor import compute_triangular_factor


@pytest.mark.parametrize(
    "sizes",
    [[3] * 8, [0, 9, 1, 30, 2, 0, 0, 5], [1] * 8, [0, 0, 0, 0, 0, 0, 0, 4]],
    ids=["even", "uneven", "few", "on one rank"],
)
def test_it_has_the_bits_of_one_rank(comm, assert_everywhere, sizes):
    """Also where ranks have no rows, and where all together have no more than columns."""
    generator = torch.Generator().manual_seed(1)
    parts = [torch.randn(k, 9, dtype=torch.float64, generator=generator) for k in sizes]
    first, last = share_chunks(len(sizes), comm.size)[comm.rank]
    R = compute_triangular_factor(parts[first:last], sizes, 9, comm)
    alone = compute_triangular_factor(parts, sizes, 9, Communicator())
    assert_everywhere(torch.equal(R, alone), "the bits")
    A = torch.cat(parts)
    error = float((R.T @ R - A.T @ A).abs().max())
    assert_everywhere(error < 1e-12 * float(A.norm()) ** 2, f"an error of {error}")
