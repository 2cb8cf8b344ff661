"""Finds the first part of a module that shows a fault, by the calls of all parts."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hpctrain.linalg.randomness import GlobalGenerators


@dataclass(frozen=True)
class Call:
    """One call of a part: its inputs, its outputs, and whether it drew random numbers."""

    name: str
    part: nn.Module
    taken: list[Tensor]
    given: list[Tensor]
    drew: bool


def list_calls(module: nn.Module, x: Tensor) -> list[Call]:
    """Lists the calls of all parts while x is evaluated, in the order in which they end.

    Inner ones come first, and that of the module is last.
    """
    calls, before = list[Call](), list[GlobalGenerators]()
    names = {id(part): name for name, part in module.named_modules()}

    def begin(part: nn.Module, _: Any) -> None:
        before.append(GlobalGenerators.capture())

    def end(part: nn.Module, taken: Any, given: Any) -> None:
        drew = GlobalGenerators.capture().differ_from(before.pop())
        calls.append(Call(names[id(part)], part, _list_tensors(taken), _list_tensors(given), drew))

    hooks = []
    for part in module.modules():
        hooks += [part.register_forward_pre_hook(begin), part.register_forward_hook(end)]
    with suppress(Exception):  # it went well before; what is random may fail now
        module(x)
    for hook in hooks:
        hook.remove()
    return calls


def find_first_draw(calls: Sequence[Call]) -> Call | None:
    """Finds the first call that changed a global random generator, inner before outer ones."""
    return next((call for call in calls if call.drew), None)


def find_first_difference(
    calls: Sequence[Call], others: Sequence[Call], agree: Callable[[Tensor, Tensor], bool]
) -> Call | None:
    """Finds the first call whose outputs differ although its inputs agree."""
    for call, other in zip(calls, others, strict=False):
        same = all(map(agree, call.taken, other.taken))
        if call.name == other.name and same and not all(map(agree, call.given, other.given)):
            return call
    return None


def _list_tensors(values: Any) -> list[Tensor]:
    """Lists copies of the tensors in a value, since a part may write over its inputs."""
    if isinstance(values, Tensor):
        return [values.detach().clone()]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, list | tuple):
        return []
    return [tensor for each in values for tensor in _list_tensors(each)]
