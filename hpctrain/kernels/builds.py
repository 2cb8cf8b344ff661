"""Finds the build of the compiled kernels that this processor runs, and loads it.

An installation from source has one build, for the processor that compiled it. A wheel has a build
for each of some levels of x86-64, and the highest that the processor has is loaded. Builds round
differently. Where a cluster has several kinds of processors, the environment variable
HPCTRAIN_KERNELS names the level that all ranks take; "torch" turns compiled kernels off.

Source of the levels: x86-64 psABI, section 3.1.1, Processor Architecture.
"""

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from hpctrain.errors import InputError

VARIABLE = "HPCTRAIN_KERNELS"
TORCH, HOST = "torch", "native"
PROCESSOR = Path("/proc/cpuinfo")
# What each level has beyond those before it, as Linux calls it; the highest level first.
LEVELS = {
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "x86-64-v3": {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"},
}


def choose_build() -> str | None:
    """Chooses "native" or a level of x86-64; None where torch has to do.

    Raises:
        InputError: HPCTRAIN_KERNELS names what is not known, not installed or not possible here.
    """
    wanted = os.environ.get(VARIABLE, HOST)
    if wanted == TORCH:
        return None
    if wanted not in (HOST, *LEVELS):
        allowed = ", ".join((TORCH, HOST, *LEVELS))
        raise InputError(f"{VARIABLE} = {wanted!r} is not allowed: {allowed}")
    possible = _list_builds()
    if wanted == HOST:
        return possible[0] if possible else None
    if wanted not in possible:
        found = ", ".join((*possible, TORCH))
        raise InputError(
            f"{VARIABLE} = {wanted!r} is not allowed: this installation has for this processor"
            f" {found}"
        )
    return wanted


@cache
def load_build(name: str) -> ModuleType:
    """Loads the kernels of one build."""
    return import_module(_name_module(name))


def describe_build() -> str:
    """Which kernels run here, in words."""
    name = choose_build()
    if name is None:
        return "torch kernels"
    return "native kernels" if name == HOST else f"native kernels for {name}"


@cache
def _list_builds() -> tuple[str, ...]:
    """The builds that are installed and that this processor runs, the best one first."""
    present = [HOST, *(level for level in LEVELS if _has_level(level))]
    return tuple(name for name in present if _is_installed(_name_module(name)))


def _has_level(level: str) -> bool:
    """Whether the processor has a level, and all before it."""
    try:
        lines = PROCESSOR.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # no Linux
        return False
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    names = list(LEVELS)
    return all(LEVELS[each] <= flags for each in names[names.index(level) :])


def _name_module(build: str) -> str:
    if build == HOST:
        return "hpctrain._kernels"
    return f"hpctrain.builds.{build.replace('-', '_')}._kernels"


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # nor is the folder that it would lie in
        return False
