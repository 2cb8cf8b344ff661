"""Calls of the compiled kernels that find no memory: they raise, and the next one is right."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hpctrain.kernels import (
    JetShape,
    find_native_kernels,
    is_native_available,
    make_jet_evaluator,
)
from hpctrain.kernels.pointwise import trace
from hpctrain.networks.dense import DenseNetwork

pytestmark = pytest.mark.skipif(not is_native_available(), reason="native kernels are not built")

MEBIBYTE = 1 << 20


def keep_jets():
    """An evaluation whose tape takes 20 MB."""
    network, count = DenseNetwork(2, 60, 6), 2048
    shape = JetShape.make_closed(2, [(0,), (1, 1)])
    points = torch.linspace(-1, 1, 2 * count, dtype=torch.float64).view(2, count)
    kernel = make_jet_evaluator(network, shape, points, [0, count]).kernel
    theta = network.make_initial_parameters(0).numpy()
    jets = torch.empty(4, 1, count, dtype=torch.float64)

    def call():
        kernel.forward(theta, 0, None, True, jets.numpy())
        return jets

    return call


def evaluate_a_long_residual():
    """A residual of 8,000 instructions, for which a thread takes 4 MB."""
    from hpctrain.kernels.native import FusedResidual

    network = DenseNetwork(1, 4, 2)
    points = torch.linspace(-1, 1, 64, dtype=torch.float64)[None]
    jets = make_jet_evaluator(network, JetShape.make_closed(1, [(0,)]), points, [0, 64])

    def residual(jet, _unknowns):
        r = jet[0][0]
        for _ in range(8000):
            r = r + jet[1][0]
        return (r,)

    program = trace(residual, jets.components, jets.points, torch.float64, 1)
    loss, theta = FusedResidual(jets, program, torch.float64), network.make_initial_parameters(0)
    return lambda: loss.sum_losses(theta, 0, None)


def add_products_of_many_parts():
    """A block row of 250 tiles or more, of each of which there are 9 sums: 2 MB or more."""
    n, parts = 2000, 1 << 8
    J, C = torch.linspace(-1, 1, n)[None], torch.zeros(n, n)
    rows = [[J.numpy()], *([] for _ in range(parts - 1))]
    kernels = find_native_kernels(J)

    def call():
        kernels.add_gram_sums(rows, 0, C.view(-1).numpy(), [0], [n], n, n, 1)
        return C

    return call


CALLS = {
    "keep jets": keep_jets,
    "evaluate a long residual": evaluate_a_long_residual,
    "add products of many parts": add_products_of_many_parts,
}


def call_with_little_memory(make):
    """Calls with ever more memory until there is enough; returns the result and the failures."""
    call, failures, (_, most) = make(), 0, resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    for spare in range(1, 64):
        limit = pages * resource.getpagesize() + spare * MEBIBYTE
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))
        try:
            return call(), failures
        except MemoryError:
            failures += 1
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
    raise AssertionError("there is never enough memory")


@pytest.mark.parametrize("name", CALLS)
def test_a_call_without_memory_raises_and_the_next_one_is_right(name):
    """In a process of its own, which a fault would end."""
    command = [sys.executable, "-m", f"tests.{Path(__file__).stem}", name]
    subprocess.run(command, check=True, cwd=Path(__file__).parent.parent)


if __name__ == "__main__":
    made = CALLS[sys.argv[1]]
    found, failed = call_with_little_memory(made)
    assert failed > 0
    assert torch.equal(found, made()())
