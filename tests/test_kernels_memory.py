"""Calls of the compiled kernels that find no memory: they raise, and the next one is right."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hpctrain.kernels import JetShape, is_native_available, make_jet_evaluator
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


CALLS = {"keep jets": keep_jets}


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
