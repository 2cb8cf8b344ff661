"""Sums of the cross-entropy over chunks of samples, each evaluated by one thread."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hpctrain.decomposition.blocks import Region
from hpctrain.errors import UserCodeError
from hpctrain.kernels.pool import get_pool
from hpctrain.linalg.arrays import to_array, to_tensor
from hpctrain.networks.module import ModuleNetwork, Replica
from hpctrain.networks.residual import find_block
from hpctrain.user_code.faults import explain


@dataclass(frozen=True)
class Chunk:
    """Some samples: their numbers in the training set (ascending), inputs and labels."""

    numbers: np.ndarray
    inputs: Tensor
    labels: Tensor


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
        self._pool = get_pool(threads)
        self._replicas = [network.replica(dtype, device) for _ in range(threads)]
        self._output = output
        self._chunks = chunks
        self._set_region(None)

    def _set_region(self, frozen: _Frozen | None) -> None:
        layers = self._network.layers
        self._frozen = frozen
        self._trained = _list_layers(frozen.region) if frozen else list(range(len(layers)))
        self._chosen = [self._list_chosen(layer) for layer in self._trained]
        self._first = self._trained[0] if self._network.is_chain else 0
        self.parameters = frozen.region.size if frozen else self._network.parameters
        # Forward through the layers from the first on, back through all of them but that one (of
        # which only what is fixed behind its weights), and one product more for all weights that
        # are trained, of which a part of a layer's tensors has its part.
        above = sum(layer.cost for layer in layers[self._first :])
        adjoint = sum(layer.cost for layer in layers[self._first + 1 :])
        adjoint += self._network.behind_costs[self._first]
        products = sum(map(self._count_products, self._trained, self._chosen))
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
            restricted._chunks = self._map(partial(_evaluate_below, restricted._first))
        return restricted

    def subset(self, chosen: Tensor) -> "CrossEntropy":
        """See `objective.FiniteSumLoss`."""
        numbers = to_array(chosen)

        def select(_: Replica, chunk: Chunk) -> Chunk:
            kept = _find_among(chunk.numbers, numbers)
            if len(kept) and kept[-1] - kept[0] == len(kept) - 1:  # no copy of what is in a row
                row = slice(kept[0], kept[-1] + 1)
                return Chunk(chunk.numbers[row], chunk.inputs[row], chunk.labels[row])
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

    def sum_losses(self, theta: Tensor) -> Tensor:
        sums = theta.new_empty(len(self._chunks))

        def evaluate(replica: Replica, index: int) -> None:
            sums[index] = self._loss(replica, index)

        self._evaluate(theta, evaluate, sums)
        return sums

    def sum_losses_and_gradients(self, theta: Tensor) -> Tensor:
        sums = theta.new_empty(len(self._chunks), 1 + self.parameters)

        def evaluate(replica: Replica, index: int) -> None:
            loss = self._loss(replica, index)
            parameters = self._list_trained_in(replica)
            gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
            parts = [loss.detach().view(1), *(each.reshape(-1) for each in gradients)]
            torch.cat(parts, out=sums[index])

        self._evaluate(theta, evaluate, sums, self._trained)
        return sums

    def multiply_hessians(self, theta: Tensor, v: Tensor) -> Tensor:
        sums = theta.new_empty(len(self._chunks), self.parameters)

        def evaluate(replica: Replica, index: int) -> None:
            parameters = self._list_trained_in(replica)
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
                self._network.layers, map(find_block, self._network.stages), strict=True
            )
        )

    def make_half_step_systems(self, theta: Tensor) -> Iterator[Tensor]:
        """See `multilevel.refinement.HalvableLoss`."""
        for replica in self._replicas:
            replica.load(theta, 0)
        fed = self
        for layer, stage in enumerate(self._network.stages):
            if find_block(stage):
                yield fed._make_half_step_systems(layer)
            fed = fed._advance_half(layer, layer + 1)

    def _make_half_step_systems(self, layer: int) -> Tensor:
        """Of the block that the chunks are fed to, (C, q + 1, q + 1 + c)."""
        found = dict[int, Tensor]()

        def sum_up(thread: int, index: int) -> None:
            if block := find_block(self._replicas[thread].stages[layer]):
                found[index] = block.make_half_step_system(self._chunks[index].inputs)

        self._each(sum_up)
        return torch.stack([found[index] for index in range(len(self._chunks))])

    def _advance_half(self, first: int, last: int) -> "CrossEntropy":
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
            self._pool.run_each(function, len(self._chunks))
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

    def _list_chosen(self, layer: int) -> list[int]:
        """Which tensors of a layer are in the region."""
        runs = self._frozen.region.runs if self._frozen else ()
        return [
            index
            for index, slot in enumerate(self._network.slots[layer])
            if not runs or any(r.start <= slot.start and slot.stop <= r.stop for r in runs)
        ]

    def _count_products(self, layer: int, chosen: list[int]) -> int:
        """The cost of the products for these tensors of a layer, by their number of parameters."""
        sizes = [slot.stop - slot.start for slot in self._network.slots[layer]]
        cost = self._network.trained_costs[layer]
        if len(chosen) == len(sizes):
            return cost
        return cost * sum(sizes[index] for index in chosen) // sum(sizes)

    def _list_trained_in(self, replica: Replica) -> list[Tensor]:
        return [
            replica.parameters[layer][index]
            for layer, chosen in zip(self._trained, self._chosen, strict=True)
            for index in chosen
        ]


def _evaluate_below(last: int, replica: Replica, chunk: Chunk) -> Chunk:
    """A chunk behind the layers below `last`; an empty one is never evaluated, nor can all be."""
    if not len(chunk.labels):
        return chunk
    return replace(chunk, inputs=replica.run(chunk.inputs, 0, last))


def _list_layers(region: Region) -> list[int]:
    """The layers in a region, ascending."""
    return [layer for run in region.runs for layer in range(run.first, run.last + 1)]


def _find_among(numbers: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The places of those numbers that are among the chosen ones; both ascend, each once."""
    if len(chosen) == 0 or len(numbers) == 0:
        return np.zeros(0, int)
    if len(chosen) < len(numbers):  # the shorter ones are looked up in the longer ones
        places = np.searchsorted(numbers, chosen)
        return places[numbers[np.minimum(places, len(numbers) - 1)] == chosen]
    places = np.searchsorted(chosen, numbers)
    return np.flatnonzero(chosen[np.minimum(places, len(chosen) - 1)] == numbers)
