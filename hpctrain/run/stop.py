"""Whether a run ends: what holds on each rank, and the weightiest of it on any rank."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from hpctrain.job import stop as table
from hpctrain.job.stop import Criterion, Reason
from hpctrain.linalg.vectors import norm
from hpctrain.methods.outcomes import Outcome
from hpctrain.objective import Point, evaluate
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.parts import Moment, Parts
from hpctrain.solvers.base import Record


def find_reason(
    parts: Parts, moment: Moment, point: Point, faults: Mapping[Reason, bool]
) -> Reason | Criterion:
    """The reason to stop after an iteration, `RUNNING` for none; collective.

    Args:
        moment: the iteration.
        point: θ with L(θ), where it ended.
        faults: what else ends a run, and whether it holds on this rank.
    """
    record = moment.record
    loss = _measure_doubtful_loss(parts, record, point)
    gradient_norm = _measure_deciding_gradient(parts, moment, point)
    numbers = {
        **moment.known,
        "iteration": moment.tally.iteration,
        "gradient_evaluations": parts.objective.counts.gradient_evaluations,
        "gradient_norm": gradient_norm,
        "elapsed_seconds": moment.elapsed_seconds,
    }
    others = {
        **faults,
        table.STALLED: record.outcome.is_final,
        table.ZERO_GRADIENT: gradient_norm == 0,
        table.NON_FINITE: not math.isfinite(loss + record.gradient_norm),
    }
    holding = [reason for reason, holds in others.items() if holds]
    return agree_on_reason(parts.place.ranks, parts.job.stop, numbers, holding)


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
    # A measure may not be known yet; a number of the loop always is.
    met = [
        each
        for each, asked in table.list_asked(stop)
        if (each.quantity in numbers or not each.shown)
        and each.is_met(asked, numbers[each.quantity])
    ]
    own = max(table.REASONS.index(each) for each in (table.RUNNING, *met, *others))
    return table.REASONS[communicator.find_maximum([own])[0]]


def explain(reason: Reason | Criterion, outcome: Outcome) -> str:
    """The reason in words; those of the solver's last outcome where that ends the run."""
    return outcome.text if reason is table.STALLED else reason.text


def _measure_doubtful_loss(parts: Parts, record: Record, point: Point) -> float:
    """L(θ), which may have become NaN, where all trials failed, else that on record; collective.

    While some samples have failed the others are not asked before all of them have been seen.
    """
    outcome = record.outcome
    if outcome.is_final or (outcome.is_doubtful and record.ends_epoch):
        return parts.objective.copy_uncounted().evaluate_loss(point.theta).loss
    return record.loss


def _measure_deciding_gradient(parts: Parts, moment: Moment, point: Point) -> float:
    """‖∇L(θ)‖ over all samples where it may end the run, else ∞; collective.

    A solver's own may be that of a mini-batch, which is small where others' are not.
    """
    bound, record = parts.job.stop.gradient_norm or 0.0, moment.record
    if not (record.ends_epoch and record.gradient_norm <= bound):
        return math.inf
    with parts.place.ranks.timer.phase("validation"):
        return norm(evaluate(parts.objective.copy_uncounted(), point.theta).gradient)
