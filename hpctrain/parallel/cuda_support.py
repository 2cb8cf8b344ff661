"""Asks the MPI library whether it takes buffers in GPU memory, instead of guessing by its name.

MPICH and libraries made from it have `MPIX_GPU_query_support(kind, &answer)`, Open MPI has
`MPIX_Query_cuda_support()`. Both answer once MPI has started. Cray's MPI has the support compiled
in, but it is off unless MPICH_GPU_SUPPORT_ENABLED is 1.
"""

import ctypes
import os
from collections.abc import Mapping
from typing import Any

MPIX_GPU_SUPPORT_CUDA = 0


def find_cuda_support() -> bool | None:
    """Returns the library's answer; None where there is no MPI, or no such function in it."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError):
        return None
    return ask_library(ctypes.CDLL(MPI.__file__), MPI.Get_library_version(), os.environ)


def ask_library(library: Any, version: str, environ: Mapping[str, str]) -> bool | None:
    """Asks a loaded library.

    Args:
        library: has the library's functions as attributes.
        version: the text with its name and version.
        environ: the environment.
    """
    if "CRAY MPICH" in version and environ.get("MPICH_GPU_SUPPORT_ENABLED") != "1":
        return False
    query = getattr(library, "MPIX_GPU_query_support", None)
    if query is not None:
        supported = ctypes.c_int(0)
        failed = query(MPIX_GPU_SUPPORT_CUDA, ctypes.byref(supported))
        return not failed and bool(supported.value)
    query = getattr(library, "MPIX_Query_cuda_support", None)
    return None if query is None else bool(query())


def describe_cuda_support(reported: bool | None) -> str:
    """Returns the answer in words, for `hpctrain info` and messages."""
    return {None: "not reported", True: "yes", False: "no"}[reported]
