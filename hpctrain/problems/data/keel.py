"""Reads tables of the KEEL repository: a sample a line, numbers divided by commas, the class last.

Source: Derrac et al., KEEL data-mining software tool: data set repository, Journal of
Multiple-Valued Logic and Soft Computing 17 (2011).
"""

from os import PathLike

import numpy as np

from hpctrain.errors import InputError
from hpctrain.problems.logistic.problem import LabelledRows


def read_keel(path: str | PathLike[str]) -> LabelledRows:
    """The samples, each feature scaled to [-1, 1] over the table; constant ones become 0.

    Raises:
        InputError: the file cannot be read as such a table.
    """
    try:
        table = np.loadtxt(path, delimiter=",", comments="@", ndmin=2)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a table of numbers divided by commas: {reason}") from error
    features, labels = table[:, :-1], table[:, -1]
    low, high = features.min(axis=0), features.max(axis=0)
    width = np.where(high > low, high - low, 1)
    scaled = np.where(high > low, 2 * (features - low) / width - 1, 0)
    return LabelledRows(scaled, labels)
