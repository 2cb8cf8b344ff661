"""Whether a run or its stage ends: what holds on each rank, the weightiest of it on any rank."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from hpctrain.job import stop as table
from hpctrain.job.stop import Asked, Criterion, Reason
from hpctrain.linalg.vectors import norm
from hpctrain.methods.outcomes import Outcome
from hpctrain.objective import Point, evaluate_point
from hpctrain.run.parts import Moment, Parts
from hpctrain.run.stages import Stage
from hpctrain.solvers.base import Record


@dataclass(frozen=True)
class Verdict:
    """What all ranks agree on after an iteration.

    Attributes:
        reason: why the run, or its stage, ends; `RUNNING` where neither does.
        ends_run: whether it is the run that ends.
    """

    reason: Reason | Criterion
    ends_run: bool

    @property
    def goes_on(self) -> bool:
        """Whether the stage goes on."""
        return self.reason is table.RUNNING


def judge(parts: Parts, moment: Moment, point: Point, faults: Mapping[Reason, bool]) -> Verdict:
    """Decides whether the run or its stage ends after an iteration; collective, one reduction.

    What ends the last stage ends the run.

    Args:
        moment: the iteration.
        point: θ with L(θ), where it ended.
        faults: what else ends a run, and whether it holds on this rank.
    """
    record, stage = moment.record, parts.stages[moment.tally.stage.number - 1]
    is_last = stage.number == len(parts.stages)
    doubtful = _measure_doubtful_loss(parts, record, point)
    numbers = _list_numbers(parts, moment, [*parts.asked, *stage.asked], point)
    within = numbers | _list_numbers_within(parts, moment)
    stalled = [table.STALLED] if record.outcome.is_final else []
    others = {
        **faults,
        table.ZERO_GRADIENT: numbers["gradient_norm"] == 0,
        table.NON_FINITE: not math.isfinite(doubtful + record.gradient_norm),
    }
    holding = [reason for reason, holds in others.items() if holds]
    run, own = parts.place.ranks.find_maximum(
        [
            weigh(parts.asked, numbers, [*holding, *(stalled if is_last else ())]),
            weigh(stage.asked, within, stalled),
        ]
    )
    if table.REASONS[run] is not table.RUNNING:
        return Verdict(table.REASONS[run], True)
    return Verdict(_name(table.REASONS[own], stage), is_last and own > 0)


def _list_numbers(
    parts: Parts, moment: Moment, asked: Sequence[Asked], point: Point
) -> dict[str, float]:
    """What the criteria of the run are met by, by quantity; collective."""
    least_gradient, least_loss = _find_bound("gradient_norm", asked), _find_bound("loss", asked)
    return {
        **moment.known,
        "iteration": moment.tally.iteration,
        "gradient_evaluations": parts.objective.counts.gradient_evaluations,
        "stagnant_iterations": moment.tally.stagnant_iterations,
        "gradient_norm": _measure_deciding_gradient(parts, moment, least_gradient, point),
        "loss": _measure_deciding_loss(parts, moment, least_loss, point),
        "elapsed_seconds": moment.elapsed_seconds,
    }


def _list_numbers_within(parts: Parts, moment: Moment) -> dict[str, float]:
    """Those of them that criteria of a stage count from its start."""
    start, spent = moment.tally.stage, parts.objective.counts.gradient_evaluations
    return {
        "iteration": moment.tally.stage_iteration,
        "gradient_evaluations": spent - start.gradient_evaluations,
        "elapsed_seconds": moment.wall_seconds - start.wall_seconds,
    }


def _find_bound(key: str, asked: Sequence[Asked]) -> float:
    """The greater of what the job and its stage ask for by a criterion; 0 for neither."""
    return max((value for each, value in asked if each.key == key), default=0.0)


def weigh(asked: Sequence[Asked], numbers: Mapping[str, float], others: Collection[Reason]) -> int:
    """Finds the place in the table of the weightiest reason on this rank; `RUNNING`'s for none.

    Args:
        asked: the criteria of a job or a stage, with their values.
        numbers: what criteria are met by, by quantity.
        others: what holds on this rank beside the criteria.
    """
    # A measure may not be known yet; a number of the loop always is.
    met = [
        each
        for each, bound in asked
        if (each.quantity in numbers or not each.shown)
        and each.is_met(bound, numbers[each.quantity])
    ]
    return max(table.REASONS.index(each) for each in (table.RUNNING, *met, *others))


def _name(reason: Reason | Criterion, stage: Stage) -> Reason:
    """Why a stage ends; a run that ends with it has done all that was asked."""
    return Reason(f"{stage.key}.{reason.text}") if isinstance(reason, Criterion) else reason


def explain(reason: Reason | Criterion, outcome: Outcome) -> str:
    """Says the reason in words: the solver's last outcome, where that ends the run."""
    return outcome.text if reason is table.STALLED else reason.text


def _measure_doubtful_loss(parts: Parts, record: Record, point: Point) -> float:
    """L(θ), which may have become NaN, where all trials failed, else that on record; collective.

    While some samples have failed the others are not asked before all of them have been seen.
    """
    outcome = record.outcome
    if outcome.is_final or (outcome.is_doubtful and record.ends_epoch):
        return parts.objective.copy_uncounted().evaluate(point.theta).loss
    return record.loss


def _measure_deciding_loss(parts: Parts, moment: Moment, bound: float, point: Point) -> float:
    """L(θ) over all samples where it may end the run or its stage, else ∞; collective."""
    record = moment.record
    if not (record.ends_epoch and record.loss <= bound):
        return math.inf
    with parts.place.ranks.timer.phase("validation"):
        return parts.objective.copy_uncounted().evaluate(point.theta).loss


def _measure_deciding_gradient(parts: Parts, moment: Moment, bound: float, point: Point) -> float:
    """‖∇L(θ)‖ over all samples where it may end the run or its stage, else ∞; collective.

    A solver's own may be that of a mini-batch, which is small where others' are not.
    """
    record = moment.record
    if not (record.ends_epoch and record.gradient_norm <= bound):
        return math.inf
    with parts.place.ranks.timer.phase("validation"):
        return norm(evaluate_point(parts.objective.copy_uncounted(), point.theta).gradient)
