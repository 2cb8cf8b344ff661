"""The dense networks of PINNs."""

from typing import Literal

from pydantic import Field

from hpctrain.networks.dense import DenseNetwork
from hpctrain.options import Options


class DenseOptions(Options):
    """The dense network of a PINN."""

    kind: Literal["mlp", "residual"] = Field(
        "residual", description="plain, or with skip connections y + time_step * tanh(...)"
    )
    depth: int = Field(ge=2, description="number of layers: all linear maps, the output's too")
    width: int = Field(ge=1, description="neurons of a hidden layer")
    activation: Literal["tanh", "adaptive-tanh"] = Field(
        "adaptive-tanh", description="tanh(z), or tanh(10 a z) with one trainable a per layer"
    )
    time_step: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="dt, the weight of a residual layer's update"
    )
    scale_inputs: bool = Field(
        True, description="take coordinates scaled from the equation's domain to [-1, 1]"
    )

    def make(self, inputs: int) -> DenseNetwork:
        """The network that takes so many coordinates."""
        return DenseNetwork(
            inputs=inputs,
            width=self.width,
            depth=self.depth,
            residual=self.kind == "residual",
            adaptive=self.activation == "adaptive-tanh",
            time_step=self.time_step,
        )
