"""What every kind of classifier has: settings, and a network that they make."""

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
        """Makes the network for samples like these, with one output for each class.

        Args:
            samples: some samples (N, …).
            classes: the number of classes.
            seed: determines what a module draws when it is made.
        """
