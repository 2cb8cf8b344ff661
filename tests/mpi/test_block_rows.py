"""Cholesky factors over ranks: against LAPACK's, with the bits of one rank."""

import pytest
import torch
from residuals import packed

from hpctrain.kernels import is_native_available
from hpctrain.linalg.block_layout import WIDTH, Layout
from hpctrain.parallel.block_rows import BlockRows
from hpctrain.parallel.communicator import Communicator

ORDERS = [1, WIDTH - 1, WIDTH, WIDTH + 1, 3 * WIDTH + 7]
needs_native = pytest.mark.skipif(not is_native_available(), reason="native kernels are not built")


@pytest.fixture(params=[pytest.param("native", marks=needs_native), "torch"], autouse=True)
def kernels(request, monkeypatch):
    monkeypatch.setenv("HPCTRAIN_KERNELS", request.param)


def symmetric(n, dtype=torch.float64):
    generator = torch.Generator().manual_seed(n)
    A = torch.randn(n, n, dtype=dtype, generator=generator)
    return A @ A.T + torch.eye(n, dtype=dtype), torch.randn(n, dtype=dtype, generator=generator)


def block_rows(comm, A, threads=1):
    """A's block rows; what is above its diagonal must not be read."""
    lower = torch.tril(A) + torch.triu(torch.full_like(A, 1e3), 1)
    layout = Layout(len(A), comm.size)
    return BlockRows(comm, layout, packed(layout, lower).split(layout.sizes)[comm.rank], threads)


@pytest.mark.parametrize("n", ORDERS)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-2)])
def test_solutions_are_lapacks_with_the_bits_of_one_rank_and_thread(
    comm, assert_everywhere, n, dtype, tolerance
):
    A, b = symmetric(n, dtype)
    x = block_rows(comm, A, threads=3).factorise(0.5).solve(b)
    expected = torch.linalg.solve(A + 0.5 * torch.eye(n, dtype=dtype), b)
    error = float((x - expected).norm() / expected.norm())
    assert_everywhere(error <= tolerance, f"an error of {error}")
    alone = block_rows(Communicator(), A).factorise(0.5).solve(b)
    assert_everywhere(torch.equal(x, alone), "the bits")


@pytest.mark.parametrize("place", [0, WIDTH, 2 * WIDTH + 5])
def test_a_matrix_that_is_not_positive_definite_is_found_out_by_all(comm, assert_everywhere, place):
    A, _ = symmetric(3 * WIDTH)
    A[place, place] = -1.0
    rows = block_rows(comm, A)
    assert_everywhere(rows.factorise(0.0) is None, "no factor")
    assert_everywhere(rows.factorise(1e4) is not None, "a factor with a shift; A was kept")


def test_a_rank_holds_its_part_of_the_triangle(comm, assert_everywhere):
    layout = Layout(20 * WIDTH, comm.size)
    held = layout.sizes[comm.rank]
    whole = sum(layout.sizes)
    assert_everywhere(whole == 20 * 21 // 2 * WIDTH**2, "all blocks once")
    assert_everywhere(held <= 1.1 * whole / comm.size, f"{held} of {whole}")
