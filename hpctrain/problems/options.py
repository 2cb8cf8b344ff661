"""The settings by which a job file chooses its problem: `[problem]`, a group by its `name`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from hpctrain.networks.options import (
    ConvolutionalOptions,
    ConvResNetOptions,
    DenseOptions,
    DenseResNetOptions,
    FCNNOptions,
    NoNetworkOptions,
    OwnNetworkOptions,
)
from hpctrain.options import Choice, Options, hint
from hpctrain.problems.classification.accuracy import name_columns
from hpctrain.problems.equations.errors import ErrorMonitor
from hpctrain.problems.equations.library import EQUATIONS
from hpctrain.problems.logistic.suboptimality import SuboptimalityMonitor

DATA_SETS = ("fashion-mnist", "mnist", "cifar-10", "svhn")


class ClusterOptions(Options):
    """Where collocation points lie denser along a coordinate: around a layer of the solution."""

    coordinate: str = Field(min_length=1, description='its name, such as "x"')
    at: float = Field(description="where the layer is")
    width: float = Field(gt=0, description="half of the cluster's points are so near")
    share: float = Field(0.5, gt=0, lt=1, description="part of all points in the cluster")


class PinnOptions(Options):
    """An equation to be solved by a network."""

    networks: ClassVar = (DenseOptions,)
    columns: ClassVar = ErrorMonitor.known_columns

    name: str = Field(description='a shipped equation, such as "burgers", or "my_pde.py:Heat"')
    points: int = Field(10_000, ge=1, description="collocation points, the samples of the loss")
    scale_distance: bool = Field(
        True, description="divide the distance function by its maximum over the domain"
    )
    clusters: list[ClusterOptions] = Field(
        [], description="layers around which the points are denser; by default none"
    )
    constraints: Literal["hard", "soft"] = Field(
        "hard", description="conditions hold exactly, or by penalty terms of the loss"
    )
    penalty: float = Field(1.0, gt=0, description="weight of each penalty term (soft)")
    condition_points: int = Field(
        200, ge=1, description="points of each condition on a face of the domain (soft)"
    )

    @field_validator("clusters")
    @classmethod
    def _leave_a_share(cls, clusters: list[ClusterOptions]) -> list[ClusterOptions]:
        for name in {cluster.coordinate for cluster in clusters}:
            shares = [cluster.share for cluster in clusters if cluster.coordinate == name]
            if sum(shares) >= 1:
                raise ValueError(f"shares along one coordinate, {name}, that add up to less than 1")
        return clusters


class ClassificationOptions(Options):
    """Images, or other tensors, to be told apart."""

    networks: ClassVar = (
        FCNNOptions,
        ConvolutionalOptions,
        DenseResNetOptions,
        ConvResNetOptions,
        OwnNetworkOptions,
    )

    name: Literal["classification"] = Field(
        "classification", description="cross-entropy of a network's outputs"
    )
    data: str = Field(
        description='"fashion-mnist", "mnist", "cifar-10", "svhn", or an HDF5 file of your own',
    )
    data_path: str | None = Field(
        None, min_length=1, description="folder that holds the data; by default data/NAME"
    )
    samples: int | None = Field(
        None, ge=1, description="training samples, drawn at random; by default all there are"
    )
    scaling: Literal["standard", "unit", "none"] = Field(
        "standard",
        description="of the inputs: to [0, 1], then mean 0 and variance 1 over the training set;"
        " to [0, 1] only; not at all",
    )
    output: Literal["logits", "sigmoid"] = Field(
        "logits",
        description="what the cross-entropy takes; of sigmoids it cannot fall below 1.461 with 10"
        " classes, as in published curves of APTS",
    )
    train_accuracy: bool = Field(
        False, description="measure the accuracy on the training samples too"
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """What its monitor measures."""
        return name_columns(self.train_accuracy)

    @field_validator("data")
    @classmethod
    def _is_known_or_a_file(cls, data: str) -> str:
        if data not in DATA_SETS and not data.endswith((".h5", ".hdf5")):
            known = ", ".join(f'"{name}"' for name in DATA_SETS)
            raise ValueError(
                f'one of {known}, or an HDF5 file of your own as "my_data.h5"'
                + hint(data, DATA_SETS)
            )
        return data


class LogisticOptions(Options):
    """Two classes, to be told apart by a plane."""

    networks: ClassVar = (NoNetworkOptions,)
    columns: ClassVar = SuboptimalityMonitor.columns

    name: Literal["logistic"] = Field("logistic", description="the l2-regularised logistic loss")
    data: str = Field(
        min_length=1,
        description="a file in LIBSVM format, or in HDF5 (*.h5, *.hdf5), with two labels",
    )
    ridge: float | None = Field(None, gt=0, description="λ, weight of ½ ‖θ‖²; by default 1/p")
    samples: int | None = Field(
        None, ge=1, description="the first so many samples of the file; by default all"
    )


PROBLEMS = Choice(
    key="name",
    groups={
        **dict.fromkeys(EQUATIONS, PinnOptions),
        "classification": ClassificationOptions,
        "logistic": LogisticOptions,
    },
    own=PinnOptions,
    example='or a class of your own as "my_pde.py:Heat"',
)

ProblemOptions = Annotated[
    Annotated[PinnOptions, Tag("PinnOptions")]
    | Annotated[ClassificationOptions, Tag("ClassificationOptions")]
    | Annotated[LogisticOptions, Tag("LogisticOptions")],
    Discriminator(PROBLEMS.tag),
]
