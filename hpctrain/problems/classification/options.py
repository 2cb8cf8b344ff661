"""The settings of a classification problem, and the problem that they make."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator

from hpctrain.kernels import find_dtype as type_of
from hpctrain.linalg.arrays import CPU
from hpctrain.networks.checks.probe import BATCH
from hpctrain.networks.kinds import CLASSIFIERS
from hpctrain.options import suggest
from hpctrain.problems.base import FamilyOptions
from hpctrain.problems.classification.accuracy import name_columns
from hpctrain.problems.classification.problem import ClassificationProblem
from hpctrain.problems.data import shipped
from hpctrain.problems.data.sets import DataSet, Part, count_classes, fit_scaling
from hpctrain.problems.data.shipped import DATA_SETS
from hpctrain.store.data_sets import read_data_set


class ClassificationOptions(FamilyOptions):
    """Images, or other tensors, to be told apart."""

    names: ClassVar = ("classification",)
    networks: ClassVar = CLASSIFIERS

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
    test_samples: int | None = Field(
        None, ge=1, description="test samples to measure, drawn at random; by default all there are"
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

    @field_validator("data")
    @classmethod
    def _is_known_or_a_file(cls, data: str) -> str:
        if data not in DATA_SETS and not data.endswith((".h5", ".hdf5")):
            known = ", ".join(f'"{name}"' for name in DATA_SETS)
            raise ValueError(
                f'one of {known}, or an HDF5 file of your own as "my_data.h5"'
                + suggest(data, DATA_SETS)
            )
        return data

    @property
    def subject(self) -> str:
        return self.data

    @property
    def columns(self) -> tuple[str, ...]:
        return name_columns(("test", "train") if self.train_accuracy else ("test",))

    def make(
        self, network: Any, seed: int, precision: str, device: torch.device
    ) -> ClassificationProblem:
        data = load_data(self.data, self.data_path)
        scaling = fit_scaling(data.train, self.scaling)
        # A module is tried on samples as it will be fed with.
        numbers = scaling(data.train.few(BATCH), np.dtype(precision))
        samples = torch.tensor(numbers, device=CPU)
        return ClassificationProblem(
            data,
            network.make(samples, data.classes, seed),
            seed,
            type_of(precision),
            scaling,
            self.output,
            self.samples,
            self.train_accuracy,
            self.test_samples,
            device,
        )


def load_data(data: str, folder: str | None) -> DataSet:
    """The data set that a job names: a shipped one, or the user's own in an HDF5 file."""
    if data in DATA_SETS:
        return shipped.load(data, folder)
    train, test = (
        Part(each.source, each.shape, each.labels, each.blocks)
        for each in read_data_set(Path(folder or "") / data)
    )
    return DataSet(Path(data).stem, train, test, count_classes(train))
