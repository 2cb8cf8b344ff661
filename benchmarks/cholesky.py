"""Compares Cholesky factors over block rows with LAPACK's: python -m benchmarks.cholesky

On one thread, float64; the medians of CPU seconds, which alternate. scipy comes with OpenBLAS and
torch, from the package index, with MKL, of which each chooses its instructions for the processor;
where OpenBLAS does not know it, OPENBLAS_CORETYPE names those of another one, such as SkylakeX.
"""

import statistics
import time
from collections.abc import Callable

import scipy.linalg.lapack as lapack
import torch
from tabulate import tabulate
from torch import Tensor

from hpctrain.linalg.block_layout import Layout
from hpctrain.parallel.block_rows import BlockRows
from hpctrain.parallel.communicator import Communicator

ORDERS = (400, 900, 1300, 2000, 3021)
ROUNDS = 15


def rows(_words: list[str]) -> list[str]:
    """The labels of the table's rows."""
    return [f"{n:,}" for n in ORDERS]


def measure(n: int) -> list[float]:
    """n, 10⁹ multiply-adds a second of three factorisations, and ms of a solution by two."""
    A, b = make_system(n)
    layout = Layout(n, 1)
    numbers = torch.cat([A[layout.find_slices(i)].reshape(-1) for i in layout.list_rows(0)])
    block_rows, columns, right = BlockRows(Communicator(), layout, numbers), A.T.numpy(), b[:, None]
    ours, theirs = block_rows.factorise(0.0), torch.linalg.cholesky(A)
    assert ours is not None
    calls: list[Callable[[], object]] = [
        lambda: block_rows.factorise(0.0),
        lambda: lapack.dpotrf(columns, lower=1, clean=0),
        lambda: torch.linalg.cholesky_ex(A),
        lambda: ours.solve(b),
        lambda: torch.cholesky_solve(right, theirs),
    ]
    seconds = [[time_call(call) for call in calls] for _ in range(ROUNDS)]
    medians = [statistics.median(each) for each in zip(*seconds, strict=True)]
    return [n, *(1e-9 * n**3 / 6 / each for each in medians[:3]), *(1e3 * s for s in medians[3:])]


def make_system(n: int) -> tuple[Tensor, Tensor]:
    """A (n, n), symmetric positive definite, and b (n,)."""
    generator = torch.Generator().manual_seed(n)
    A = torch.randn(n, n, dtype=torch.float64, generator=generator)
    b = torch.randn(n, dtype=torch.float64, generator=generator)
    return A @ A.T / n + torch.eye(n, dtype=torch.float64), b


def time_call(call: Callable[[], object]) -> float:
    """The CPU seconds of a call on this thread."""
    start = time.thread_time()
    call()
    return time.thread_time() - start


def main() -> None:
    torch.set_num_threads(1)
    rates = ["block rows", "scipy's LAPACK", "torch's LAPACK"]
    headers = ["n", *rates, "solution, ms", "torch's"]
    print(tabulate([measure(n) for n in ORDERS], headers, "github", ("d", *5 * [".2f"])))


if __name__ == "__main__":
    main()
