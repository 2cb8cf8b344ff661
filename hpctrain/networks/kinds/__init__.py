"""The kinds of networks: `[network]` of a job file, a group by its `kind`.

A file of this folder holds the settings of some kinds, and how they make a network. It is found by
being there; one whose settings are `ClassifierOptions` serves classification.
"""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator

from hpctrain.networks.kinds.base import ClassifierOptions
from hpctrain.networks.kinds.own import OwnNetworkOptions
from hpctrain.options import Choice, Options, find_classes, list_literals


def find_kinds() -> dict[str, type[Options]]:
    """The settings of the kinds in this folder, by the values of `kind` that choose them."""
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
