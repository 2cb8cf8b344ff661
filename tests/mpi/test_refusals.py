"""Bad input ends all ranks alike: status 2 on each, and one line, which rank 0 says."""

import sys
import threading

import pytest

from hpctrain import cli

PINN = """
[problem]
name = "burgers"
points = 64
[network]
depth = 3
width = 4
[solver]
name = "{solver}"
{settings}
"""
DIGITS = """
[problem]
name = "classification"
data = "mnist"
data_path = "{folder}/digits"
[network]
kind = "{folder}/net.py:Net"
[solver]
name = "adam"
"""
NET = """
import torch
class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(36, 10)
    def forward(self, x):
        return super().forward(x.flatten(1)) + torch.randn(1)
"""
JOBS = {
    "a setting": (PINN.format(solver="aspqn", settings="blocks = 12"), "solver.blocks = 12 is not"),
    "a transport": (
        PINN.format(solver="lbfgs", settings='[parallel]\ntransport = "nccl"\ndevice = "cpu"'),
        'parallel.transport = "nccl" is not possible: tensors are on the cpu, and it carries',
    ),
    "a later stage": (
        PINN.format(solver="adam", settings="").replace("[solver]", "[[solver]]")
        + '[[solver]]\nname = "ssn"\n',
        'stage 2: solver.name = "ssn" is ',
    ),
    "a solver": (
        PINN.format(solver="{folder}/net.py:Net", settings=""),
        "has no class Net of type Solver",
    ),
    "a network": (DIGITS, "net.py:Net draws random numbers: leave it out"),
}


@pytest.fixture
def refusal(capsys, monkeypatch, comm):
    """What rank 0 says of a command that all ranks refuse; the same text on every rank."""
    for module in (sys, threading):  # starting a job replaces these
        monkeypatch.setattr(module, "excepthook", module.excepthook)

    def refuse(*words):
        capsys.readouterr()
        status = cli.main([str(word) for word in words])
        lines = capsys.readouterr().err.splitlines()
        # Three ranks may be more than there are cores.
        lines = [line for line in lines if not line.startswith("hpctrain: warning: ")]
        said = comm.allgather((status, lines))
        (status, (line,)), *others = said
        assert status == 2 and others == [(2, [])] * (comm.size - 1)
        return line.removeprefix("hpctrain: ")

    return refuse


@pytest.mark.parametrize("case", JOBS)
def test_a_job_that_is_refused_is_one_line_on_any_number_of_ranks(comm, folder, refusal, case):
    text, wanted = JOBS[case]
    path = folder / "job.toml"
    if comm.is_root:
        path.write_text(text.format(folder=folder))
        (folder / "net.py").write_text(NET)
    comm.barrier()
    assert wanted in refusal("run", path)


def test_so_is_a_job_file_that_is_not_there(refusal):
    assert refusal("run", "none.toml") == (
        "none.toml: cannot read the job file: No such file or directory"
    )
