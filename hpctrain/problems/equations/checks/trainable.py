"""Finds tensors of an equation's own that require gradients, which no solver would train."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn


def find_trainable(
    owner: Any, function: Callable[..., Any], value: Tensor, given: Sequence[Tensor]
) -> str | None:
    """The name of what `value` depends on that requires gradients and was not given, if any.

    Args:
        owner: the equations, whose attributes give names.
        function: gave the value; its globals and its closure give names too.
        value: (N,).
        given: what the function was given.
    """
    nodes, leaves = _graph(value)
    others = [each for each in leaves if not any(each is one for one in given)]
    if not others:
        return None
    for name, tensor in _list_tensors(owner, inspect.unwrap(function)):
        if any(each is tensor for each in others) or tensor.grad_fn in nodes:
            return name
    return f"a tensor of shape {tuple(others[0].shape)}"


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


def _list_tensors(owner: Any, function: Callable[..., Any]) -> Iterator[tuple[str, Tensor]]:
    """Tensors that require gradients, under the names by which the equation's code knows them."""
    classes = (vars(each).items() for each in type(owner).__mro__)
    attributes = [*vars(owner).items(), *(item for items in classes for item in items)]
    places = [(f"self.{name}", held) for name, held in attributes]
    plain = getattr(function, "__func__", function)
    if inspect.isfunction(plain):
        places += inspect.getclosurevars(plain).nonlocals.items()
        places += plain.__globals__.items()
    for name, held in places:
        yield from _tensors_of(name, held)


def _tensors_of(name: str, held: Any) -> Iterator[tuple[str, Tensor]]:
    """Of a tensor, a module's parameters, or a collection of such."""
    if isinstance(held, dict | list | tuple):
        items = held.items() if isinstance(held, dict) else enumerate(held)
        for key, each in items:
            yield from _tensors_held(f"{name}[{key!r}]", each)
    else:
        yield from _tensors_held(name, held)


def _tensors_held(name: str, held: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(held, Tensor) and held.requires_grad:
        yield name, held
    elif isinstance(held, nn.Module):
        yield from ((f"{name}.{inner}", each) for inner, each in held.named_parameters())
