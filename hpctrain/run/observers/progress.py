"""What a run shows on rank 0: the composed solver, progress, and a summary."""

import math
import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

# Seconds between lines where no terminal shows a bar.
LINE_INTERVAL = 5.0


class Progress:
    """A bar on a terminal, plain lines in a batch log; says nothing where `shown` is false.

    Where nobody reads on (a closed pipe), or the log cannot grow, it falls silent: a run does not
    end for that.
    """

    def __init__(self, max_iterations: int, shown: bool) -> None:
        self._max_iterations = max_iterations
        self._shown = shown
        self._bar: tqdm | None = None
        self._last_line = -math.inf
        self._pending: str | None = None

    def begin(self, header: list[str]) -> None:
        """What is run, once."""
        self._print("\n".join(header))
        if self._shown and sys.stdout.isatty():
            form = "{n_fmt} iterations {elapsed} {postfix}"
            self._bar = tqdm(
                total=self._max_iterations, file=sys.stdout, bar_format=form, mininterval=0.2
            )

    def say(self, line: str) -> None:
        """Something that happened, on a line of its own."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stdout)
            return
        self._print_line()
        self._print(line)

    def show(self, row: Mapping[str, float], monitored: str) -> None:
        """One iteration; `monitored` is what the monitor says of it, empty where not asked."""
        if not self._shown:
            return
        text = (
            f"loss {row['loss']:.3e}  |g| {row['gradient_norm']:.1e}"
            f"  step {row['step_length']:.2g}  {monitored}"
        ).rstrip()
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(int(row["iteration"]) - self._bar.n)
            return
        self._pending = f"{int(row['iteration']):>8}  {row['seconds']:8.2f} s  {text}"
        if time.perf_counter() - self._last_line >= LINE_INTERVAL:
            self._print_line()

    def finish(self, summary: list[str]) -> None:
        """The last iteration and the summary."""
        if not self._shown:
            return
        if self._bar is not None:
            self._bar.close()
        self._print_line()
        self._print("\n".join(summary))

    def _print_line(self) -> None:
        if self._pending is not None:
            self._print(self._pending)
            self._pending = None
            self._last_line = time.perf_counter()

    def _print(self, text: str) -> None:
        if not self._shown:
            return
        try:
            print(text, flush=True)
        except OSError:
            self._shown = False
