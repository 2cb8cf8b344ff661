"""What watches a run, each with one job: `run.assemble` makes them, the loop shows them a run."""

from dataclasses import dataclass

from hpctrain.parallel.phases import PhaseTimer
from hpctrain.run.observers.callbacks import Callbacks
from hpctrain.run.observers.checkpoints import Checkpoints
from hpctrain.run.observers.history import History
from hpctrain.run.observers.progress import Progress
from hpctrain.run.observers.validation import Validation
from hpctrain.run.parts import Moment


@dataclass(frozen=True)
class Observers:
    """The observers of one run.

    Attributes:
        validation: asks how good θ is.
        history: writes the run file.
        progress: says where the run is.
        checkpoints: writes what it goes on from.
        callbacks: calls the user's functions.
        timer: of the time that they take.
    """

    validation: Validation
    history: History
    progress: Progress
    checkpoints: Checkpoints
    callbacks: Callbacks
    timer: PhaseTimer

    def show(self, moment: Moment) -> None:
        """Shows an iteration to those that watch each; collective."""
        row = self.history.make_row(moment)
        timings = self.history.measure_time(moment)
        said = self.validation.monitor.describe_progress(moment.known) if moment.is_measured else ""
        with self.timer.phase("io"):
            self.progress.show(row, said)
            self.history.write(row, timings, moment.theta)
            if self.callbacks:  # which may read the file
                self.history.flush()
            self.callbacks.show(row, moment.theta)
