"""Finds out whether a module is a chain: it calls its parts in order and does nothing else.

The module is run once with a symbol in the place of samples (torch.fx), which records all
operations. A module whose operations depend on the numbers, by an `if` for example, cannot be run
so, and counts as no chain.
"""

import copy
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from torch import fx, nn


def list_parts(module: nn.Module) -> Iterator[nn.Module]:
    """Yields the children of a module in order, with those of a sequence in its place."""
    for child in module.children():
        if isinstance(child, nn.Sequential):
            yield from list_parts(child)
        else:
            yield child


def is_chain(module: nn.Module, parts: Sequence[nn.Module]) -> bool:
    """Whether each part is called once, on the result of the one before, and nothing else is."""
    owned = [id(parameter) for part in parts for parameter in part.parameters()]
    if sorted(owned) != sorted(id(parameter) for parameter in module.parameters()):
        return False
    if module._forward_hooks or module._forward_pre_hooks:
        return False
    names = {id(part): name for name, part in module.named_modules()}
    expected = [names[id(part)] for part in parts]
    try:
        placeholder, *calls, output = _nodes(module, expected)
    except Exception:  # whatever a forward pass does with a symbol that it takes for samples
        return False
    if [(node.op, node.target) for node in calls] != [("call_module", name) for name in expected]:
        return False
    fed = placeholder
    for node in calls:
        if node.args != (fed,) or node.kwargs:
            return False
        fed = node
    return placeholder.op == "placeholder" and output.args == (fed,)


def _nodes(module: nn.Module, parts: Collection[str]) -> list[fx.Node]:
    """Lists the operations of a module, where a call of one of these parts is one operation."""
    module = copy.deepcopy(module)  # that may keep the symbol
    wanted = [module.get_submodule(name) for name in parts]

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, _: str) -> Any:
            return any(m is part for part in wanted)

    return list(Tracer().trace(module).nodes)
