"""The kinds of networks: what `[network]` of a job file may be, by its key `kind`.

Each file of this folder has the settings of some kinds, and how they make a network. Its kinds are
found because the file is there. A kind whose settings are `ClassifierOptions` can classify.
"""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator

from hpctrain.networks.kinds.base import ClassifierOptions
from hpctrain.networks.kinds.own import OwnNetworkOptions
from hpctrain.options import Choice, Options, find_classes, list_literals


def find_kinds() -> dict[str, type[Options]]:
    """Finds the settings of all kinds in this folder, by the values of `kind` that choose them."""
    found = find_classes(__name__, __path__, Options)
    return {kind: group for group in found for kind in list_literals(group, "kind")}


NETWORKS = Choice(
    key="kind",
    groups=find_kinds(),
    own=OwnNetworkOptions,
    example='or a torch module of your own as "my_net.py:Net"',
    default="residual",
)

CLASSIFIERS = tuple(each for each in NETWORKS.tags.values() if issubclass(each, ClassifierOptions))

# The settings of `[network]` in a job file: those of the kind that it names.
if TYPE_CHECKING:
    NetworkOptions = Any
else:
    NetworkOptions = Annotated[NETWORKS.union, Discriminator(NETWORKS.find_tag)]
