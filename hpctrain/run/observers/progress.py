"""What a run shows on rank 0: the composed solver, progress, and a summary."""

import importlib.util
import math
import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

# Seconds between lines where no terminal shows a bar.
LINE_INTERVAL = 5.0


class Progress:
    """A bar on a terminal and in a notebook, plain lines in a log; silent where not `shown`.

    Where nobody reads on (a closed pipe), or the log cannot grow, it falls silent: a run does not
    end for that.
    """

    def __init__(self, max_iterations: int, shown: bool) -> None:
        self._max_iterations = max_iterations
        self._shown = shown
        self._bar: Any = None
        self._last_line = -math.inf
        self._pending: tuple[Mapping[str, float], str] | None = None

    def begin(self, header: list[str]) -> None:
        """Shows what is run, before the first iteration."""
        self._print("\n".join(header))
        if self._shown:
            self._bar = _make_bar(self._max_iterations)

    def say(self, line: str) -> None:
        """Shows what happened, on a line of its own."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stdout)
            return
        self._print_line()
        self._print(line)

    def show(self, row: Mapping[str, float], monitored: str) -> None:
        """Shows an iteration; `monitored` is what the monitor says of it, empty where not asked."""
        if not self._shown:
            return
        if self._bar is not None:
            self._bar.set_postfix_str(_describe(row, monitored), refresh=False)
            self._bar.update(int(row["iteration"]) - self._bar.n)
            return
        self._pending = row, monitored
        if time.perf_counter() - self._last_line >= LINE_INTERVAL:
            self._print_line()

    def finish(self, summary: list[str]) -> None:
        """Shows the last iteration and the summary."""
        if not self._shown:
            return
        if self._bar is not None:
            self._bar.close()
        self._print_line()
        self._print("\n".join(summary))

    def _print_line(self) -> None:
        if self._pending is not None:
            row, monitored = self._pending
            text = _describe(row, monitored)
            self._print(f"{int(row['iteration']):>8}  {row['seconds']:8.2f} s  {text}")
            self._pending = None
            self._last_line = time.perf_counter()

    def _print(self, text: str) -> None:
        if not self._shown:
            return
        try:
            print(text, flush=True)
        except OSError:
            self._shown = False


def _describe(row: Mapping[str, float], monitored: str) -> str:
    """An iteration in words."""
    return (
        f"loss {row['loss']:.3e}  |g| {row['gradient_norm']:.1e}"
        f"  step {row['step_length']:.2g}  {monitored}"
    ).rstrip()


def _make_bar(max_iterations: int) -> Any:
    """A bar of tqdm's, which in a notebook is a widget; None where lines have to do."""
    form: dict[str, Any] = {
        "bar_format": "{n_fmt} iterations {elapsed} {postfix}",
        "mininterval": 0.2,
    }
    if _is_in_notebook():
        from tqdm.notebook import tqdm as widget

        # With a total, a run that ends before it would look like a failure.
        return widget(**form)
    return tqdm(total=max_iterations, file=sys.stdout, **form) if sys.stdout.isatty() else None


def _is_in_notebook() -> bool:
    """Whether this process is the kernel of a notebook that can show widgets."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    is_kernel = type(shell).__name__ == "ZMQInteractiveShell"
    return is_kernel and importlib.util.find_spec("ipywidgets") is not None
