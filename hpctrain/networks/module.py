"""Any torch module as a function of one parameter vector θ, cut into layers.

A module is a chain if it calls its parts in order, each on the result of the one before. A chain is
cut into layers that can be evaluated one by one. While only the parameters above a layer change,
the activations below it need not be computed again. A layer begins at each part with a matrix of
weights. Parts without one (activations, normalisation, pooling) belong to the layer before.
Sequences inside a chain are taken apart; any other module is one part. A module that is no chain is
evaluated as a whole, and its children are its layers.

Parameters that the module has fixed (`requires_grad_(False)`) are not in θ and keep their values. A
part with fixed parameters only belongs to the layer before, or to the first one.
"""

import copy
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from hpctrain.decomposition.blocks import LayerRange
from hpctrain.errors import InputError
from hpctrain.linalg.arrays import CPU
from hpctrain.linalg.randomness import make_generator, seed_generators
from hpctrain.networks.chain import is_chain, list_parts
from hpctrain.networks.checks.kept_state import (
    copy_attributes,
    find_changed_attribute,
    find_changed_tensor,
    list_named_tensors,
    make_comparable,
)
from hpctrain.networks.checks.probe import BATCH, probe
from hpctrain.networks.costs import Costs
from hpctrain.networks.faults import NetworkError
from hpctrain.user_code.faults import explain


@dataclass(frozen=True)
class Slot:
    """The place of a module's parameter in θ: θ[start:stop] is the tensor `name` of the module."""

    name: str
    shape: torch.Size
    start: int
    stop: int


