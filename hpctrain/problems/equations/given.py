"""What users may give as a number: Python's and NumPy's real ones, but no truth values."""

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any, TypeGuard


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a real number, which may be infinite."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_finite(value: Any) -> TypeGuard[float]:
    """Whether it is a finite real number."""
    return is_number(value) and math.isfinite(value)


def are_finite(values: Iterable[Any]) -> bool:
    """Whether all of them are."""
    return all(map(is_finite, values))
