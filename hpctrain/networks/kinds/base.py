"""What every kind of classifier gives: its settings, and the network that they make."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from hpctrain.networks.module import ModuleNetwork
from hpctrain.options import Options

ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


class ClassifierOptions(Options, ABC):
    """The settings of a network that classifies."""

    @abstractmethod
    def make(self, samples: Tensor, classes: int, seed: int) -> ModuleNetwork:
        """The network for samples such as these (N, …), with one output a class."""
