"""Networks that a user wrote, as torch modules in files of their own."""

from pydantic import Field
from torch import Tensor, nn

from hpctrain.linalg.randomness import seed_generators
from hpctrain.networks.kinds.base import ClassifierOptions
from hpctrain.networks.module import ModuleNetwork
from hpctrain.options import ClassName
from hpctrain.user_code.own_class import own_class


class OwnNetworkOptions(ClassifierOptions):
    """A torch module from a file of the user's own."""

    kind: ClassName = Field(description='such as "my_net.py:Net"')

    def make(self, samples: Tensor, classes: int, seed: int) -> ModuleNetwork:
        with seed_generators(seed, "network file"):
            made = own_class("network.kind", self.kind, nn.Module)
        return ModuleNetwork(self.kind, made, tuple(samples.shape[1:]), seed, samples)
