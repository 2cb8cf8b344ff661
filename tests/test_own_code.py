"""Files of the user's own are code: said before they are run, refused where they have changed."""

import h5py
import pytest
from classifiers import write_h5
from test_own_solver import METHOD
from trials import CLASSES, PDE, PINN

from hpctrain import cli
from hpctrain.store.run_file import read_run

NETWORK = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(10, 3), nn.Tanh(), nn.Linear(3, 2))
"""
JOB = """
{problem}
{network}
[solver]
name = "{solver}"
[parallel]
chunks = 4
threads = 1
[stop]
max_iterations = 2
"""
# Adds to a file what tells that it was run.
TELLING = "\nfrom pathlib import Path\nPath({marker!r}).touch()\nprint('imported')\n"
FILES = {
    "problem.name": PDE.format(residual="u.t + u.x - 1"),
    "network.kind": NETWORK,
    "solver.name": METHOD,
}


class Own:
    """A run with a file of its own, which says when it is imported."""

    def __init__(self, folder, key):
        self.file, self.run = folder / "mine.py", folder / "run.h5"
        self.marker = folder / "imported"
        self.file.write_text(FILES[key] + TELLING.format(marker=str(self.marker)))
        write_h5(folder / "two.h5", train=16, classes=2)
        problem, network = CLASSES if key == "network.kind" else PINN
        if key == "network.kind":
            network = f'[network]\nkind = "{self.file}:Net"'
        if key == "solver.name":
            problem = 'name = "burgers"\npoints = 20'
        solver = f"{self.file}:Descent" if key == "solver.name" else "lbfgs"
        text = JOB.format(problem=f"[problem]\n{problem}", network=network, solver=solver)
        (folder / "job.toml").write_text(text.replace("{folder}", str(folder)))
        assert cli.main(["run", str(folder / "job.toml"), "-o", str(self.run)]) == 0
        self.marker.unlink()

    def change(self):
        self.file.write_text(self.file.read_text() + "\nCHANGED = True\n")


@pytest.fixture(params=FILES)
def own(request, tmp_path, capsys):
    return Own(tmp_path, request.param), request.param


MORE = ("--set", "stop.max_iterations=3")


def test_the_file_is_named_before_it_is_run(own, capsys):
    own, key = own
    for words in (["run", str(own.file.with_name("job.toml"))], ["resume", str(own.run), *MORE]):
        capsys.readouterr()
        output = ["-o", str(own.file.with_name("again.h5"))] if words[0] == "run" else []
        assert cli.main([*words, *output]) == 0
        said = capsys.readouterr().out.splitlines()
        assert said[:2] == [f"runs code of {own.file} ({key})", "imported"]


def test_a_file_that_has_changed_is_refused_unless_it_is_asked_for(own, refusal):
    own, key = own
    own.change()
    line = refusal("resume", own.run, *MORE)
    assert line.startswith(f"{own.run}: {key} names {own.file}, which is not the file that the run")
    assert line.endswith("put that one back, or say --changed-code")
    assert not own.marker.exists()
    assert cli.main(["resume", str(own.run), *MORE, "--changed-code"]) == 0
    assert own.marker.exists()
    assert cli.main(["resume", str(own.run), "--set", "stop.max_iterations=4"]) == 0
    assert len(read_run(own.run).history["loss"]) == 5


def test_a_file_that_is_gone_is_said_to_be_gone(tmp_path, refusal):
    own = Own(tmp_path, "problem.name")
    own.file.unlink()
    asked = f"{own.run}: problem.name names {own.file}"
    line = f"{asked}, which is not there: put the file back that the run was made with"
    assert refusal("resume", own.run, *MORE) == line
    assert refusal("plot", own.run, "--fields", "u", "-o", tmp_path / "u.png") == line
    own.file.mkdir()
    assert "which cannot be read: put the file back" in refusal("resume", own.run, *MORE)


@pytest.mark.parametrize("kept", [None, b"", b"[]", b'{"mine.py": 3}'])
def test_a_run_file_that_does_not_know_the_file_is_refused(tmp_path, refusal, kept):
    own = Own(tmp_path, "solver.name")
    with h5py.File(own.run, "r+") as file:
        del file.attrs["own_code"]
        if kept is not None:
            file.attrs["own_code"] = kept
    assert "then unknown): put that one back" in refusal("resume", own.run, *MORE)
    assert not own.marker.exists()


def test_reports_and_figures_run_no_file(own, tmp_path, capsys):
    own, _ = own
    assert cli.main(["report", str(own.run)]) == 0
    assert cli.main(["plot", str(own.run), "-o", str(tmp_path / "figure.png")]) == 0
    assert not own.marker.exists()


# What asks for the solution of a run imports its equations.
ASKING = {
    "predict": ("t=0:1:3,x=0", "-o", "u.csv"),
    "export": ("-o", "u.pt2"),
    "plot": ("--fields", "u", "-o", "u.png"),
}


@pytest.mark.parametrize("command", ASKING)
def test_what_asks_for_a_solution_names_the_equations_file_and_refuses_a_changed_one(
    tmp_path, monkeypatch, capsys, refusal, command
):
    own, words = Own(tmp_path, "problem.name"), ASKING[command]
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert cli.main([command, str(own.run), *words]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [f"runs code of {own.file} (problem.name)", "imported"]
    own.change()
    own.marker.unlink()
    assert "which is not the file that the run" in refusal(command, own.run, *words)
    assert not own.marker.exists()
    assert cli.main([command, str(own.run), *words, "--changed-code"]) == 0
