"""Fully connected classifiers."""

import math
from functools import partial
from typing import Annotated, Literal

from annotated_types import Ge
from pydantic import Field
from torch import Tensor

from hpctrain.networks.classifiers import make_fcnn
from hpctrain.networks.kinds.base import ACTIVATIONS, ClassifierOptions
from hpctrain.networks.module import ModuleNetwork


class FCNNOptions(ClassifierOptions):
    """A fully connected classifier."""

    kind: Literal["fcnn"] = Field("fcnn", description="linear maps, an activation between them")
    hidden: list[Annotated[int, Ge(1)]] = Field(
        [32, 32], description="neurons of each hidden layer"
    )
    activation: Literal["relu", "tanh"] = Field("relu", description="of the hidden layers")

    def make(self, samples: Tensor, classes: int, seed: int) -> ModuleNetwork:
        shape = tuple(samples.shape[1:])
        inputs = math.prod(shape)
        make = partial(make_fcnn, inputs, self.hidden, classes, ACTIVATIONS[self.activation])
        widths = "-".join(map(str, (inputs, *self.hidden, classes)))
        return ModuleNetwork(f"fcnn {widths} ({self.activation})", make, shape, seed, samples)
