"""What `hpctrain run` and `hpctrain resume` do: claim an output, assemble a run, and loop."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from hpctrain.job.overrides import Overrides
from hpctrain.job.own_code import announce, list_own_files
from hpctrain.job.settings import Job
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.devices import choose_device
from hpctrain.parallel.transports.choice import carry
from hpctrain.run import assemble
from hpctrain.run.loop import End, Loop
from hpctrain.run.observers.callbacks import Callback
from hpctrain.run.observers.tensorboard import write_events
from hpctrain.run.output import Output, claim_new_file, hold_claim
from hpctrain.run.resume import Past, find_past
from hpctrain.run.signals import StopSignals
from hpctrain.run.start import choose_start
from hpctrain.store.claim import Claim


@dataclass(frozen=True)
class Watching:
    """What the user sees of a run.

    Attributes:
        callbacks: called with the record of each iteration, on every rank.
        progress: whether lines, or a bar, tell of it on rank 0.
    """

    callbacks: Sequence[Callback] = ()
    progress: bool = True


ALL_SHOWN = Watching()


def run(
    job: Job,
    communicator: Communicator,
    output: str | None = None,
    signals: StopSignals | None = None,
    watching: Watching = ALL_SHOWN,
) -> End:
    """Trains as the job says; collective.

    Args:
        job: the checked job, equal on all ranks.
        communicator: all ranks.
        output: the run file; by default the job's `output.path`, numbered if it exists. None in
            both writes nothing.
        signals: entered by the caller, which may have noted some before; by default noted here.
        watching: what the user sees of it.

    Raises:
        InputError: the output exists, is in use or cannot be made, a file named in the job cannot
            be used, or there are more ranks than chunks.
        RunError: the loss became NaN or infinite, or the output cannot be written.
    """
    held = hold_claim(communicator, lambda: claim_new_file(job.output.path, output))
    return _train(job, communicator, held, None, signals, watching)


def resume(
    run_file: str,
    communicator: Communicator,
    overrides: Overrides = (),
    signals: StopSignals | None = None,
    changed_code: bool = False,
    watching: Watching = ALL_SHOWN,
) -> End:
    """Goes on with a run from its last checkpoint, on any number of ranks; collective.

    The history and the final θ are those of a run that was never interrupted.

    Args:
        run_file: which it goes on to write.
        overrides: of `stop.*`, `output.*`, `parallel.threads` and `parallel.transport`, and classes
            that were given in Python.
        signals, watching: as in `run`.
        changed_code: goes on also where a Python file that the job names is not the one that the
            run was made with.

    Raises:
        InputError, RunError: as `run`; also where there is nothing to go on from.
    """
    with hold_claim(communicator, lambda: Claim(Path(run_file))) as output:
        past = find_past(run_file, overrides, communicator, changed_code)
        held = nullcontext(replace(output, identity=past.identity))
        return _train(past.job, communicator, held, past, signals, watching)


def _train(
    job: Job,
    communicator: Communicator,
    held: AbstractContextManager[Output],
    past: Past | None,
    signals: StopSignals | None,
    watching: Watching,
) -> End:
    """Trains, the run file being held from when all else is known to be possible."""
    assemble.check_ranks(job.parallel.chunks, communicator.size, resumed=past is not None)
    device = choose_device(job.device, communicator)
    if communicator.is_root:
        announce(list_own_files(job))
    with carry(communicator, job.parallel.transport, device) as ranks:
        parts = assemble.make_parts(job, ranks, device)
        if past is not None and ranks.is_root:
            past.warn_of_kernels(parts.kernels)
        start = None if past is not None and past.is_begun else job.start
        theta = choose_start(parts.problem, job.seed, start, ranks)
        with (
            held as output,
            nullcontext(signals) if signals else StopSignals() as noted,
            write_events(job.output.tensorboard, output.path, ranks) as events,
        ):
            callbacks = (*events, *watching.callbacks)
            observers = assemble.make_observers(job, parts, output, callbacks, watching.progress)
            loop = Loop(parts, observers, noted)
            try:
                return loop.start(theta) if past is None else loop.go_on(theta, past)
            finally:
                observers.history.flush()  # also where an error ends the run
