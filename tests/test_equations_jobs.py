"""The jobs of the library: each trains, with few points and a small network."""

from pathlib import Path

import pytest

from hpctrain import make_objective, make_problem, make_solver
from hpctrain.job.settings import load_job

JOBS = sorted((Path(__file__).parents[1] / "jobs" / "library").glob("*.toml"))
SMALL = {
    "problem.points": 64,
    "problem.condition_points": 16,
    "network.depth": 2,
    "network.width": 4,
}


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_three_steps_of_a_job_lower_its_loss(path):
    job = load_job(path)
    changes = dict(SMALL)
    if job.problem.slabs is not None:
        changes["problem.slabs"] = 2
    problem = make_problem(path, set=changes)
    solver = make_solver(make_objective(problem, chunks=8), job.solver[0].name)
    state = solver.init(problem.make_initial_parameters(0))
    first = state.point.loss
    for _ in range(3):
        state, _ = solver.step(state)
    assert state.point.loss < first
