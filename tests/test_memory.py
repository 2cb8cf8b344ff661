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
for size in sys.argv[2:]:
    before = resident()
    block = torch.ones(int(size) // 8, dtype=torch.float64)
    del block
    print(resident() - before)
"""


def left_after(kind, *sizes):
    command = [sys.executable, "-c", SCRIPT, kind, *map(str, sizes)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [int(line) for line in told.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
def test_blocks_up_to_the_largest_stay_and_larger_ones_go_back():
    size = LARGEST_KEPT * 3 // 4
    kept, large = left_after("keep", size, 2 * LARGEST_KEPT)
    assert kept > 0.9 * size and large < 0.3 * LARGEST_KEPT
    (left,) = left_after("default", size)
    assert left < 0.3 * size
