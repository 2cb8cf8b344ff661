"""Threads that share chunks of samples, each with one thread of torch.

torch's own threads split the sums of a product, so that its bits depend on their number. Here one
thread evaluates a chunk from beginning to end.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


class ChunkPool:
    """Threads that call a function for each of several chunks; `get_pool` makes them.

    Args:
        threads: the number of threads.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._executor = ThreadPoolExecutor(
            threads, "chunks", initializer=torch.set_num_threads, initargs=(1,)
        )

    def run_each(self, function: Callable[[int, int], None], chunks: int) -> None:
        """Calls function(thread, chunk) for every chunk, and waits until all calls have returned.

        Raises:
            Exception: what a call raises.
        """

        def work(thread: int) -> None:
            for chunk in range(thread, chunks, self.threads):
                function(thread, chunk)

        if self.threads == 1 and torch.get_num_threads() == 1:  # to hand over takes time
            work(0)
            return
        for done in [self._executor.submit(work, thread) for thread in range(self.threads)]:
            done.result()


@cache
def get_pool(threads: int) -> ChunkPool:
    """Returns the pool of so many threads; a process has one of each size."""
    return ChunkPool(threads)
