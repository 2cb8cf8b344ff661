"""Counts what the evaluation of a module costs, in multiply-adds for one sample."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Costs:
    """The multiply-adds for one sample of every part of a module that has parameters.

    A part with a matrix of weights costs the number of its outputs times the number of inputs of
    each. Any other part costs the number of its outputs.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._all: dict[int, int] = {}
        self._trained: dict[int, int] = {}

    def run(self, sample: Tensor) -> Tensor:
        """Evaluates the module on a sample, and counts the costs of its parts on the way."""
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
        """Returns the cost of all parts of a layer."""
        return max(sum(self._all.get(id(part), 0) for part in self._list_parts(layer)), 1)

    def of_trained(self, layer: nn.Module) -> int:
        """Returns the cost of those parameters of a layer that are trained.

        This is also what their gradient costs.
        """
        return max(sum(self._trained.get(id(part), 0) for part in self._list_parts(layer)), 1)

    def of_fixed_behind(self, layer: nn.Module) -> int:
        """Returns the cost of fixed parameters behind the first trained one of a layer.

        A gradient passes through these, but not through fixed parameters before the first trained
        one.
        """
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
