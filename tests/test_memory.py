"""Memory that a step frees stays with the process, for the next step."""

import platform
import subprocess
import sys

import pytest

from hpctrain.run.memory import LARGEST_KEPT

SCRIPT = """
import sys, torch
from hpctrain.run.memory import keep_freed_memory

def resident():
    with open("/proc/self/statm") as numbers:
        return int(numbers.read().split()[1]) * 4096

if sys.argv[1] == "keep":
    assert keep_freed_memory()
torch.set_num_threads(1)
before = resident()
block = torch.ones(int(sys.argv[2]) // 8, dtype=torch.float64)
del block
print(resident() - before)
"""


def left_after(kind, size):
    command = [sys.executable, "-c", SCRIPT, kind, str(size)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
def test_blocks_up_to_the_largest_stay_and_larger_ones_go_back():
    size = LARGEST_KEPT * 3 // 4
    assert left_after("keep", size) > 0.9 * size
    assert left_after("default", size) < 0.3 * size
    assert left_after("keep", 2 * LARGEST_KEPT) < 0.3 * LARGEST_KEPT
