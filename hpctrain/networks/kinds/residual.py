"""Residual classifiers of any depth, with blocks y + dt σ(W y + b), dt = T / K."""

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

from annotated_types import Ge
from pydantic import Field
from torch import Tensor, nn

from hpctrain.networks.kinds.base import ACTIVATIONS, ClassifierOptions
from hpctrain.networks.residual import ResidualNetwork, make_convolutional_resnet, make_dense_resnet


class ResNetOptions(ClassifierOptions):
    """Settings of residual classifiers of any depth, with blocks y + dt σ(W y + b), dt = T / K."""

    blocks: int = Field(20, ge=1, description="K, residual blocks, of each stage if convolutional")
    time: float = Field(1.0, gt=0, description="T, the same for every number of blocks")
    activation: Literal["relu", "tanh"] = Field("tanh", description="σ")

    def _assemble(
        self, name: str, make: Callable[[int], nn.Module], samples: Tensor, seed: int
    ) -> ResidualNetwork:
        """Makes the network, whose module of K blocks is what `make` returns for K."""
        title = f"{name} ({self.activation}), T = {self.time:g}"
        shape = tuple(samples.shape[1:])
        return ResidualNetwork(title, make, shape, self.blocks, seed, samples)


class DenseResNetOptions(ResNetOptions):
    """A fully connected residual classifier."""

    kind: Literal["dense-resnet"] = Field("dense-resnet", description="residual blocks")
    width: int = Field(50, ge=1, description="neurons of each block")

    def make(self, samples: Tensor, classes: int, seed: int) -> ResidualNetwork:
        inputs, activation = math.prod(samples.shape[1:]), ACTIVATIONS[self.activation]
        make = partial(make_dense_resnet, inputs, self.width, classes, self.time, activation)
        return self._assemble(f"dense-resnet {inputs}-{self.width}-{classes}", make, samples, seed)


class ConvResNetOptions(ResNetOptions):
    """A convolutional residual classifier."""

    kind: Literal["conv-resnet"] = Field("conv-resnet", description="stages of residual blocks")
    filters: list[Annotated[int, Ge(1)]] = Field(
        [32, 64, 128], min_length=1, description="channels of each stage, half the size of the last"
    )
    first_stride: int = Field(1, ge=1, description="of the first convolution")

    def make(self, samples: Tensor, classes: int, seed: int) -> ResidualNetwork:
        make = partial(
            make_convolutional_resnet,
            tuple(samples.shape[1:]),
            self.filters,
            classes,
            self.time,
            ACTIVATIONS[self.activation],
            self.first_stride,
        )
        name = f"conv-resnet {'-'.join(map(str, self.filters))}"
        return self._assemble(name, make, samples, seed)