class ModuleNetwork:
    """A torch module as a function of θ (n,) and its inputs.

    Args:
        name: as messages and headers call it.
        make: makes the module, which initialises its own parameters.
        inputs: the shape of one sample.
        seed: determines what the module draws when it is made.
        samples: `BATCH` samples or more on which the module is tried, in the precision of the run.
            By default random numbers in single precision.

    Attributes:
        outputs: the shape of the module's result for one sample.
        layers: those with trained parameters, from input to output.
        trained_costs: for each layer the cost of its trained weights.
        behind_costs: for each layer the cost of fixed weights behind its first trained one.
        fixed: the shapes of the fixed parameters.
        gives_probabilities: whether outputs are positive and sum to one.

    Raises:
        NetworkError: the module has no parameters to train, fails on samples of this shape, or is
            no finite sum over samples; see `probe`.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], nn.Module],
        inputs: tuple[int, ...],
        seed: int = 0,
        samples: Tensor | None = None,
    ) -> None:
        self.name = name
        self._make = make
        self._seed = seed
        if samples is None:
            drawn = make_generator(0, "probe").standard_normal((BATCH, *inputs))
            samples = torch.tensor(drawn, dtype=torch.float32, device="cpu")
        self._samples = samples
        module = self._make_module(seed)
        self._check_made(module)
        self._module = module.to(samples.dtype)
        with torch.device("cpu"):
            self.gives_probabilities = probe(name, self._module, samples).probabilities
            costs = Costs(module)
            stages = self._cut(costs, samples[:BATCH].clone())
        self.is_chain = stages is not None
        self.stages = stages or [module]
        self.fixed = [p.shape for p in module.parameters() if not p.requires_grad]
        self._lay_out(stages or [*_find_owners(module, trained=True)], costs)

    def _make_module(self, seed: int) -> nn.Module:
        """Makes the module on the CPU; what it draws then depends on the seed alone."""
        with seed_generators(seed, "weights"), torch.device("cpu"):
            try:
                module = self._make()
                if any(map(is_lazy, (*module.parameters(), *module.buffers()))):
                    with torch.no_grad():  # lazy layers take their shapes from what they are fed
                        module(self._samples.float())
            except InputError:
                raise
            except Exception as error:
                raise NetworkError(f"{self.name} cannot be made: {explain(error)}") from error
        return module

    def _check_made(self, module: nn.Module) -> None:
        parameters = dict(module.named_parameters())
        if not parameters:
            raise NetworkError(f"{self.name} has no parameters")
        for name, tensor in (*parameters.items(), *module.named_buffers()):
            if is_lazy(tensor):
                raise NetworkError(f"{self.name}: {name} has no shape after an evaluation")
            if tensor.is_complex():
                raise NetworkError(f"{self.name}: {name} is complex, allowed are real parameters")
        if not any(parameter.requires_grad for parameter in parameters.values()):
            raise NetworkError(
                f"{self.name} has no parameters to train: all have requires_grad = False"
            )
        again = self._make_module(self._seed)
        changed = find_changed_tensor(
            list_named_tensors(module), list_named_tensors(again)
        ) or find_changed_attribute(
            copy_attributes(module, arrays_only=True), copy_attributes(again, arrays_only=True)
        )
        if changed:
            raise NetworkError(
                f"{self.name}: {changed} has other values each time that the module is made: draw"
                " them from the global generator of torch, numpy or random, which is seeded"
            )

    def _cut(self, costs: Costs, x: Tensor) -> list[nn.Module] | None:
        """Cuts the module into layers, if it is a chain; None if it is not."""
        outputs = costs.run(x)
        self.outputs = tuple(outputs.shape[1:])
        parts = list(list_parts(self._module))
        if not is_chain(self._module, parts):
            return None
        stages: list[nn.Module] = [nn.Sequential(*group) for group in _group_parts(parts)]
        return stages if torch.equal(self._run(stages, x), outputs) else None

    def _run(self, stages: list[nn.Module], x: Tensor) -> Tensor:
        """Runs stages one after the other; none may write over its inputs, which are used again."""
        for stage in stages:
            before = x.clone()
            with torch.no_grad():
                outputs = stage(x)
            if not torch.equal(x, before):
                raise NetworkError(f"{self.name} changes its inputs in place: leave out inplace")
            x = outputs
        return x

    def _lay_out(self, layers: list[nn.Module], costs: Costs) -> None:
        """Gives every trained parameter its place in θ, layer by layer."""
        names = {id(parameter): name for name, parameter in self._module.named_parameters()}
        parts = {id(part): name for name, part in self._module.named_modules()}
        self.slots: list[list[Slot]] = []
        self.layers: list[LayerRange] = []
        self.trained_costs, self.behind_costs = list[int](), list[int]()
        # What is fixed and in no layer counts with the first.
        fixed = [] if self.is_chain else _find_owners(self._module, trained=False)
        elsewhere = sum(map(costs.of, fixed))
        start, placed = 0, set[int]()
        for layer in layers:
            # The root's own parameters are a layer of their own, before its children's.
            own = [p for p in layer.parameters(layer is not self._module) if id(p) not in placed]
            own = [parameter for parameter in own if parameter.requires_grad]
            placed.update(map(id, own))
            slots, first = [], start
            for parameter in own:
                stop = start + parameter.numel()
                slots.append(Slot(names[id(parameter)], parameter.shape, start, stop))
                start = stop
            if slots:
                self.slots.append(slots)
                part = _find_owner(layer) if self.is_chain else layer
                name = parts[id(part)] or self.name
                cost, sizes = costs.of(layer) + elsewhere, tuple(p.numel() for p in own)
                self.layers.append(LayerRange(first, start, cost, name, sizes))
                self.trained_costs.append(costs.of_trained(layer))
                self.behind_costs.append(costs.of_fixed_behind(layer))
                elsewhere = 0
        self.parameters = start

    def make_initial_parameters(self, seed: int) -> Tensor:
        """Returns θ₀ (n,), with the values by which the module initialises itself."""
        module = self._module if seed == self._seed else self._make_module(seed)
        values = dict(module.named_parameters())
        slots = (slot for slots in self.slots for slot in slots)
        return torch.cat([values[slot.name].detach().flatten() for slot in slots])

    def checksum(self) -> int:
        """Computes the CRC-32 of all that the module has: parameters, buffers, kept tensors."""
        made = {
            name: make_comparable(tensor)
            for name, tensor in list_named_tensors(self._module).items()
        }
        made |= copy_attributes(self._module, arrays_only=True)
        crc = 0
        for name, (dtype, shape, raw) in made.items():
            crc = zlib.crc32(raw, zlib.crc32(f"{name} {dtype} {shape}".encode(), crc))
        return crc

    def replica(self, dtype: torch.dtype, device: torch.device = CPU) -> "Replica":
        """Copies the module for one thread."""
        return Replica(self, dtype, device)


class Replica:
    """A copy of a network's module for one thread, which can set its parameters."""

    def __init__(self, network: ModuleNetwork, dtype: torch.dtype, device: torch.device) -> None:
        self.module, stages = copy.deepcopy((network._module, network.stages))
        self.stages = [stage.to(device, dtype) for stage in stages]
        named = dict(self.module.to(device, dtype).named_parameters())
        self.parameters = [[named[slot.name] for slot in slots] for slots in network.slots]
        self._slots = network.slots

    def load(self, theta: Tensor, first: int, trained: Collection[int] = ()) -> None:
        """Sets the parameters of the layers from `first` on.

        The values are copied. So their memory has the same alignment whatever θ is a view of, and
        products have the same bits.

        Args:
            theta: θ (n,).
            first: the lowest layer to be set.
            trained: the layers for which gradients are wanted.
        """
        for layer in range(first, len(self._slots)):
            for slot, parameter in zip(self._slots[layer], self.parameters[layer], strict=True):
                parameter.data.copy_(theta[slot.start : slot.stop].view(slot.shape))
                parameter.requires_grad_(layer in trained)

    def run(self, x: Tensor, first: int, last: int | None = None) -> Tensor:
        """Evaluates stages `first` … `last` - 1 on x; by default to the last one."""
        for stage in self.stages[first:last]:
            x = stage(x)
        return x


def _group_parts(parts: list[nn.Module]) -> list[list[nn.Module]]:
    """Groups parts into layers; each but the first begins with a matrix of weights."""
    groups: list[list[nn.Module]] = [[]]
    has_weights = False
    for part in parts:
        begins = _is_trained(part) and any(each.ndim > 1 for each in part.parameters())
        if begins and has_weights:
            groups.append([])
        has_weights |= begins
        groups[-1].append(part)
    return groups


def _is_trained(part: nn.Module, recurse: bool = True) -> bool:
    """Whether a part has parameters that are trained."""
    return any(parameter.requires_grad for parameter in part.parameters(recurse))


def _find_owner(stage: nn.Module) -> nn.Module:
    """Finds the first part of a stage that has parameters to train."""
    return next(part for part in stage.children() if _is_trained(part))


def _find_owners(module: nn.Module, trained: bool) -> Iterator[nn.Module]:
    """Yields the module and those of its children that have parameters of their own.

    Args:
        module: the module.
        trained: True for those with trained parameters, False for those with fixed ones only.
    """
    own = any(True for _ in module.parameters(recurse=False))
    if own and _is_trained(module, recurse=False) == trained:
        yield module
    for child in module.children():
        if any(True for _ in child.parameters()) and _is_trained(child) == trained:
            yield child
