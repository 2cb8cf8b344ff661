"""No network."""

from typing import Literal

from pydantic import Field

from hpctrain.options import Options


class NoNetworkOptions(Options):
    """For problems whose parameters are no network's."""

    kind: Literal["none"] = Field("none", description="no network")
