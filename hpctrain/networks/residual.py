"""Residual classifiers, whose depth is a discretisation of time and can be halved.

    y_k+1 = y_k + dt F(y_k, θ_k),   k = 1 … K,   dt = T / K,   F(y, θ) = σ(W y + b)

The final time T is fixed, so that networks of any depth approximate one ordinary differential
equation. W is a matrix, or a convolution 3 x 3 with as many channels as there are. A convolutional
network has several stages of K blocks each. A strided convolution before each stage but the first
halves the images.

Sources: Haber and Ruthotto, Inverse Problems 34 (2018), arXiv 1705.03341; Kopaničáková and Krause,
SIAM Journal on Scientific Computing 45(3) (2023), arXiv 2107.07572.
"""

from collections.abc import Callable
from functools import partial
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpctrain.networks.classifiers import image_shape
from hpctrain.networks.faults import NetworkError
from hpctrain.networks.module import ModuleNetwork
from hpctrain.networks.transfers import RULES, DepthTransfer, Rule, Run


class EulerBlock(nn.Module):
    """One step y + dt σ(W y + b).

    Args:
        map: W y + b, with as many outputs as inputs.
        activation: σ.
        dt: the time step.
    """

    def __init__(self, map: nn.Linear | nn.Conv2d, activation: nn.Module, dt: float) -> None:
        super().__init__()
        self.map = map
        self.activation = activation
        self.dt = dt

    def forward(self, y: Tensor) -> Tensor:
        return y + self.dt * self.activation(self.map(y))

    def make_half_step_system(self, y: Tensor) -> Tensor:
        """Computes the system [UᵀU, UᵀV] (q + 1, q + 1 + c) that `fit_second_half_step` takes.

        With z = W y + b, the first half step is y₁ = y + dt/2 σ(z). Each sample gives a row, or
        each of its pixels in a convolution. A row of U has the q numbers that the map reads of y₁,
        and 1. A row of V has what its c outputs lack, z - (W y₁ + b).

        Args:
            y: the block's inputs (N, …).
        """
        z = self.map(y)
        y_1 = y + 0.5 * self.dt * self.activation(z)
        U, V = _list_inputs(self.map, y_1), _make_rows(z - self.map(y_1))
        U = torch.cat([U, U.new_ones(len(U), 1)], dim=1)
        return U.mT @ torch.cat([U, V], dim=1)

    @property
    def half_step_cost(self) -> float:
        """The cost of `make_half_step_system` divided by that of the block."""
        c, q = self.map.weight.flatten(1).shape
        return 2 + (q + 1) * (q + 1 + c) / (q * c)


def find_block(stage: nn.Module) -> EulerBlock | None:
    """Returns the Euler block that a stage begins with; None for other layers."""
    first = next(stage.children(), None)
    return first if isinstance(first, EulerBlock) else None


def _list_inputs(map: nn.Linear | nn.Conv2d, y: Tensor) -> Tensor:
    """Lists what a map reads for each output: rows of y, or patches of a convolution."""
    if isinstance(map, nn.Linear):
        return y
    assert not isinstance(map.padding, str)
    patches = functional.unfold(y, map.kernel_size, padding=map.padding, stride=map.stride)
    return patches.mT.flatten(0, 1)


def _make_rows(z: Tensor) -> Tensor:
    """Arranges a map's outputs (N, c, …) as rows of c, in the order of `_list_inputs`."""
    return z.flatten(2).mT.flatten(0, 1) if z.ndim > 2 else z


def make_dense_resnet(
    inputs: int,
    width: int,
    classes: int,
    time: float,
    activation: type[nn.Module],
    blocks: int,
) -> nn.Module:
    """Makes layers inputs → width, K blocks of this width, and width → classes."""
    body = [EulerBlock(nn.Linear(width, width), activation(), time / blocks) for _ in range(blocks)]
    first = [nn.Flatten(), nn.Linear(inputs, width), activation()]
    return nn.Sequential(*first, *body, nn.Linear(width, classes))


def make_convolutional_resnet(
    shape: tuple[int, ...],
    filters: list[int],
    classes: int,
    time: float,
    activation: type[nn.Module],
    first_stride: int,
    blocks: int,
) -> nn.Module:
    """Makes a first convolution, stages of K blocks, the mean over pixels, and a last layer.

    Args:
        shape: (channels, height, width) of an image.
        filters: the number of channels of each stage.
        classes: the number of classes.
        time: T.
        activation: σ.
        first_stride: the stride of the first convolution.
        blocks: K, the number of blocks of each stage.
    """
    channels, _, _ = image_shape(shape, "conv-resnet")
    parts: list[nn.Module] = []
    for stage, width in enumerate(filters):
        stride = first_stride if stage == 0 else 2
        parts += [nn.Conv2d(channels, width, 3, stride, padding=1), activation()]
        for _ in range(blocks):
            convolution = nn.Conv2d(width, width, 3, padding=1)
            parts.append(EulerBlock(convolution, activation(), time / blocks))
        channels = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    return nn.Sequential(*parts, *head)


class ResidualNetwork(ModuleNetwork):
    """A chain with stages of Euler blocks, whose number can be halved.

    Args:
        name: of the network, without its depth.
        make: makes it with K blocks in each stage.
        inputs: the shape of one sample.
        blocks: K.
        seed, samples: as for `ModuleNetwork`.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[int], nn.Module],
        inputs: tuple[int, ...],
        blocks: int,
        seed: int = 0,
        samples: Tensor | None = None,
    ) -> None:
        title = f"{name}, {blocks} blocks"
        super().__init__(title, partial(make, blocks), inputs, seed, samples)
        self.blocks = blocks
        self._title = name
        self._build = make
        self._inputs = inputs

    @property
    def runs(self) -> list[Run]:
        """The parts of θ: stages of blocks, and the layers between them, which all depths share."""
        is_block = [find_block(stage) is not None for stage in self.stages]
        layers = zip(self.layers, is_block, strict=True)
        runs = []
        for in_stage, group in groupby(layers, key=lambda each: each[1]):
            sizes = [layer.stop - layer.start for layer, _ in group]
            runs.append(Run(sizes[0], len(sizes)) if in_stage else Run(sum(sizes)))
        return runs

    def coarsen(self, rule: Rule) -> "tuple[ResidualNetwork, DepthTransfer]":
        """Makes the network of about half the blocks, and the transfer between the two.

        Raises:
            NetworkError: this number of blocks cannot be halved.
        """
        blocks = RULES[rule].find_coarse_depth(self.blocks)
        if blocks is None:
            wanted = {"constant": "an even number, 2 K", "linear": "an odd number, 2 K - 1"}[rule]
            raise NetworkError(
                f"{self.name}: no coarser level by a {rule} transfer, which takes {wanted}"
            )
        coarse = ResidualNetwork(
            self._title, self._build, self._inputs, blocks, self._seed, self._samples
        )
        return coarse, DepthTransfer(self.runs, rule)
