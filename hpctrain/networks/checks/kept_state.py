"""Compares what a module has before and after a call: parameters, buffers, plain attributes."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hpctrain.linalg.arrays import to_array

# What every module has, and what of it the user did not write.
_OF_ALL_MODULES = frozenset(vars(nn.Module()))
_SIMPLE = (bool, int, float, complex, str, bytes, type(None))
_DEEPEST = 4


def list_named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Returns all parameters and buffers by name."""
    return {
        name: tensor.detach()
        for name, tensor in (*module.named_parameters(), *module.named_buffers())
    }


def copy_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Copies all parameters and buffers, by name."""
    return {name: tensor.clone() for name, tensor in list_named_tensors(module).items()}


def copy_attributes(module: nn.Module, arrays_only: bool = False) -> dict[str, Any]:
    """Copies the tensors, arrays, numbers and texts that are plain attributes, by name.

    They are in a form that can be compared by ==.

    Args:
        module: the module.
        arrays_only: whether to copy tensors and arrays only.
    """
    return {
        name: make_comparable(value)
        for name, value in _list_named_attributes(module)
        if not arrays_only or isinstance(value, Tensor | np.ndarray)
    }


def find_changed_tensor(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> str | None:
    """Finds the first tensor that is not the same bit by bit; NaN is the same as NaN.

    Names that only one of the two has are ignored.
    """
    return next(
        (
            name
            for name in before
            if name in after and not have_same_bits(before[name], after[name])
        ),
        None,
    )


def find_changed_attribute(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """Finds the first attribute whose value differs, or that only one of the two has."""
    names = (*before, *(name for name in after if name not in before))
    return next((name for name in names if before.get(name) != after.get(name)), None)


def have_same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same numbers, with NaN at the same places."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())


def _list_named_attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if name not in _OF_ALL_MODULES:
                yield f"{path}.{name}" if path else name, value


def make_comparable(value: Any, depth: int = 0) -> Any:
    """Makes a value of plain types that == compares as a whole.

    A tensor or array becomes its type, shape and bytes, any other object its type.
    """
    if isinstance(value, Tensor):
        dense = value.detach().cpu().to_dense().contiguous()
        return (
            str(value.dtype),
            tuple(value.shape),
            to_array(dense.view(-1).view(torch.uint8)).tobytes(),
        )
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, _SIMPLE):
        return repr(value)
    if isinstance(value, dict) and depth < _DEEPEST:
        return tuple((repr(key), make_comparable(each, depth + 1)) for key, each in value.items())
    if isinstance(value, list | tuple) and depth < _DEEPEST:
        return tuple(make_comparable(each, depth + 1) for each in value)
    return type(value).__name__
