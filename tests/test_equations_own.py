"""An equation from a file of the user's own, as docs/own_equations.md has it."""

from pathlib import Path

import pytest
import torch
from pinns import formed, grid_of, inside, noise, reference, residual_of

from hpctrain.errors import InputError
from hpctrain.job.settings import load_job
from hpctrain.kernels import is_native_available
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.assemble import make_problem
from hpctrain.run.train import run
from hpctrain.store.run_file import read_run

ROOT = Path(__file__).parents[1]
SHORT = ("stop.max_iterations=1", "parallel.chunks=4", "parallel.threads=1")


@pytest.fixture
def job(monkeypatch):
    """The example's job with overrides, from the folder that its paths start in."""
    monkeypatch.chdir(ROOT)
    return lambda *overrides: load_job("examples/heat.toml", overrides)


def test_a_file_of_ones_own_trains_to_a_small_error(job, tmp_path):
    path = tmp_path / "heat.h5"
    short = job("problem.points=256", "stop.max_iterations=80")
    outcome = run(short, Communicator(), output=str(path))
    assert outcome.iterations == 80
    history = read_run(path).history
    assert history["error"][0] > 0.5
    assert history["error"][-1] < 2e-3


def test_its_conditions_hold_exactly_and_its_reference_solves_it(job):
    heat = make_problem(job()).equations
    t, x, y = boundary = grid_of(heat, 5, 9, 9)
    u = formed(heat, boundary, noise)
    start = torch.sin(torch.pi * x) * torch.sin(torch.pi * y)
    assert torch.equal(u[t == 0], start[t == 0])
    # sin π is 1.2e-16 in floating point; the network contributes nothing at all.
    assert u[x * (1 - x) * y * (1 - y) == 0].abs().max() < 2e-16
    points = inside(heat, 500)
    assert residual_of(heat, lambda x: reference(heat, x), points).abs().max() < 1e-13


HEAT = (ROOT / "examples" / "heat.py").read_text()
FAULTY_FILES = {
    "no class": ("import math\n", r"mine\.py has no class Heat of type Equations$"),
    "another class": ("class Heat:\n    pass\n", r"mine\.py has no class Heat of type Equations$"),
    "bad syntax": ("class Heat(:\n", r"fails: .*mine\.py:1: SyntaxError: invalid syntax$"),
    "bad import": ("import no_such_module\n", r"mine\.py:1: ModuleNotFoundError: No module named"),
    "exception of several lines": (
        "\nraise ValueError('one\\ntwo')\n",
        r"fails: .*mine\.py:2: ValueError: one two$",
    ),
    "a call without what it needs": (
        "from hpctrain.problems.equations import Unknown\nUnknown()\n",
        r"mine\.py:2: TypeError: Unknown.__init__\(\) missing 1 required positional argument:"
        r" 'start'; Unknown: A number to be found: Unknown\(0\.5\), or",
    ),
    "a call with too much": (
        "from hpctrain.problems.equations import Robin\nRobin('u', exact=True)\n",
        r"argument 'exact'; Robin: a u \+ b ∂u/∂n = g on a part of the boundary: Robin\(\"u\"",
    ),
    "an exit": ("import sys\nsys.exit(3)\n", r"fails: .*mine\.py:2: SystemExit: 3$"),
    "bad constructor": (
        HEAT.replace("    kappa", "    def __init__(self):\n        self.a = {}['b']\n    kappa"),
        r"fails: .*mine\.py:\d+: KeyError: 'b'$",
    ),
    "no residual": (
        HEAT.replace("def residuals", "def residues"),
        r"mine\.py: TypeError: Can't instantiate abstract class Heat",
    ),
    "bad class data": (
        HEAT.replace("(21, 41, 41)", "(21, 41)"),
        r"^Heat\.test_grid is \(21, 41\): it must",
    ),
}


@pytest.mark.parametrize("fault", FAULTY_FILES)
def test_a_file_that_cannot_be_used_is_named_in_one_line(job, tmp_path, fault):
    text, message = FAULTY_FILES[fault]
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        make_problem(job(f"problem.name={tmp_path}/mine.py:Heat"))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named_with_the_folder_it_is_missing_from(job):
    with pytest.raises(InputError) as caught:
        make_problem(job("problem.name=none.py:Heat"))
    assert str(caught.value) == (
        f"problem.name = 'none.py:Heat': there is no file none.py (from {ROOT})"
    )


@pytest.mark.skipif(not is_native_available(), reason="native kernels are not built")
@pytest.mark.parametrize("function, named", [("torch.erf", True), ("torch.sigmoid", False)])
def test_a_run_says_which_operation_keeps_its_residual_in_torch(
    job, tmp_path, capsys, function, named
):
    text = HEAT.replace("return u.t -", f"return u.t + {function}(u) -")
    (tmp_path / "mine.py").write_text(text)
    short = job(f"problem.name={tmp_path}/mine.py:Heat", "problem.points=64", *SHORT)
    run(short, Communicator(), output=str(tmp_path / "run.h5"))
    line = (
        "  residual in torch between two native sweeps: torch.erf is not among the kernels'"
        " operations (an evaluation takes about 1.3 to 2.3 times as long, on several threads more)"
    )
    assert (line in capsys.readouterr().out.splitlines()) is named
    kernels = read_run(tmp_path / "run.h5").attributes["kernels"]
    assert kernels == "native kernels" + (", residual in torch: torch.erf" if named else "")


def test_the_documentation_shows_the_file_as_it_is():
    _, _, block = (ROOT / "docs" / "own_equations.md").read_text().partition("```python\n")
    shown = [line for line in block.partition("```")[0].splitlines() if line]
    assert shown[0] == "class Heat(Equations):" and set(shown) <= set(HEAT.splitlines())
    assert [line for line in HEAT.splitlines() if line in set(shown)] == shown
