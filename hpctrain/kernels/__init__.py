"""Fast evaluations of networks' derivatives, of residuals, and of products with dense matrices.

On the CPU they run in compiled kernels, on GPUs the derivatives of networks run in Triton's. What
these do not have, and all of it where they are not installed, runs in torch.
"""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from hpctrain.kernels.autograd import evaluate_jets
from hpctrain.kernels.builds import TORCH, VARIABLE, choose_build, load_build
from hpctrain.kernels.fallback import TorchJets
from hpctrain.kernels.jets import JetEvaluator, JetShape
from hpctrain.kernels.joint import JointJets
from hpctrain.networks.dense import DenseNetwork
from hpctrain.networks.joint import JointNetwork

__all__ = [
    "JetEvaluator",
    "JetShape",
    "TorchJets",
    "choose_kernels",
    "evaluate_jets",
    "find_native_kernels",
    "is_native_available",
    "make_jet_evaluator",
    "make_joint_evaluator",
]


def is_native_available() -> bool:
    """Whether there are compiled kernels for this processor, and they are not turned off."""
    return choose_build() is not None


def find_native_kernels(tensor: Tensor) -> ModuleType | None:
    """Returns the compiled kernels if they can be used on this tensor, which must be on the CPU.

    None where it is on a GPU, or where the kernels cannot be used.
    """
    build = choose_build() if tensor.device.type == "cpu" else None
    return None if build is None else load_build(build)


def is_triton_available() -> bool:
    """Whether Triton is installed, and HPCTRAIN_KERNELS is not "torch"."""
    return os.environ.get(VARIABLE) != TORCH and find_spec("triton") is not None


def choose_kernels(device: torch.device) -> str:
    """Chooses the kernels for a device by what is installed: "native", "triton" or "torch"."""
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
    tile_parts: int | None = None,
) -> JetEvaluator:
    """Makes the fastest evaluator of a network's jets at fixed points that is installed.

    Args:
        network: the network to be differentiated.
        shape: which derivatives a jet holds.
        points: coordinates (d, N) of N points, float64 or float32. The jets have this precision
            too.
        bounds: chunk c consists of the points bounds[c] … bounds[c + 1] - 1.
        threads: the threads of the compiled kernels.
        inputs: the jets (components, p, N) of the network's p inputs, where these are functions of
            the coordinates, such as an embedding. By default the inputs are the coordinates.
        tile_parts: as for `native.NativeJets`.
    """
    if network.gated:
        return TorchJets(network, shape, points, bounds, inputs)
    kernels = choose_kernels(points.device)
    if kernels == "native":
        from hpctrain.kernels.native import NativeJets

        return NativeJets(network, shape, points, bounds, threads, inputs, tile_parts)
    if kernels == "triton":
        from hpctrain.kernels.triton_jets import TritonJets

        return TritonJets(network, shape, points, bounds, inputs)
    return TorchJets(network, shape, points, bounds, inputs)


def make_joint_evaluator(
    network: JointNetwork,
    shape: JetShape,
    points: Tensor,
    bounds: list[int],
    threads: int,
    inputs: Sequence[Tensor],
) -> JetEvaluator:
    """Makes the fastest evaluator of the jets of networks beside each other.

    Args:
        network: the networks.
        shape, points, bounds, threads: as for `make_jet_evaluator`.
        inputs: the jets (components, p, N) of the inputs of each.
    """
    is_native = choose_kernels(points.device) == "native" and not network.parts[0].gated
    parts = None
    if is_native:
        from hpctrain.kernels.native import choose_tile_parts

        parts = choose_tile_parts(network, shape)
    evaluators: Any = [
        make_jet_evaluator(part, shape, points, bounds, threads, own, parts)
        for part, own in zip(network.parts, inputs, strict=True)
    ]
    if len(evaluators) == 1:
        return evaluators[0]
    if is_native:
        from hpctrain.kernels.native import JointNativeJets

        return JointNativeJets(network, evaluators)
    return JointJets(network, evaluators)


def find_dtype(name: str) -> torch.dtype:
    """Returns the torch type named "float64" or "float32"."""
    return {"float64": torch.float64, "float32": torch.float32}[name]
