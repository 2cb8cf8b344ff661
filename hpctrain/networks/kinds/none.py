"""The kind of problems whose parameters do not belong to a network."""

from typing import Literal

from pydantic import Field

from hpctrain.options import Options


class NoNetworkOptions(Options):
    """No network, for problems whose parameters do not belong to one."""

    kind: Literal["none"] = Field("none", description="no network")
