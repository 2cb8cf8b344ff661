"""Each example, a class and a job in `examples/`, is short, documented, and trains."""

from pathlib import Path

import pytest

from hpctrain.job.settings import load_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.assemble import make_problem
from hpctrain.run.train import run
from hpctrain.store.run_file import read_run

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.toml"))
ITERATIONS = 60
SHORT = (
    f"stop.max_iterations={ITERATIONS}",
    f"output.error_every={ITERATIONS}",
    "problem.points=150",
    "problem.condition_points=30",
    "network.depth=3",
    "network.width=12",
    "parallel.chunks=4",
    "parallel.threads=1",
)


def text_of(name):
    return (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", EXAMPLES)
def test_loss_and_error_of_an_example_fall_and_its_unknowns_come_near_to_the_truth(
    name, monkeypatch, tmp_path
):
    monkeypatch.chdir(ROOT)
    job = load_job(f"examples/{name}.toml", SHORT)
    path = tmp_path / f"{name}.h5"
    run(job, Communicator(), output=str(path))
    history = read_run(path).history
    first, last = ({key: column[k] for key, column in history.items()} for k in (0, -1))
    assert last["iteration"] == ITERATIONS and last["loss"] < 0.03 * first["loss"]
    unknowns = make_problem(job).equations.unknowns
    assert "error" in last or unknowns
    assert last.get("error", 0.0) <= 0.35 * first.get("error", 0.0)
    for unknown, found in unknowns.items():
        assert abs(last[unknown] - found.true) < 0.2 * abs(first[unknown] - found.true)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short_and_the_documentation_says_what_it_shows(name):
    assert len(text_of(name).splitlines()) <= 30
    assert f"../examples/{name}.py" in (ROOT / "docs/own_equations.md").read_text(encoding="utf-8")
