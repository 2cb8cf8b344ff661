"""Fast evaluations: jets of dense networks, sweeps over dense matrices.

Native on the CPU, Triton's on GPUs (jets only), or in torch.
"""

import os
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from hpctrain.kernels.autograd import evaluate_jets
from hpctrain.kernels.fallback import TorchJets
from hpctrain.kernels.jets import JetEvaluator, JetShape
from hpctrain.networks.dense import DenseNetwork

__all__ = [
    "JetEvaluator",
    "JetShape",
    "TorchJets",
    "choose_kernels",
    "evaluate_jets",
    "find_native_kernels",
    "is_native_available",
    "make_jet_evaluator",
]


# What no kernel has.
GATED = "a gated network"


def is_native_available() -> bool:
    """Whether the compiled kernels are there and not turned off by HPCTRAIN_KERNELS=torch."""
    if os.environ.get("HPCTRAIN_KERNELS") == "torch":
        return False
    try:
        import hpctrain._kernels  # noqa: F401
    except ImportError:
        return False
    return True


def find_native_kernels(tensor: Tensor) -> ModuleType | None:
    """The compiled kernels, for a tensor in host memory; None where they are not available."""
    if tensor.device.type != "cpu" or not is_native_available():
        return None
    from hpctrain import _kernels

    return _kernels


def is_triton_available() -> bool:
    """Whether Triton is installed and not turned off by HPCTRAIN_KERNELS=torch."""
    return os.environ.get("HPCTRAIN_KERNELS") != "torch" and find_spec("triton") is not None


def choose_kernels(device: torch.device) -> str:
    """Which kernels a device gets: "native", "triton" or "torch"."""
    if device.type == "cpu" and is_native_available():
        return "native"
    return "triton" if device.type == "cuda" and is_triton_available() else "torch"


def make_jet_evaluator(
    network: DenseNetwork,
    shape: JetShape,
    points: Tensor,
    bounds: list[int],
    threads: int = 1,
    inputs: Tensor | None = None,
) -> JetEvaluator:
    """The fastest evaluator of a network's jets at fixed points that is installed.

    Args:
        network: what is differentiated.
        shape: the derivatives.
        points: coordinates (d, N), float64 or float32, which is also the precision of the jets.
        bounds: chunk c holds points bounds[c] … bounds[c + 1] - 1.
        threads: threads of the native kernels.
        inputs: jets (components, p, N) of the network's p inputs, such as an embedding of the
            coordinates; by default those of the coordinates themselves.
    """
    if network.gated:
        return TorchJets(network, shape, points, bounds, inputs, GATED)
    kernels = choose_kernels(points.device)
    if kernels == "native":
        from hpctrain.kernels.native import NativeJets

        return NativeJets(network, shape, points, bounds, threads, inputs)
    if kernels == "triton":
        from hpctrain.kernels.triton_jets import TritonJets, find_lack_in_triton

        fallback = find_lack_in_triton(network, shape)
        if fallback is None:
            return TritonJets(network, shape, points, bounds, inputs)
        return TorchJets(network, shape, points, bounds, inputs, fallback)
    return TorchJets(network, shape, points, bounds, inputs)


def find_dtype(name: str) -> torch.dtype:
    """The torch type of "float64" or "float32"."""
    return {"float64": torch.float64, "float32": torch.float32}[name]
