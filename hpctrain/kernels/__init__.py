"""Fast evaluations: jets of dense networks, sweeps over dense matrices; native or in torch."""

import os

import torch
from torch import Tensor

from hpctrain.kernels.autograd import jets
from hpctrain.kernels.fallback import TorchJets
from hpctrain.kernels.jets import JetEvaluator
from hpctrain.networks.dense import DenseNetwork

__all__ = ["JetEvaluator", "TorchJets", "jet_evaluator", "jets", "native_available"]

# Coordinates with derivatives that the native kernels are compiled for.
NATIVE_COORDINATES = 3


def native_available() -> bool:
    """Whether the compiled kernels are there and not turned off by HPCTRAIN_KERNELS=torch."""
    if os.environ.get("HPCTRAIN_KERNELS") == "torch":
        return False
    try:
        import hpctrain._kernels  # noqa: F401
    except ImportError:
        return False
    return True


def jet_evaluator(
    network: DenseNetwork,
    orders: tuple[int, ...],
    points: Tensor,
    bounds: list[int],
    threads: int = 1,
) -> JetEvaluator:
    """The fastest evaluator of a network's jets at fixed points that is installed.

    Args:
        network: what is differentiated.
        orders: the highest derivative, 0 to 2, along each coordinate.
        points: coordinates (d, N), float64 or float32, which is also the precision of the jets.
        bounds: chunk c holds points bounds[c] … bounds[c + 1] - 1.
        threads: threads of the native kernels.
    """
    differentiated = sum(order >= 1 for order in orders)
    if native_available() and points.device.type == "cpu" and differentiated <= NATIVE_COORDINATES:
        from hpctrain.kernels.native import NativeJets

        return NativeJets(network, orders, points, bounds, threads)
    return TorchJets(network, orders, points, bounds)


def precision(name: str) -> torch.dtype:
    """The torch type of "float64" or "float32"."""
    return {"float64": torch.float64, "float32": torch.float32}[name]
