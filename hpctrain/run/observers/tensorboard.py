"""Event files for TensorBoard: the columns of the history as curves, written by rank 0."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hpctrain.errors import InputError
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.observers.callbacks import Callback
from hpctrain.store.writable import check_folder

# What is no curve: the abscissa, numbers of outcomes, and θ.
LEFT_OUT = ("iteration", "outcome", "theta")
# Seconds after which a curve is seen at the latest.
FLUSH_SECONDS = 10


class EventFiles:
    """A callback that writes each record, from the first one that it sees on.

    What an earlier process wrote of the same iterations, and of later ones, TensorBoard drops.

    Args:
        folder: of this run's files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def __call__(self, record: Mapping[str, Any]) -> None:
        iteration = int(record["iteration"])
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # takes a second

            self._writer = SummaryWriter(
                str(self._folder), purge_step=iteration, flush_secs=FLUSH_SECONDS
            )
        for name, value in record.items():
            if name not in LEFT_OUT and math.isfinite(value):
                self._writer.add_scalar(name, value, iteration)

    def close(self) -> None:
        """Writes the records that are still in memory."""
        if self._writer is not None:
            self._writer.close()


@contextmanager
def write_events(
    folder: str | None, run_file: Path | None, ranks: Communicator
) -> Iterator[list[Callback]]:
    """The callbacks of this rank that write event files below a folder, if one is given.

    Runs of one folder are told apart by the names of their run files.

    Raises:
        InputError: TensorBoard's package is not installed, or nothing can be written there.
    """
    if folder is None:
        yield []
        return
    own = Path(folder) / (run_file.stem if run_file else "run")
    ranks.run_on_root(_check_installed)
    ranks.run_on_root(lambda: check_folder(own, f"output.tensorboard = {folder!r}"))
    if not ranks.is_root:
        yield []
        return
    events = EventFiles(own)
    try:
        yield [events]
    finally:
        events.close()


def _check_installed() -> None:
    if find_spec("tensorboard") is None:
        raise InputError(
            "output.tensorboard is not allowed: it needs the package tensorboard; pip install"
            " 'hpctrain[tensorboard]'"
        )
