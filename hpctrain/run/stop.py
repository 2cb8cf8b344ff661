"""Whether a run ends: what holds on each rank, and the weightiest of it on any rank."""

from collections.abc import Collection, Mapping
from typing import Any

from hpctrain.job import stop as table
from hpctrain.job.stop import Criterion, Reason
from hpctrain.methods.outcomes import Outcome
from hpctrain.parallel.communicator import Communicator


def agree_on_reason(
    communicator: Communicator,
    stop: Any,
    numbers: Mapping[str, float],
    others: Collection[Reason],
) -> Reason | Criterion:
    """The reason that weighs most on any rank, `RUNNING` for none: one reduction.

    Args:
        stop: the job's `[stop]`.
        numbers: what criteria are met by, by quantity.
        others: what holds on this rank beside the criteria.
    """
    met = [
        each
        for each, asked in table.list_asked(stop)
        if each.quantity in numbers and each.is_met(asked, numbers[each.quantity])
    ]
    own = max(table.REASONS.index(each) for each in (table.RUNNING, *met, *others))
    return table.REASONS[communicator.maximum([own])[0]]


def explain(reason: Reason | Criterion, outcome: Outcome) -> str:
    """The reason in words; those of the solver's last outcome where that ends the run."""
    return outcome.text if reason is table.STALLED else reason.text
