"""What a run says of itself on rank 0: at its start, and at its end."""

from collections.abc import Mapping
from pathlib import Path

from hpctrain.run.parts import Parts, Tally
from hpctrain.run.stages import Stage, Stages


def describe_start(parts: Parts, path: Path | None, tally: Tally) -> list[str]:
    """Says what is run, from where, on what, and where it is written."""
    place = parts.place
    return [
        parts.title,
        *(f"  {line}" for line in _describe_stages(parts)),
        *_describe_resumption(parts, tally),
        *(f"  {line}" for line in (parts.renewal.describe() if parts.renewal else ())),
        *_explain_fallback(parts.untraced),
        f"  {place.ranks.size} ranks x {place.threads} threads, {_describe_place(parts)},"
        f" output {path or 'none'}",
    ]


def describe_end(
    parts: Parts, loss: float, values: Mapping[str, float], tally: Tally, wall_seconds: float
) -> list[str]:
    """Says what was reached, and what it cost.

    Args:
        loss: at the final θ.
        values: what the monitor says of it.
        wall_seconds: since the run was first started.
    """
    counts = parts.objective.counts
    measured = f"  loss {loss:.3e}", parts.monitor.describe_values(values)
    return [
        f"  {tally.iteration} iterations in {tally.seconds:.2f} s of training"
        f" ({wall_seconds:.2f} s in all)",
        ", ".join(filter(None, measured)),
        f"  {counts.gradient_evaluations:.1f} gradient and {counts.loss_evaluations:.1f} loss"
        f" evaluations (nominal gradients {tally.nominal_gradient_evaluations:.0f})",
    ]


def describe_stage_end(stages: Stages, tally: Tally, reason: str, loss: float) -> str:
    """Says which stage ends, why, and which one begins."""
    stage, successor = stages[tally.stage.number - 1], stages[tally.stage.number]
    return (
        f"  stage {stage.number} of {len(stages)} ({stage.title}) ended after"
        f" {tally.stage_iteration} iterations, loss {loss:.3e}: {reason};"
        f" stage {successor.number} ({successor.title}) begins"
    )


def describe_guard(iteration: int, before: float, after: float, taken: float) -> str:
    """Says that new points found a loss far above the one before, and what is made of it.

    Args:
        before, after: the loss at the same θ on the points before, and on the new ones.
        taken: on the new ones, at the θ that is gone on from.
    """
    back = "parameters of an earlier renewal" if taken < after else "these parameters"
    return (
        f"  iteration {iteration}: the loss is {after:.3e} on new points, {before:.3e} on those"
        f" before (problem.adapt.guard); the solver begins again from {back}, loss {taken:.3e}"
    )


def name_place(stages: Stages, tally: Tally) -> str:
    """Says in which of several stages a run is, such as " in stage 1 of 2"; empty for one stage."""
    if len(stages) == 1:
        return ""
    stage = stages[tally.stage.number - 1]
    return f" in stage {stage.number} of {len(stages)} ({stage.title})"


def _describe_stages(parts: Parts) -> list[str]:
    """How the solver is composed; of several stages each one's, and when it ends."""
    if len(parts.stages) == 1:
        return parts.composed[0]
    return [
        line
        for stage, lines in zip(parts.stages, parts.composed, strict=False)
        for line in (
            f"{_name_stage(parts, stage)}, until {stage.describe_end()}",
            *(f"  {line}" for line in lines),
        )
    ]


def _name_stage(parts: Parts, stage: Stage) -> str:
    count = len(parts.composed)
    if stage.windows == 1:
        return f"stage {stage.number} of {count}"
    return f"stage {stage.number} of {count} in each of {stage.windows} windows"


def _describe_resumption(parts: Parts, tally: Tally) -> list[str]:
    if tally.iteration == 0 or len(parts.stages) == 1:
        return []
    return [f"  at iteration {tally.iteration}{name_place(parts.stages, tally)}"]


def _describe_place(parts: Parts) -> str:
    """Kernels, and what is not the usual: the GPU, the transport."""
    place = parts.place
    device = f" on {place.device.name}" if place.device.is_gpu else ""
    name = place.ranks.transport
    transport = "" if name in ("none", "mpi") else f", messages by {name}"
    return place.kernels + device + transport


def _explain_fallback(untraced: str | None) -> list[str]:
    if untraced is None:
        return []
    return [
        f"  residual in torch between two native sweeps: {untraced} is not among the"
        " kernels' operations (an evaluation takes about 1.3 to 2.3 times as long, on several"
        " threads more)"
    ]
