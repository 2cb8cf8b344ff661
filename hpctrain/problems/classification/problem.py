"""Classification: the cross-entropy of a network's outputs, a finite sum over training samples.

    L(θ) = -(1/|D|) Σ_j log softmax(N(x_j; θ))[c_j]

Any torch module does (`hpctrain.networks.module`). The training set is put into a random order
once, so that contiguous ranges of its numbers are random shares of it. A chunk of samples is
evaluated by one thread, with one backward sweep that gives its gradient.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hpctrain.decomposition.blocks import LayerRange, LayerSet, Region
from hpctrain.errors import UserCodeError
from hpctrain.kernels.pool import pool
from hpctrain.linalg.arrays import CPU, to_array, to_tensor
from hpctrain.linalg.randomness import generator
from hpctrain.networks.faults import NetworkError
from hpctrain.networks.module import ModuleNetwork, Replica
from hpctrain.networks.residual import ResidualNetwork, block_of
from hpctrain.networks.transfers import Rule, Transfer
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.tree import shares
from hpctrain.problems.classification.accuracy import AccuracyMonitor
from hpctrain.problems.data.sets import (
    DataError,
    DataSet,
    Part,
    Scaling,
    check_finite,
    fit_scaling,
)
from hpctrain.user_code.faults import explain

# Channels of the usual images.
IMAGE_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Chunk:
    """Some samples: their numbers in the training set (ascending), inputs and labels."""

    numbers: np.ndarray
    inputs: Tensor
    labels: Tensor


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
        device: where the loss is evaluated.

    Attributes:
        cautions: what is allowed, but hardly meant.

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
        device: torch.device = CPU,
    ) -> None:
        if network.outputs != (data.classes,):
            raise NetworkError(
                f"{network.name}: outputs of shape {network.outputs}, but {data.name} has"
                f" {data.classes} classes"
            )
        if samples is not None and samples > data.train.count:
            raise DataError(
                f"problem.samples = {samples} is not allowed: {data.name} has"
                f" {data.train.count} training samples"
            )
        self.data = data
        self.network = network
        self.samples = samples or data.train.count
        self.parameters = network.parameters
        self.train_accuracy = train_accuracy
        self._dtype = dtype
        self._device = device
        self._output = output
        self._scaling = scaling or fit_scaling(data.train, "standard")
        check_finite(data.test)
        self.cautions = tuple(_cautions(data, network, output))
        order = generator(seed, "training set").permutation(data.train.count)
        self._order = order[: self.samples]
        self._whole: dict[tuple[int, int, int], list[Chunk]] = {}

    @property
    def layers(self) -> list[LayerRange]:
        return self.network.layers

    def initial_parameters(self, seed: int) -> Tensor:
        """θ₀ (n,), as the network initialises itself."""
        return self.network.initial_parameters(seed).to(self._device, self._dtype)

    def describe(self) -> str:
        return (
            f"{self.data.name}, {self.samples} training and {self.data.test.count} test samples,"
            f" network {self.network.name},{self._described_fixed()} {self._output}"
        )

    def _described_fixed(self) -> str:
        """The parameters that the network's module does not let train, if there are any."""
        fixed = self.network.fixed
        numbers = sum(shape.numel() for shape in fixed)
        tensors = "1 tensor" if len(fixed) == 1 else f"{len(fixed)} tensors"
        return f" {tensors} of parameters ({numbers:,} numbers) fixed," if fixed else ""

    def share(self, chunks: int, rank: int, ranks: int, threads: int) -> "CrossEntropy":
        """The loss over the chunks of training samples that rank `rank` of `ranks` holds."""
        key = chunks, rank, ranks
        if key not in self._whole:
            self._whole[key] = self._train_chunks(np.arange(self.samples), *key)
        return self._loss(self._whole[key], threads)

    def share_of(
        self, samples: Tensor, chunks: int, rank: int, ranks: int, threads: int
    ) -> "CrossEntropy":
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

    def _loss(self, held: list[Chunk], threads: int) -> "CrossEntropy":
        return CrossEntropy(self.network, held, threads, self._dtype, self._output, self._device)

    def test_share(self, chunks: int, rank: int, ranks: int, threads: int) -> "CrossEntropy":
        """The same over the test samples."""
        numbers = _share_of(np.arange(self.data.test.count), chunks, rank, ranks)
        return self._loss(self._read(self.data.test, numbers, numbers), threads)

    def monitor(self, communicator: Communicator, chunks: int, threads: int) -> AccuracyMonitor:
        """Accuracy and loss on the test set; collective."""
        return AccuracyMonitor(self, communicator, chunks, threads)

    def coarsened(self, rule: Rule) -> tuple["ClassificationProblem", Transfer]:
        """The same samples for a network of half the depth, and the transfer between the two.

        Raises:
            NetworkError: there is no such network.
        """
        if not isinstance(self.network, ResidualNetwork):
            raise NetworkError(f"{self.network.name} is no residual network, whose depth halves")
        coarse = copy.copy(self)
        coarse.network, transfer = self.network.coarsened(rule)
        coarse.parameters = coarse.network.parameters
        return coarse, transfer

    def _train_chunks(self, numbers: np.ndarray, chunks: int, rank: int, ranks: int) -> list[Chunk]:
        held = _share_of(numbers, chunks, rank, ranks)
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
            inputs = torch.tensor(self._scaling(raw[first:last], precision), device=self._device)
            own_labels = torch.tensor(labels[first:last], device=self._device)
            chunks.append(Chunk(its, inputs, own_labels))
            first = last
        return chunks


