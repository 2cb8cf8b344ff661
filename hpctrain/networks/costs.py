"""What evaluating a module costs: multiply-adds for one sample, part by part."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Costs:
    """Multiply-adds for one sample of every part that has parameters of its own.

    A part with a matrix of weights: its outputs times the inputs of each. Others: their outputs.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._all: dict[int, int] = {}
        self._trained: dict[int, int] = {}

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
        """Of all parts of a layer."""
        return max(sum(self._all.get(id(part), 0) for part in self._list_parts(layer)), 1)

    def of_trained(self, layer: nn.Module) -> int:
        """Of the parameters that are trained in it: what their gradient costs."""
        return max(sum(self._trained.get(id(part), 0) for part in self._list_parts(layer)), 1)

    def of_fixed_behind(self, layer: nn.Module) -> int:
        """Of fixed parameters behind the first that is trained: a gradient passes through them."""
        before = 0
        for part in layer.children():
            if any(parameter.requires_grad for parameter in part.parameters()):
                break
            before += sum(self._all.get(id(each), 0) for each in part.modules())
        return max(self.of(layer) - self.of_trained(layer) - before, 0)

    def _list_parts(self, layer: nn.Module) -> Iterator[nn.Module]:
        return layer.modules() if layer is not self._module else iter([layer])

    def _count(self, part: nn.Module, _: object, output: Tensor) -> None:
        own = list(part.parameters(recurse=False))
        self._add(self._all, part, own, output)
        trained = [parameter for parameter in own if parameter.requires_grad]
        if trained:
            self._add(self._trained, part, trained, output)

    def _add(
        self, costs: dict[int, int], part: nn.Module, own: list[nn.Parameter], output: Tensor
    ) -> None:
        inputs = sum(p.numel() // p.shape[0] for p in own if p.ndim > 1)
        costs[id(part)] = costs.get(id(part), 0) + output[0].numel() * max(inputs, 1)
