"""Keeps freed memory for the next step, which asks for as much again."""

import ctypes
import sys

# mallopt's parameters in glibc's <malloc.h>.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
# Larger tensors, such as a dense inverse Hessian, still come from and go back to the system.
LARGEST_KEPT = 64 << 20
MOST_KEPT = 512 << 20


def keep_freed_memory() -> bool:
    """Lets the C library keep freed blocks of up to `LARGEST_KEPT` bytes; whether it does.

    By default glibc gives a block of more than 32 MB, and often smaller ones, back to the system at
    once: a step that allocates them anew then spends its time on page faults. What is kept unused
    is at most `MOST_KEPT` bytes at the top of the heap.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    settings = ((MMAP_THRESHOLD, LARGEST_KEPT), (TRIM_THRESHOLD, MOST_KEPT))
    return all(library.mallopt(*setting) == 1 for setting in settings)