def _cautions(data: DataSet, network: ModuleNetwork, output: str) -> Iterator[str]:
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


def _share_of(numbers: np.ndarray, chunks: int, rank: int, ranks: int) -> list[np.ndarray]:
    """The numbers of each chunk that a rank holds."""
    first, last = shares(chunks, ranks)[rank]
    bounds = [chunk * len(numbers) // chunks for chunk in range(first, last + 1)]
    return [numbers[a:b] for a, b in pairwise(bounds)]


@dataclass(frozen=True)
class _Frozen:
    """What a restriction does not change: θ outside its region."""

    region: Region
    theta: Tensor


class CrossEntropy:
    """Sums of the loss over chunks of samples; see `objective.FiniteSumLoss`."""

    def __init__(
        self,
        network: ModuleNetwork,
        chunks: list[Chunk],
        threads: int,
        dtype: torch.dtype,
        output: str,
        device: torch.device,
    ) -> None:
        self.dtype, self.device = dtype, device
        self._network = network
        self._pool = pool(threads)
        self._replicas = [network.replica(dtype, device) for _ in range(threads)]
        self._output = output
        self._chunks = chunks
        self._set_region(None)

    def _set_region(self, frozen: _Frozen | None) -> None:
        layers = self._network.layers
        self._frozen = frozen
        self._trained = _layers_of(frozen.region) if frozen else list(range(len(layers)))
        self._first = self._trained[0] if self._network.is_chain else 0
        self.parameters = frozen.region.size if frozen else self._network.parameters
        # Forward through the layers from the first on, back through all of them but that one (of
        # which only what is fixed behind its weights), and one product more for all weights that
        # are trained.
        above = sum(layer.cost for layer in layers[self._first :])
        adjoint = sum(layer.cost for layer in layers[self._first + 1 :])
        adjoint += self._network.behind_costs[self._first]
        products = sum(self._network.trained_costs[layer] for layer in self._trained)
        self.prefix_cost = sum(layer.cost for layer in layers[: self._first])
        self.loss_cost = above
        self.gradient_cost = above + adjoint + products

    def restrict(self, region: Region, theta: Tensor) -> "CrossEntropy":
        """See `objective.SampledLoss`. The activations below the region are evaluated here, once.

        Of a network that is no chain there are none: it is evaluated whole.
        """
        restricted = copy.copy(self)
        restricted._set_region(_Frozen(region, theta.clone()))
        if restricted._first > 0:
            for replica in self._replicas:
                replica.load(theta, 0)
            restricted._chunks = self._map(partial(_behind, restricted._first))
        return restricted

    def subset(self, chosen: Tensor) -> "CrossEntropy":
        """See `objective.FiniteSumLoss`."""
        numbers = to_array(chosen)

        def select(_: Replica, chunk: Chunk) -> Chunk:
            kept = np.flatnonzero(_is_among(chunk.numbers, numbers))
            rows = to_tensor(kept, self.device)
            # Three times as fast as an index in brackets, and no small part of an iteration.
            return Chunk(
                chunk.numbers[kept],
                chunk.inputs.index_select(0, rows),
                chunk.labels.index_select(0, rows),
            )

        part = copy.copy(self)
        part._chunks = self._map(select)
        return part

    def losses(self, theta: Tensor) -> Tensor:
        sums = theta.new_empty(len(self._chunks))

        def evaluate(replica: Replica, index: int) -> None:
            sums[index] = self._loss(replica, index)

        self._evaluate(theta, evaluate, sums)
        return sums

    def losses_and_gradients(self, theta: Tensor) -> Tensor:
        sums = theta.new_empty(len(self._chunks), 1 + self.parameters)

        def evaluate(replica: Replica, index: int) -> None:
            loss = self._loss(replica, index)
            parameters = self._trained_in(replica)
            gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
            parts = [loss.detach().view(1), *(each.reshape(-1) for each in gradients)]
            torch.cat(parts, out=sums[index])

        self._evaluate(theta, evaluate, sums, self._trained)
        return sums

    def hessian_vectors(self, theta: Tensor, v: Tensor) -> Tensor:
        sums = theta.new_empty(len(self._chunks), self.parameters)

        def evaluate(replica: Replica, index: int) -> None:
            parameters = self._trained_in(replica)
            gradients = torch.autograd.grad(
                self._loss(replica, index), parameters, create_graph=True, materialize_grads=True
            )
            parts = v.split([each.numel() for each in parameters])
            # The gradient by a parameter that the loss does not depend on is zero, and constant.
            moving = [k for k, gradient in enumerate(gradients) if gradient.requires_grad]
            products = torch.autograd.grad(
                [gradients[k] for k in moving],
                parameters,
                [parts[k].view(gradients[k].shape) for k in moving],
                materialize_grads=True,
            )
            torch.cat([each.reshape(-1) for each in products], out=sums[index])

        self._evaluate(theta, evaluate, sums, self._trained)
        return sums

    def scores(self, theta: Tensor) -> Tensor:
        """Σ ℓ_j, the number of samples classified rightly, and of all, over each chunk, (C, 3)."""
        sums = theta.new_empty(len(self._chunks), 3, dtype=torch.float64)

        def evaluate(replica: Replica, index: int) -> None:
            outputs, labels = self._outputs(replica, index), self._chunks[index].labels
            sums[index, 0] = functional.cross_entropy(outputs, labels, reduction="sum")
            sums[index, 1] = (outputs.argmax(dim=1) == labels).sum()
            sums[index, 2] = len(labels)

        self._evaluate(theta, evaluate, sums)
        return sums

    @property
    def half_step_cost(self) -> float:
        return sum(
            layer.cost * (1 + (block.half_step_cost if block else 0))
            for layer, block in zip(
                self._network.layers, map(block_of, self._network.stages), strict=True
            )
        )

    def half_step_systems(self, theta: Tensor) -> Iterator[Tensor]:
        """See `objective.HalvableLoss`."""
        for replica in self._replicas:
            replica.load(theta, 0)
        fed = self
        for layer, stage in enumerate(self._network.stages):
            if block_of(stage):
                yield fed._half_step_systems(layer)
            fed = fed._advanced(layer, layer + 1)

    def _half_step_systems(self, layer: int) -> Tensor:
        """Of the block that the chunks are fed to, (C, q + 1, q + 1 + c)."""
        found = dict[int, Tensor]()

        def sum_up(thread: int, index: int) -> None:
            if block := block_of(self._replicas[thread].stages[layer]):
                found[index] = block.half_step_system(self._chunks[index].inputs)

        self._each(sum_up)
        return torch.stack([found[index] for index in range(len(self._chunks))])

    def _advanced(self, first: int, last: int) -> "CrossEntropy":
        """The same samples behind the layers `first` to `last` - 1, whose θ is in the replicas."""
        advanced = copy.copy(self)
        advanced._chunks = self._map(
            lambda replica, chunk: replace(chunk, inputs=replica.run(chunk.inputs, first, last))
        )
        return advanced

    def _evaluate(
        self,
        theta: Tensor,
        function: Callable[[Replica, int], None],
        sums: Tensor,
        trained: Sequence[int] = (),
    ) -> None:
        """Calls function(replica, index), which is to fill sums[index], for each chunk.

        θ is in the replica then, and the layers `trained` can be differentiated by. The sums of
        empty chunks are zero.
        """
        full = theta
        if self._frozen is not None:
            full = self._frozen.theta
            self._frozen.region.replace(full, theta)
        for replica in self._replicas:
            replica.load(full, self._first, trained)

        def evaluate(thread: int, index: int) -> None:
            if len(self._chunks[index].labels):
                function(self._replicas[thread], index)
            else:
                sums[index] = 0

        self._each(evaluate)

    def _map(self, function: Callable[[Replica, Chunk], Chunk]) -> list[Chunk]:
        """What a function makes of each chunk."""
        chunks = list(self._chunks)

        def change(thread: int, index: int) -> None:
            chunks[index] = function(self._replicas[thread], chunks[index])

        self._each(change)
        return chunks

    def _each(self, function: Callable[[int, int], None]) -> None:
        """Calls function(thread, index) for each chunk.

        Raises:
            UserCodeError: the network's module fails on its samples.
        """
        try:
            self._pool.each(function, len(self._chunks))
        except Exception as error:
            raise UserCodeError(
                f"{self._network.name} fails when it is evaluated: {explain(error)}"
            ) from error

    def _outputs(self, replica: Replica, index: int) -> Tensor:
        chunk = self._chunks[index]
        outputs = replica.run(chunk.inputs, self._first)
        expected = (len(chunk.labels), *self._network.outputs)
        if outputs.shape != expected:
            raise ValueError(f"outputs of shape {tuple(outputs.shape)}, expected is {expected}")
        return torch.sigmoid(outputs) if self._output == "sigmoid" else outputs

    def _loss(self, replica: Replica, index: int) -> Tensor:
        outputs = self._outputs(replica, index)
        return functional.cross_entropy(outputs, self._chunks[index].labels, reduction="sum")

    def _trained_in(self, replica: Replica) -> list[Tensor]:
        return [each for layer in self._trained for each in replica.parameters[layer]]


def _behind(last: int, replica: Replica, chunk: Chunk) -> Chunk:
    """A chunk behind the layers below `last`; an empty one is never evaluated, nor can all be."""
    if not len(chunk.labels):
        return chunk
    return replace(chunk, inputs=replica.run(chunk.inputs, 0, last))


def _layers_of(region: Region) -> list[int]:
    """The layers in a region, ascending."""
    runs = region.runs if isinstance(region, LayerSet) else (region,)
    return [layer for run in runs for layer in range(run.first, run.last + 1)]


def _is_among(numbers: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Which of these numbers are among the chosen ones; both ascend."""
    if len(chosen) == 0:
        return np.zeros(len(numbers), bool)
    places = np.searchsorted(chosen, numbers)
    return chosen[np.minimum(places, len(chosen) - 1)] == numbers
