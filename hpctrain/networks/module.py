"""Any torch module as a network over one flat parameter vector θ, cut into layers.

A module that is a chain, each part fed with the result of the one before, is cut into layers that
can be evaluated apart: the activations below a layer need not be computed again while only those
above it change. A layer begins at each part with a matrix of weights; what has none (activations,
normalisation, pooling) belongs to the layer before. Sequences within a chain are taken apart; any
other module is one part. A module that is no chain has its children as layers, and is evaluated
whole.
"""

import copy
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hpctrain.arrays import CPU
from hpctrain.decomposition import LayerRange
from hpctrain.errors import InputError
from hpctrain.randomness import generator

# What makes the loss of one sample depend on others, or on chance.
REFUSED = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


class NetworkError(InputError):
    """A module that cannot be trained as a finite sum over samples."""


@dataclass(frozen=True)
class Slot:
    """A parameter's place: θ[start:stop], as the tensor `name` of the module."""

    name: str
    shape: torch.Size
    start: int
    stop: int


class ModuleNetwork:
    """A module as a function of θ and its inputs.

    Args:
        name: how it is called in messages and headers.
        make: builds the module; its parameters are initialised as the module does it.
        inputs: the shape of one sample.

    Raises:
        NetworkError: the module normalises over batches, drops out, has no parameters, or fails
            on a sample of that shape.
    """

    def __init__(self, name: str, make: Callable[[], nn.Module], inputs: tuple[int, ...]) -> None:
        self.name = name
        self._make = make
        with torch.device("cpu"):
            module = make()
        _check(name, module)
        self._module = module
        numbers = 2 * torch.Size(inputs).numel()
        sample = torch.linspace(-1, 1, numbers, device="cpu").view(2, *inputs)
        costs = _Costs(module)
        try:
            outputs = costs.run(sample.clone())
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            shape = " x ".join(map(str, inputs))
            raise NetworkError(f"{name} fails on a sample of {shape}: {reason}") from error
        self.outputs = tuple(outputs.shape[1:])
        groups = _chain(module, sample.clone(), outputs)
        self.is_chain = groups is not None
        self.stages: list[nn.Module] = [module]
        if groups is not None:
            self.stages = [nn.Sequential(*parts) for parts in groups]
        self._check_inputs(sample)
        self._lay_out(self.stages if self.is_chain else [*_owners(module)], costs)

    def _check_inputs(self, x: Tensor) -> None:
        """Inputs of a stage are used again: no stage may write over them."""
        for stage in self.stages:
            before = x.clone()
            with torch.no_grad():
                outputs = stage(x)
            if not torch.equal(x, before):
                raise NetworkError(f"{self.name} changes its inputs in place: leave out inplace")
            x = outputs

    def _lay_out(self, layers: list[nn.Module], costs: "_Costs") -> None:
        """Gives every parameter its place in θ, layer by layer."""
        names = {id(parameter): name for name, parameter in self._module.named_parameters()}
        parts = {id(part): name for name, part in self._module.named_modules()}
        self.slots: list[list[Slot]] = []
        self.layers: list[LayerRange] = []
        start, placed = 0, set[int]()
        for layer in layers:
            # The root's own parameters are a layer of their own, before its children's.
            own = [p for p in layer.parameters(layer is not self._module) if id(p) not in placed]
            placed.update(map(id, own))
            slots, first = [], start
            for parameter in own:
                stop = start + parameter.numel()
                slots.append(Slot(names[id(parameter)], parameter.shape, start, stop))
                start = stop
            if slots:
                self.slots.append(slots)
                part = _owner(layer) if self.is_chain else layer
                name = parts[id(part)] or self.name
                self.layers.append(LayerRange(first, start, costs.of(layer), name))
        self.parameters = start

    def initial_parameters(self, seed: int) -> Tensor:
        """θ₀ (n,), as the module initialises itself."""
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(int(generator(seed, "weights").integers(2**63)))
            values = dict(self._make().named_parameters())
        slots = (slot for slots in self.slots for slot in slots)
        return torch.cat([values[slot.name].detach().flatten() for slot in slots])

    def replica(self, dtype: torch.dtype, device: torch.device = CPU) -> "Replica":
        """A copy of the module for one thread."""
        return Replica(self, dtype, device)


