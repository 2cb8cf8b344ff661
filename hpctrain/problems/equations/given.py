"""What users may give as a number: Python's and NumPy's real ones, but no truth values."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, TypeGuard

import numpy as np


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a real number, which may be infinite."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_finite(value: Any) -> TypeGuard[float]:
    """Whether it is a finite real number."""
    return is_number(value) and math.isfinite(value)


def is_count(value: Any, most: float = math.inf) -> TypeGuard[int]:
    """Whether it is an integer from 1 to `most`."""
    return isinstance(value, Integral) and not isinstance(value, bool) and 1 <= int(value) <= most


def are_finite(values: Any) -> bool:
    """Whether it is a sequence of finite numbers."""
    return isinstance(values, Sequence | np.ndarray) and all(map(is_finite, values))


def is_interval(value: Any) -> TypeGuard[tuple[float, float]]:
    """Whether it is a pair (low, high) of finite numbers, low < high."""
    is_pair = isinstance(value, tuple | list | np.ndarray) and len(value) == 2
    return is_pair and are_finite(value) and bool(value[0] < value[1])
