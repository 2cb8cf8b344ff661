"""What a run can cost, such as seconds or gradient evaluations: columns of its history, with names.

`parallel_seconds` is not a column of the history. It is computed from the phases (`summary`).
"""

from typing import NamedTuple


class Cost(NamedTuple):
    """The names of a cost: on the axis of a figure, and in the head of a table."""

    axis: str
    head: str


COSTS = {
    "iteration": Cost("iterations", "iterations"),
    "epoch": Cost("epochs", "epochs"),
    "gradient_evaluations": Cost("gradient evaluations", "gradient evals"),
    "update_cost": Cost("work (update cost)", "update cost"),
    "seconds": Cost("training time in s", "seconds"),
    "parallel_seconds": Cost("parallel time in s, modelled", "parallel s"),
}
# Those that are columns of the history.
RECORDED = [name for name in COSTS if name != "parallel_seconds"]
