"""The settings of logistic regression, and the problem that they make."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from hpctrain.kernels import find_dtype as type_of
from hpctrain.networks.kinds.none import NoNetworkOptions
from hpctrain.problems.base import FamilyOptions
from hpctrain.problems.data.libsvm import read_libsvm
from hpctrain.problems.logistic.problem import LabelledRows, LogisticProblem
from hpctrain.problems.logistic.suboptimality import SuboptimalityMonitor
from hpctrain.store.samples import read_samples


class LogisticOptions(FamilyOptions):
    """Two classes, to be told apart by a plane."""

    names: ClassVar = ("logistic",)
    networks: ClassVar = (NoNetworkOptions,)
    evaluates_on_cpu: ClassVar = True

    name: Literal["logistic"] = Field("logistic", description="the l2-regularised logistic loss")
    data: str = Field(
        min_length=1,
        description="a file in LIBSVM format, or in HDF5 (*.h5, *.hdf5), with two labels",
    )
    ridge: float | None = Field(None, gt=0, description="λ, weight of ½ ‖θ‖²; by default 1/p")
    samples: int | None = Field(
        None, ge=1, description="the first so many samples of the file; by default all"
    )

    @property
    def subject(self) -> str:
        return self.data

    @property
    def columns(self) -> tuple[str, ...]:
        return SuboptimalityMonitor.columns

    def make(
        self, network: Any, seed: int, precision: str, device: torch.device
    ) -> LogisticProblem:
        path = self.data
        if path.endswith((".h5", ".hdf5")):
            data = LabelledRows(*read_samples(path))
        else:
            data = read_libsvm(path)
        if self.samples is not None:
            data = LabelledRows(data.features[: self.samples], data.labels[: self.samples])
        return LogisticProblem(data, path, self.ridge, type_of(precision), device)
