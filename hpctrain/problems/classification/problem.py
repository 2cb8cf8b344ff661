"""Classification: the cross-entropy of a network's outputs, a finite sum over training samples.

    L(θ) = -(1/|D|) Σ_j log softmax(N(x_j; θ))[c_j]

Any torch module does (`hpctrain.networks.module`). The training set is put into a random order
once, so that contiguous ranges of its numbers are random shares of it. A chunk of samples is
evaluated by one thread, with one backward sweep that gives its gradient.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from hpctrain.decomposition.blocks import LayerRange
from hpctrain.linalg.arrays import CPU, to_array
from hpctrain.linalg.randomness import make_generator
from hpctrain.networks.faults import NetworkError
from hpctrain.networks.module import ModuleNetwork
from hpctrain.networks.residual import ResidualNetwork
from hpctrain.networks.transfers import Rule, Transfer
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.tree import share_chunks
from hpctrain.problems.classification.accuracy import AccuracyMonitor
from hpctrain.problems.classification.loss import Chunk, CrossEntropy
from hpctrain.problems.data.sets import (
    DataError,
    DataSet,
    Part,
    Scaling,
    check_finite,
    fit_scaling,
)

# Channels of the usual images.
IMAGE_CHANNELS = (1, 3, 4)


class ClassificationProblem:
    """A data set and a network that is to tell its classes apart.

    Args:
        data: training and test samples.
        network: its outputs are one number a class.
        seed: of the order of the training samples.
        dtype: the precision of all numbers.
        scaling: of the inputs; by default to mean 0 and variance 1 over the training samples.
        output: "logits", or "sigmoid" for the sigmoid of the network's outputs in their place.
        samples: how many training samples there are to be, by default all.
        train_accuracy: whether the monitor measures the training samples too.
        test_samples: how many test samples it measures, by default all.
        device: where the loss is evaluated.

    Attributes:
        cautions: what is allowed, but hardly meant.
        scaling, output: as given.

    Raises:
        DataError: the data is damaged, or has fewer samples than asked for.
        NetworkError: the network's outputs do not fit the classes.
    """

    def __init__(
        self,
        data: DataSet,
        network: ModuleNetwork,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        scaling: Scaling | None = None,
        output: str = "logits",
        samples: int | None = None,
        train_accuracy: bool = False,
        test_samples: int | None = None,
        device: torch.device = CPU,
    ) -> None:
        if network.outputs != (data.classes,):
            raise NetworkError(
                f"{network.name}: outputs of shape {network.outputs}, but {data.name} has"
                f" {data.classes} classes"
            )
        self.samples = _limit("samples", samples, data.name, data.train.count, "training")
        self.test_samples = _limit("test_samples", test_samples, data.name, data.test.count, "test")
        self.data = data
        self.network = network
        self.parameters = network.parameters
        self._train_accuracy = train_accuracy
        self._dtype = dtype
        self._device = device
        self.output = output
        self.scaling = scaling or fit_scaling(data.train, "standard")
        check_finite(data.test)
        self.cautions = tuple(_list_cautions(data, network, output))
        order = make_generator(seed, "training set").permutation(data.train.count)
        self._order = order[: self.samples]
        drawn = make_generator(seed, "test set").permutation(data.test.count)
        self._tested = np.sort(drawn[: self.test_samples])
        self._whole: dict[tuple[int, int, int], list[Chunk]] = {}

    @property
    def layers(self) -> list[LayerRange]:
        return self.network.layers

    def make_initial_parameters(self, seed: int) -> Tensor:
        """θ₀ (n,), as the network initialises itself."""
        return self.network.make_initial_parameters(seed).to(self._device, self._dtype)

    def describe(self) -> str:
        return (
            f"{self.data.name}, {self.samples} training and {self.test_samples} test samples,"
            f" network {self.network.name},{self._describe_fixed()} {self.output}"
        )

    def _describe_fixed(self) -> str:
        """The parameters that the network's module does not let train, if there are any."""
        fixed = self.network.fixed
        numbers = sum(shape.numel() for shape in fixed)
        tensors = "1 tensor" if len(fixed) == 1 else f"{len(fixed)} tensors"
        return f" {tensors} of parameters ({numbers:,} numbers) fixed," if fixed else ""

    def share(self, chunks: int, rank: int, ranks: int, threads: int) -> CrossEntropy:
        """The loss over the chunks of training samples that rank `rank` of `ranks` holds."""
        key = chunks, rank, ranks
        if key not in self._whole:
            self._whole[key] = self._train_chunks(np.arange(self.samples), *key)
        return self._loss(self._whole[key], threads)

    def share_samples(
        self, samples: Tensor, chunks: int, rank: int, ranks: int, threads: int
    ) -> CrossEntropy:
        """The same over some training samples, cut into chunks of their own.

        Args:
            samples: their numbers, ascending.

        Raises:
            DataError: a chunk would be left without a sample.
        """
        if len(samples) < chunks:
            raise DataError(
                f"{len(samples)} samples are too few for {chunks} chunks (parallel.chunks)"
            )
        return self._loss(self._train_chunks(to_array(samples), chunks, rank, ranks), threads)

    def _loss(self, held: list[Chunk], threads: int) -> CrossEntropy:
        return CrossEntropy(self.network, held, threads, self._dtype, self.output, self._device)

    def share_test_samples(self, chunks: int, rank: int, ranks: int, threads: int) -> CrossEntropy:
        """The same over the test samples that are measured."""
        numbers = _cut_share(self._tested, chunks, rank, ranks)
        return self._loss(self._read(self.data.test, numbers, numbers), threads)

    @property
    def classes(self) -> np.ndarray:
        """What samples may be, (classes,)."""
        return np.arange(self.data.classes)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return self.data.train.shape

    def make_classifier(self, theta: Tensor) -> Callable[[np.ndarray], np.ndarray]:
        """A function of samples (N, …) as they are stored, not scaled: probabilities (N, classes).

        Args:
            theta: (n,).
        """
        replica = self.network.replica(self._dtype, self._device)
        replica.load(theta, 0)
        precision = np.dtype(str(self._dtype).removeprefix("torch."))

        def classify(samples: np.ndarray) -> np.ndarray:
            inputs = torch.tensor(self.scaling(samples, precision), device=self._device)
            with torch.no_grad():
                outputs = replica.run(inputs, 0)
                scores = torch.sigmoid(outputs) if self.output == "sigmoid" else outputs
                return to_array(torch.softmax(scores, dim=1))

        return classify

    def make_monitor(
        self, communicator: Communicator, chunks: int, threads: int
    ) -> AccuracyMonitor:
        """Accuracy and loss on the test set, and on the training set where it is asked for."""
        place = chunks, communicator.rank, communicator.size, threads
        with communicator.timer.phase("validation"):
            sets = {"test": self.share_test_samples(*place)}
            if self._train_accuracy:
                sets["train"] = self.share(*place)
        return AccuracyMonitor(sets, communicator, chunks)

    def coarsen(self, rule: Rule) -> tuple["ClassificationProblem", Transfer]:
        """The same samples for a network of half the depth, and the transfer between the two.

        Raises:
            NetworkError: there is no such network.
        """
        if not isinstance(self.network, ResidualNetwork):
            raise NetworkError(f"{self.network.name} is no residual network, whose depth halves")
        coarse = copy.copy(self)
        coarse.network, transfer = self.network.coarsen(rule)
        coarse.parameters = coarse.network.parameters
        return coarse, transfer

    def _train_chunks(self, numbers: np.ndarray, chunks: int, rank: int, ranks: int) -> list[Chunk]:
        held = _cut_share(numbers, chunks, rank, ranks)
        rows = [self._order[each] for each in held]
        return self._read(self.data.train, held, rows)

    def _read(
        self, part: Part, numbers: Sequence[np.ndarray], rows: Sequence[np.ndarray]
    ) -> list[Chunk]:
        """Chunks of samples, each in memory of its own: its alignment must not depend on a rank."""
        all_rows = np.concatenate(rows)
        raw, labels = part.rows(all_rows), part.labels[all_rows].astype(np.int64)
        precision = np.dtype(str(self._dtype).removeprefix("torch."))
        chunks, first = [], 0
        for its in numbers:
            last = first + len(its)
            inputs = torch.tensor(self.scaling(raw[first:last], precision), device=self._device)
            own_labels = torch.tensor(labels[first:last], device=self._device)
            chunks.append(Chunk(its, inputs, own_labels))
            first = last
        return chunks


