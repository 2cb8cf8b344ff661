"""Which part of a module is the first to show a fault: the calls of all parts, side by side."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hpctrain.linalg.randomness import GlobalGenerators


@dataclass(frozen=True)
class Call:
    """One call of one part: what it was given, what it gave, and whether it drew at random."""

    name: str
    part: nn.Module
    taken: list[Tensor]
    given: list[Tensor]
    drew: bool


def list_calls(module: nn.Module, x: Tensor) -> list[Call]:
    """The calls of all parts when x is evaluated, in the order in which they end: inner ones first.

    The last is the module's own.
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
    """The first call, inner before outer, in which the state of a global generator changed."""
    return next((call for call in calls if call.drew), None)


def find_first_difference(
    calls: Sequence[Call], others: Sequence[Call], agree: Callable[[Tensor, Tensor], bool]
) -> Call | None:
    """The first call that gave something else though it was given the same."""
    for call, other in zip(calls, others, strict=False):
        same = all(map(agree, call.taken, other.taken))
        if call.name == other.name and same and not all(map(agree, call.given, other.given)):
            return call
    return None


def _list_tensors(values: Any) -> list[Tensor]:
    """The tensors in a value, copied, since a part may write over what it was given."""
    if isinstance(values, Tensor):
        return [values.detach().clone()]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, list | tuple):
        return []
    return [tensor for each in values for tensor in _list_tensors(each)]
