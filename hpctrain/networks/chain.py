"""Whether a module is a chain: its forward pass calls its parts in order, and does nothing else.

The forward pass is run once with a symbol in the place of samples (torch.fx), which takes down
every operation. What depends on the numbers fed, such as an `if` that the samples at hand do not
meet, cannot be run so, and makes no chain.
"""

import copy
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from torch import fx, nn


def list_parts(module: nn.Module) -> Iterator[nn.Module]:
    """The children in order, those of sequences in their place."""
    for child in module.children():
        if isinstance(child, nn.Sequential):
            yield from list_parts(child)
        else:
            yield child


def is_chain(module: nn.Module, parts: Sequence[nn.Module]) -> bool:
    """Whether each part is called once, with what the part before gave, and all is theirs."""
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
    """The operations of a forward pass, in which a call of one of these parts is one."""
    module = copy.deepcopy(module)  # that may keep the symbol
    wanted = [module.get_submodule(name) for name in parts]

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, _: str) -> Any:
            return any(m is part for part in wanted)

    return list(Tracer().trace(module).nodes)