def _limit(key: str, asked: int | None, name: str, count: int, kind: str) -> int:
    """The number of samples that a setting asks for; by default all that a data set has."""
    if asked is not None and asked > count:
        raise DataError(
            f"problem.{key} = {asked} is not allowed: {name} has {count} {kind} samples"
        )
    return asked or count


def _list_cautions(data: DataSet, network: ModuleNetwork, output: str) -> Iterator[str]:
    if network.gives_probabilities and output == "logits":
        yield (
            f"{network.name}: its outputs are probabilities, but the loss takes logits and makes"
            " probabilities of them: leave out the last softmax"
        )
    shape = data.train.shape
    if len(shape) == 3 and shape[2] in IMAGE_CHANNELS and shape[0] not in IMAGE_CHANNELS:
        height, width, channels = shape
        yield (
            f"{data.train.source}: samples of {height} x {width} x {channels} are taken as images"
            f" of {height} channels: if the last is the channels, store them as (N, {channels},"
            f" {height}, {width})"
        )


def _cut_share(numbers: np.ndarray, chunks: int, rank: int, ranks: int) -> list[np.ndarray]:
    """The numbers of each chunk that a rank holds."""
    first, last = share_chunks(chunks, ranks)[rank]
    bounds = [chunk * len(numbers) // chunks for chunk in range(first, last + 1)]
    return [numbers[a:b] for a, b in pairwise(bounds)]
