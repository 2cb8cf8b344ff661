"""Convolutional classifiers of a fixed shape."""

from functools import partial
from typing import Literal

from pydantic import Field
from torch import Tensor

from hpctrain.networks.classifiers import lenet, resnet18
from hpctrain.networks.kinds.base import ClassifierOptions
from hpctrain.networks.module import ModuleNetwork

BUILDERS = {"lenet": lenet, "resnet-18": resnet18}


class ConvolutionalOptions(ClassifierOptions):
    """A convolutional classifier of a fixed shape."""

    kind: Literal["lenet", "resnet-18"] = Field(description="5 layers, or 18 with group norm")

    def make(self, samples: Tensor, classes: int, seed: int) -> ModuleNetwork:
        shape = tuple(samples.shape[1:])
        make = partial(BUILDERS[self.kind], shape, classes)
        return ModuleNetwork(self.kind, make, shape, seed, samples)
