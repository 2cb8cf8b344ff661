"""The comparison with other programs: they start where hpctrain starts, and its table is honest."""

import json

import numpy as np
import pytest
import torch

from benchmarks.peers.cases import CASES, write_start
from benchmarks.peers.programs import PROGRAMS
from benchmarks.peers.runs import Plan
from benchmarks.peers.table import write_table
from hpctrain.job.settings import load_job
from hpctrain.problems.equations import At
from hpctrain.run.assemble import make_problem


@pytest.mark.parametrize("name", CASES)
def test_the_arrays_of_a_start_are_the_network_of_hpctrain(name, tmp_path):
    write_start(name, 1, tmp_path / "start.npz")
    with np.load(tmp_path / "start.npz") as start:
        y = start["slope"] * (start["test"] - start["middle"])
        depth = sum(key.startswith("W") for key in start.files)
        for number in range(depth):
            y = y @ start[f"W{number}"].T + start[f"b{number}"]
            y = np.tanh(y) if number + 1 < depth else y
        points = torch.tensor(start["test"].T)
    problem = make_problem(load_job(CASES[name].job))
    names = problem.equations.fields
    found = problem.evaluate(problem.make_initial_parameters(1), points, names, 1)
    for k, field in enumerate(names):
        expected = torch.tensor(y[:, k])
        if field in problem.forms:
            G, D = problem.equations.ansatz(At(problem.frame.axes, points))[field]
            expected = G + D * expected
        assert torch.allclose(found[field], expected, rtol=1e-11, atol=1e-11)


@pytest.fixture
def plan(tmp_path):
    return Plan(tmp_path, ["hpctrain ssbroyden", "PINA"], ["burgers"], [0, 1, 2], 60, 1)


def put(plan, program, curves):
    for seed, (seconds, errors) in enumerate(curves):
        path = plan.find_result(program, "burgers", seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"seconds": seconds, "errors": errors, "iterations": [0, 9], "versions": {}}
        path.write_text(json.dumps(content))


def test_rows_that_hpctrain_loses_come_first_and_seeds_that_fail_are_told(plan):
    put(plan, "hpctrain ssbroyden", [([1, 4], [5e-3, 9e-4])] * 3)
    put(plan, "PINA", [([2, 3], [5e-3, 9e-4])] * 2 + [([2, 3], [5e-3, 2e-3])])
    rows = [line.split("|")[1:-1] for line in write_table(plan).splitlines() if "| burgers" in line]
    told = [[cell.strip() for cell in row] for row in rows[:4]]
    assert told[0] == ["burgers", "0.001", "4", "**3** (2/3)"]
    assert ["burgers", "0.01", "**1**", "2"] in told
    assert ["burgers", "1e-05", "not reached", "not reached"] in told


def test_a_result_with_another_limit_is_another_one(plan):
    longer = Plan(plan.folder, plan.programs, plan.problems, plan.seeds, 120, 1)
    places = {each.find_result("PINA", "burgers", 0) for each in (plan, longer)}
    assert len(places) == 2


def test_every_program_has_its_script_and_an_environment_with_fixed_versions(plan):
    from benchmarks.peers.programs import WORKERS

    for program in PROGRAMS.values():
        assert (WORKERS / program.script).is_file()
        assert all("==" in each for each in program.packages[:1])
