"""Prints as JSON how far Triton's jets are from those in torch: triton_check.py [cuda]

On the CPU with TRITON_INTERPRET=1. Triton decides as it is imported whether it interprets, hence a
program of its own.
"""

import json
import sys

import torch

from hpctrain.kernels.fallback import TorchJets
from hpctrain.kernels.jets import JetShape
from hpctrain.kernels.triton_jets import TritonJets
from hpctrain.networks.dense import DenseNetwork

BOUNDS = [0, 4, 9, 13]
DEVICE = sys.argv[1] if len(sys.argv) > 1 else "cpu"
# residual, adaptive, activation, coordinates, derivatives, those of a Laplacian, outputs
CASES = {
    "plain": (False, False, "tanh", 2, [(0,), (1, 1)], (), 1),
    "residual, adaptive": (True, True, "tanh", 2, [(0, 0), (1, 1)], (), 1),
    "values only": (True, False, "tanh", 2, [], (), 1),
    "three coordinates, two outputs": (False, True, "tanh", 3, [(1, 1), (2,)], (), 2),
    "mixed, of order 4": (True, True, "tanh", 2, [(0, 0, 1, 1), (0, 0, 0)], (), 2),
    "a sine": (False, True, "sin", 2, [(0, 1, 1), (0, 0, 0, 0)], (), 1),
    "a Laplacian": (True, False, "sin", 6, [(0, 1)], (1, 2, 3, 4, 5), 1),
}


def difference(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


def differences(residual, adaptive, activation, coordinates, wanted, laplacian, outputs):
    """Largest relative differences of jets and gradients, of the network and of suffixes."""
    random = torch.Generator().manual_seed(3)
    network = DenseNetwork(
        coordinates, 5, 4, outputs, residual, adaptive, time_step=0.3, activation=activation
    )
    shape = JetShape.make_closed(coordinates, wanted, laplacian)

    def drawn(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(DEVICE)

    theta, points = 0.5 * drawn(network.parameters), drawn(coordinates, BOUNDS[-1])
    made = [kind(network, shape, points, BOUNDS) for kind in (TritonJets, TorchJets)]
    jets, gradients = [], []
    for first in (0, 2):
        below = [each.evaluate_prefix(theta, first) if first else None for each in made]
        found, expected = (
            each.forward(theta, keep=True, first=first, activations=its)
            for each, its in zip(made, below, strict=True)
        )
        jets.append(difference(found, expected))
        adjoint = drawn(*found.shape)
        for last in (None, 2):
            results = [
                each.reverse(theta, adjoint, first=first, last=last, activations=its)
                for each, its in zip(made, below, strict=True)
            ]
            gradients.append(difference(*results))
    return {"jets": max(jets), "gradients": max(gradients)}


if __name__ == "__main__":
    print(json.dumps({name: differences(*case) for name, case in CASES.items()}))
