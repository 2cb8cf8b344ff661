"""Threads that divide chunks of samples among themselves, each with one thread of torch.

torch's own threads split one product, and its bits then depend on how many there are. Here a chunk
is evaluated by one thread from beginning to end, whichever it is.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


class ChunkPool:
    """Calls a function for each of several chunks, on `threads` threads; see `get_pool`."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._executor = ThreadPoolExecutor(
            threads, "chunks", initializer=torch.set_num_threads, initargs=(1,)
        )

    def run_each(self, function: Callable[[int, int], None], chunks: int) -> None:
        """Calls function(thread, chunk) for every chunk; raises what any of the calls raises."""

        def work(thread: int) -> None:
            for chunk in range(thread, chunks, self.threads):
                function(thread, chunk)

        for done in [self._executor.submit(work, thread) for thread in range(self.threads)]:
            done.result()


@cache
def get_pool(threads: int) -> ChunkPool:
    """The pool of so many threads, one for the whole process."""
    return ChunkPool(threads)
