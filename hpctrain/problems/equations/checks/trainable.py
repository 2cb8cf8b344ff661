"""Finds tensors of an equation's own that require gradients, which no solver would train."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from hpctrain.problems.equations.system import PDE


def trainable_in(pde: PDE, function: Callable[..., Any], value: Tensor, leaf: Tensor) -> str | None:
    """The name of what `value` depends on that requires gradients and is not `leaf`, if any.

    Args:
        pde: whose attributes give names.
        function: gave the value; so do its globals and its closure.
        value: (N,).
        leaf: what the function was given.
    """
    nodes, leaves = _graph(value)
    if not any(each is not leaf for each in leaves):
        return None
    for name, tensor in _named_tensors(pde, inspect.unwrap(function)):
        if any(each is tensor for each in leaves if each is not leaf) or tensor.grad_fn in nodes:
            return name
    found = next(each for each in leaves if each is not leaf)
    return f"a tensor of shape {tuple(found.shape)}"


def _graph(value: Tensor) -> tuple[set[Any], list[Tensor]]:
    """The nodes of autograd's graph that lead to a value, and the leaf tensors they start at."""
    if value.grad_fn is None:
        return set(), [value] if value.requires_grad else []
    nodes, leaves, pending = set[Any](), list[Tensor](), [value.grad_fn]
    while pending:
        node = pending.pop()
        if node in nodes:
            continue
        nodes.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        pending += [below for below, _ in node.next_functions if below is not None]
    return nodes, leaves


def _named_tensors(pde: PDE, function: Callable[..., Any]) -> Iterator[tuple[str, Tensor]]:
    """Tensors that require gradients, under the names by which the equation's code knows them."""
    classes = (vars(each).items() for each in type(pde).__mro__)
    attributes = [*vars(pde).items(), *(item for items in classes for item in items)]
    places = [(f"self.{name}", held) for name, held in attributes]
    plain = getattr(function, "__func__", function)
    if inspect.isfunction(plain):
        places += inspect.getclosurevars(plain).nonlocals.items()
        places += plain.__globals__.items()
    for name, held in places:
        yield from _tensors_of(name, held)


def _tensors_of(name: str, held: Any) -> Iterator[tuple[str, Tensor]]:
    """Of a tensor, a module's parameters, or a collection of such."""
    if isinstance(held, Tensor):
        if held.requires_grad:
            yield name, held
    elif isinstance(held, nn.Module):
        yield from ((f"{name}.{inner}", each) for inner, each in held.named_parameters())
    elif isinstance(held, dict):
        for key, each in held.items():
            if isinstance(each, Tensor | nn.Module):
                yield from _tensors_of(f"{name}[{key!r}]", each)
    elif isinstance(held, list | tuple):
        for number, each in enumerate(held):
            if isinstance(each, Tensor | nn.Module):
                yield from _tensors_of(f"{name}[{number}]", each)
