"""The settings by which a job file chooses its network: `[network]`, a group by its `kind`."""

from typing import Annotated, Literal

from annotated_types import Ge
from pydantic import Discriminator, Field, Tag

from hpctrain.options import Choice, Options


class NoNetworkOptions(Options):
    """For problems whose parameters are no network's."""

    kind: Literal["none"] = Field("none", description="no network")


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


class FCNNOptions(Options):
    """A fully connected classifier."""

    kind: Literal["fcnn"] = Field("fcnn", description="linear maps, an activation between them")
    hidden: list[Annotated[int, Ge(1)]] = Field(
        [32, 32], description="neurons of each hidden layer"
    )
    activation: Literal["relu", "tanh"] = Field("relu", description="of the hidden layers")


class ConvolutionalOptions(Options):
    """A convolutional classifier of a fixed shape."""

    kind: Literal["lenet", "resnet-18"] = Field(description="5 layers, or 18 with group norm")


class ResNetOptions(Options):
    """What residual classifiers of any depth have in common: y + dt σ(W y + b), dt = T / K."""

    blocks: int = Field(20, ge=1, description="K, residual blocks, of each stage if convolutional")
    time: float = Field(1.0, gt=0, description="T, the same for every number of blocks")
    activation: Literal["relu", "tanh"] = Field("tanh", description="σ")


class DenseResNetOptions(ResNetOptions):
    """A fully connected residual classifier."""

    kind: Literal["dense-resnet"] = Field("dense-resnet", description="residual blocks")
    width: int = Field(50, ge=1, description="neurons of each block")


class ConvResNetOptions(ResNetOptions):
    """A convolutional residual classifier."""

    kind: Literal["conv-resnet"] = Field("conv-resnet", description="stages of residual blocks")
    filters: list[Annotated[int, Ge(1)]] = Field(
        [32, 64, 128], min_length=1, description="channels of each stage, half the size of the last"
    )
    first_stride: int = Field(1, ge=1, description="of the first convolution")


class OwnNetworkOptions(Options):
    """A torch module from a file of the user's own."""

    kind: str = Field(description='such as "my_net.py:Net"')


NETWORKS = Choice(
    key="kind",
    groups={
        "mlp": DenseOptions,
        "residual": DenseOptions,
        "fcnn": FCNNOptions,
        "lenet": ConvolutionalOptions,
        "resnet-18": ConvolutionalOptions,
        "dense-resnet": DenseResNetOptions,
        "conv-resnet": ConvResNetOptions,
        "none": NoNetworkOptions,
    },
    own=OwnNetworkOptions,
    example='or a torch module of your own as "my_net.py:Net"',
    default="residual",
)

NetworkOptions = Annotated[
    Annotated[NoNetworkOptions, Tag("NoNetworkOptions")]
    | Annotated[DenseOptions, Tag("DenseOptions")]
    | Annotated[FCNNOptions, Tag("FCNNOptions")]
    | Annotated[ConvolutionalOptions, Tag("ConvolutionalOptions")]
    | Annotated[DenseResNetOptions, Tag("DenseResNetOptions")]
    | Annotated[ConvResNetOptions, Tag("ConvResNetOptions")]
    | Annotated[OwnNetworkOptions, Tag("OwnNetworkOptions")],
    Discriminator(NETWORKS.tag),
]
