"""Residual classifiers whose depth is a discretisation of time, and can be halved.

    y_k+1 = y_k + dt F(y_k, θ_k),   k = 1 … K,   dt = T / K,   F(y, θ) = σ(W y + b)

The final time T is fixed, so that networks of any depth approximate one ordinary differential
equation. W is a matrix, or a convolution 3 x 3 with equal channels. A convolutional network has
several stages of K blocks each; a strided convolution before each but the first halves the images.

Sources: Haber and Ruthotto, Inverse Problems 34 (2018), arXiv 1705.03341; Kopaničáková and Krause,
SIAM Journal on Scientific Computing 45(3) (2023), arXiv 2107.07572.
"""

from collections.abc import Callable
from functools import partial
from itertools import groupby

from torch import Tensor, nn

from hpctrain.networks.classifiers import image_shape
from hpctrain.networks.module import ModuleNetwork, NetworkError
from hpctrain.transfers import RULES, DepthTransfer, Rule, Run


class EulerBlock(nn.Module):
    """y + dt σ(W y + b).

    Args:
        map: W y + b, of as many outputs as inputs.
        activation: σ.
        dt: the time step.
    """

    def __init__(self, map: nn.Module, activation: nn.Module, dt: float) -> None:
        super().__init__()
        self.map = map
        self.activation = activation
        self.dt = dt

    def forward(self, y: Tensor) -> Tensor:
        return y + self.dt * self.activation(self.map(y))


def dense_resnet(
    inputs: int,
    width: int,
    classes: int,
    time: float,
    activation: type[nn.Module],
    blocks: int,
) -> nn.Module:
    """A first layer inputs → width, K blocks of that width, a last layer width → classes."""
    body = [EulerBlock(nn.Linear(width, width), activation(), time / blocks) for _ in range(blocks)]
    first = [nn.Flatten(), nn.Linear(inputs, width), activation()]
    return nn.Sequential(*first, *body, nn.Linear(width, classes))


def convolutional_resnet(
    shape: tuple[int, ...],
    filters: list[int],
    classes: int,
    time: float,
    activation: type[nn.Module],
    first_stride: int,
    blocks: int,
) -> nn.Module:
    """A first convolution, stages of K blocks with so many filters each, the mean, a last layer.

    Args:
        shape: (channels, height, width) of an image.
        first_stride: of the first convolution.
        blocks: K, of each stage.
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
    """A chain with stages of Euler blocks, whose number may be halved.

    Args:
        name: of the network, but for its depth.
        make: builds it with K blocks a stage.
        inputs: the shape of one sample.
        blocks: K.
    """

    def __init__(
        self, name: str, make: Callable[[int], nn.Module], inputs: tuple[int, ...], blocks: int
    ) -> None:
        super().__init__(f"{name}, {blocks} blocks", partial(make, blocks), inputs)
        self.blocks = blocks
        self._title = name
        self._build = make
        self._inputs = inputs

    @property
    def runs(self) -> list[Run]:
        """θ as stages of blocks, and the layers between them, which all depths share."""
        is_block = [isinstance(next(stage.children()), EulerBlock) for stage in self.stages]
        layers = zip(self.layers, is_block, strict=True)
        runs = []
        for in_stage, group in groupby(layers, key=lambda each: each[1]):
            sizes = [layer.stop - layer.start for layer, _ in group]
            runs.append(Run(sizes[0], len(sizes)) if in_stage else Run(sum(sizes)))
        return runs

    def coarsened(self, rule: Rule) -> "tuple[ResidualNetwork, DepthTransfer]":
        """The network of about half the blocks, and the transfer between the two.

        Raises:
            NetworkError: so many blocks cannot be halved.
        """
        blocks = RULES[rule].coarse_depth(self.blocks)
        if blocks is None:
            wanted = {"constant": "an even number, 2 K", "linear": "an odd number, 2 K - 1"}[rule]
            raise NetworkError(
                f"{self.name}: no coarser level by a {rule} transfer, which takes {wanted}"
            )
        coarse = ResidualNetwork(self._title, self._build, self._inputs, blocks)
        return coarse, DepthTransfer(self.runs, rule)
