"""Makes one measurement and prints its milliseconds: `python -m benchmarks.worker NAME`.

Each measurement needs a process of its own, since nested autograd and the native kernels both start
pools of threads, which slow each other down.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable

import scipy.linalg.blas as blas
import torch

from benchmarks import shapes
from benchmarks.alternation import THREADS
from hpctrain.decomposition.blocks import cut_layers
from hpctrain.kernels.dense import update_and_multiply
from hpctrain.linalg.arrays import CPU
from hpctrain.networks.dense import DenseNetwork
from hpctrain.objective import Counts, Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations import At
from hpctrain.problems.equations.geometry.sampling import place_interior_points
from hpctrain.problems.equations.library.burgers import Burgers
from hpctrain.problems.equations.problem import Formulation, PinnProblem

POINTS = 10_000
CHUNKS = 64
NETWORKS = {"8x20": DenseNetwork(2, 20, 9), "6x50": DenseNetwork(2, 50, 7)}
DENSE_SIZE = 10_000


def median_ms(function: Callable[[], object], repeats: int) -> float:
    """Median time of a call after two warm-up calls; on one thread CPU time."""
    clock = time.thread_time if THREADS == 1 else time.perf_counter
    times = []
    for _ in range(repeats + 2):
        began = clock()
        function()
        times.append(1e3 * (clock() - began))
    return statistics.median(times[2:])


def objective(
    network: DenseNetwork, device: torch.device = CPU
) -> tuple[PinnProblem, Objective, torch.Tensor]:
    torch.set_num_threads(1)
    problem = PinnProblem(Burgers(), network, Formulation(POINTS), device=device)
    share = problem.share(CHUNKS, 0, 1, THREADS)
    counts = Counts(share.loss_cost, share.gradient_cost)
    theta = problem.make_initial_parameters(seed=0)
    return problem, Objective(share, Communicator(), POINTS, CHUNKS, counts), theta


def gradient(name: str) -> float:
    """Loss and gradient by the objective."""
    _, burgers, theta = objective(NETWORKS[name])
    return median_ms(lambda: burgers.evaluate_with_gradient(theta), 40)


def in_torch(name: str) -> float:
    """The same by the kernels in torch, as where no compiler was found."""
    os.environ["HPCTRAIN_KERNELS"] = "torch"
    _, burgers, theta = objective(NETWORKS[name])
    torch.set_num_threads(THREADS)
    return median_ms(lambda: burgers.evaluate_with_gradient(theta), 10)


def gpu(name: str) -> float:
    """The same on a GPU, by Triton's kernels; the objective waits for the result."""
    _, burgers, theta = objective(NETWORKS[name], torch.device("cuda"))
    return median_ms(lambda: burgers.evaluate_with_gradient(theta), 40)


def gpu_in_torch(name: str) -> float:
    """The same by the kernels in torch."""
    os.environ["HPCTRAIN_KERNELS"] = "torch"
    return gpu(name)


def value(name: str) -> float:
    """Loss alone by the objective."""
    _, burgers, theta = objective(NETWORKS[name])
    return median_ms(lambda: burgers.evaluate(theta), 40)


def suffix(name: str) -> float:
    """Loss and gradient of the last layer's block, its activations cached."""
    problem, burgers, theta = objective(NETWORKS[name])
    block = cut_layers(problem.layers, len(problem.layers)).blocks[-1]
    local, start = burgers.restrict(block, theta), block.restrict(theta).clone()
    return median_ms(lambda: local.evaluate_with_gradient(start), 40)


def nested(name: str) -> float:
    """Loss and gradient by nested torch autograd of the network's definition."""
    torch.set_num_threads(THREADS)
    network, burgers = NETWORKS[name], Burgers()
    theta = network.make_initial_parameters(seed=0).requires_grad_()
    points = place_interior_points(burgers.frame.region, POINTS).requires_grad_()

    def loss_and_gradient() -> None:
        G, D = burgers.ansatz(At(burgers.frame.axes, points))["u"]
        u = G + D * network(theta, points)[0]
        (first,) = torch.autograd.grad(u.sum(), points, create_graph=True)
        (second,) = torch.autograd.grad(first[1].sum(), points, create_graph=True)
        residual = first[0] + u * first[1] - burgers.nu * second[1]
        torch.autograd.grad(residual.square().mean(), theta)

    return median_ms(loss_and_gradient, 10)


def autograd(name: str) -> float:
    """Loss and gradient of an equation of `shapes` by nested autograd."""
    torch.set_num_threads(THREADS)
    return median_ms(shapes.by_autograd(shapes.CASES[name]), 5)


def jets(name: str) -> float:
    """The same by the native kernels."""
    torch.set_num_threads(1)
    return median_ms(shapes.by_jets(shapes.CASES[name], THREADS), 10)


def dgemm(library: str) -> float:
    """A product of two 1000 x 1000 matrices by torch, or by scipy's OpenBLAS.

    Any other name is that of a processor, whose instructions OpenBLAS is told to take.
    """
    A = torch.randn(1000, 1000, dtype=torch.float64)
    if library == "torch":
        torch.set_num_threads(THREADS)
        return median_ms(lambda: A @ A, 20)
    settings = {"OPENBLAS_NUM_THREADS": str(THREADS)}
    if library != "OpenBLAS":
        settings["OPENBLAS_CORETYPE"] = library
    if not settings.items() <= os.environ.items():  # they are read as a process begins
        os.execve(sys.executable, sys.orig_argv, os.environ | settings)
    columns = A.numpy().T
    return median_ms(lambda: blas.dgemm(1.0, columns, columns), 20)


def sweep(_: str) -> float:
    """A plain read-and-write pass over a dense matrix, by torch."""
    torch.set_num_threads(THREADS)
    H = torch.ones(DENSE_SIZE, DENSE_SIZE, dtype=torch.float64)
    return median_ms(lambda: H.mul_(1.0000001), 10)


def fused(_: str) -> float:
    """A rank-two update and a product of a dense matrix in one pass."""
    torch.set_num_threads(1)
    H = torch.ones(DENSE_SIZE, DENSE_SIZE, dtype=torch.float64)
    left, right = torch.rand(DENSE_SIZE, 2).double(), torch.rand(2, DENSE_SIZE).double()
    x = torch.rand(DENSE_SIZE, dtype=torch.float64)
    return median_ms(lambda: update_and_multiply(H, x, THREADS, 0.5, left, right), 10)


if __name__ == "__main__":
    measurement, _, argument = sys.argv[1].partition(":")
    print(globals()[measurement](argument))