class Replica:
    """A copy of a network's module whose parameters can be set, for use by one thread at a time."""

    def __init__(self, network: ModuleNetwork, dtype: torch.dtype, device: torch.device) -> None:
        module, stages = copy.deepcopy((network._module, network.stages))
        self.stages = [stage.to(device, dtype) for stage in stages]
        named = dict(module.to(device, dtype).named_parameters())
        self.parameters = [[named[slot.name] for slot in slots] for slots in network.slots]
        self._slots = network.slots

    def load(self, theta: Tensor, first: int, trained: Collection[int] = ()) -> None:
        """Sets the parameters of layers `first` …; those of the layers `trained` want gradients.

        They are copied, so that their memory is aligned alike whatever θ is a view of, and their
        products have the same bits.
        """
        for layer in range(first, len(self._slots)):
            for slot, parameter in zip(self._slots[layer], self.parameters[layer], strict=True):
                parameter.data.copy_(theta[slot.start : slot.stop].view(slot.shape))
                parameter.requires_grad_(layer in trained)

    def run(self, x: Tensor, first: int, last: int | None = None) -> Tensor:
        """What stages `first` to `last` - 1, by default the last of all, make of x."""
        for stage in self.stages[first:last]:
            x = stage(x)
        return x


def _check(name: str, module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, REFUSED):
            raise NetworkError(
                f"{name} has a {type(part).__name__}, which makes its loss depend on chance or on"
                " which samples are together: leave it out, or normalise by nn.GroupNorm"
            )
    if not any(True for _ in module.parameters()):
        raise NetworkError(f"{name} has no parameters")


def _chain(module: nn.Module, sample: Tensor, expected: Tensor) -> list[list[nn.Module]] | None:
    """The parts of each layer, if the module runs its parts one after another; None if not."""
    parts = list(_parts(module))
    owned = [id(parameter) for part in parts for parameter in part.parameters()]
    if sorted(owned) != sorted(id(parameter) for parameter in module.parameters()):
        return None
    try:
        with torch.no_grad():
            same = torch.equal(nn.Sequential(*parts)(sample), expected)
    except Exception:  # parts that do not fit each other are no chain
        return None
    return _grouped(parts) if same else None


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """The children in order, those of sequences in their place."""
    for child in module.children():
        if isinstance(child, nn.Sequential):
            yield from _parts(child)
        else:
            yield child


def _grouped(parts: list[nn.Module]) -> list[list[nn.Module]] | None:
    """Parts by layers, of which each but the first begins with a matrix of weights."""
    groups: list[list[nn.Module]] = [[]]
    has_weights = False
    for part in parts:
        begins = any(parameter.ndim > 1 for parameter in part.parameters())
        if begins and has_weights:
            groups.append([])
        has_weights |= begins
        groups[-1].append(part)
    return groups


def _owner(stage: nn.Module) -> nn.Module:
    """The first part of a stage that has parameters."""
    return next(part for part in stage.children() if any(True for _ in part.parameters()))


def _owners(module: nn.Module) -> Iterator[nn.Module]:
    """The module, if it has parameters of its own, and its children that have any."""
    if any(True for _ in module.parameters(recurse=False)):
        yield module
    yield from (child for child in module.children() if any(True for _ in child.parameters()))


class _Costs:
    """Multiply-adds for one sample of every part that has parameters of its own.

    A part with a matrix of weights: its outputs times the inputs of each. Others: their outputs.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._costs: dict[int, int] = {}

    def run(self, sample: Tensor) -> Tensor:
        """The module's outputs; takes down the costs on the way."""
        hooks = [
            part.register_forward_hook(self._count)
            for part in self._module.modules()
            if any(True for _ in part.parameters(recurse=False))
        ]
        with torch.no_grad():
            outputs = self._module(sample)
        for hook in hooks:
            hook.remove()
        return outputs

    def of(self, layer: nn.Module) -> int:
        parts = layer.modules() if layer is not self._module else iter([layer])
        return max(sum(self._costs.get(id(part), 0) for part in parts), 1)

    def _count(self, part: nn.Module, _: object, output: Tensor) -> None:
        matrices = [p for p in part.parameters(recurse=False) if p.ndim > 1]
        inputs = sum(p.numel() // p.shape[0] for p in matrices)
        cost = output[0].numel() * max(inputs, 1)
        self._costs[id(part)] = self._costs.get(id(part), 0) + cost
