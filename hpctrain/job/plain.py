"""Values that Python gives for settings, in the types that TOML has."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

from hpctrain.options import GivenClass


def make_plain(value: Any) -> Any:
    """Copies nested tables, lists and values.

    Paths become texts, NumPy's numbers Python's, arrays and tuples lists, and a class a text with
    its name that keeps the class, `GivenClass`.
    """
    match value:
        case Mapping():
            return {key: make_plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [make_plain(inner) for inner in value]
        case np.ndarray() | np.generic():
            return value.tolist()
        case PurePath():
            return str(value)
        case type():
            return GivenClass(value)
    return value
