"""The studies of kills, damaged files and signals, in short: they find no fault."""

import subprocess
import sys
from pathlib import Path

import pytest
from forked_ranks import is_mpich

SHORT = {
    "kill_study": ("1", "0", "ssbroyden"),
    "fuzz_study": ("10", "0"),
    "signal_study": ("1", "0", "0.5"),
}


@pytest.mark.alone
@pytest.mark.parametrize("study", SHORT)
def test_a_short_study_finds_no_fault(study, cleared_shared_memory):
    if not is_mpich():
        pytest.skip("the mpirun is not MPICH's")
    program = Path(__file__).with_name(f"{study}.py")
    ended = subprocess.run(
        [sys.executable, program, *SHORT[study]], capture_output=True, text=True, timeout=240
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "|" in ended.stdout
