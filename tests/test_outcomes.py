"""How iterations end, in the terms of each method, in records, run files and tables."""

import json

import h5py
import pytest
import torch
from job_texts import write_text
from quadratic import minimum, random_quadratic, setting_of
from residuals import linear_problem

from hpctrain import cli
from hpctrain.methods.outcomes import Outcome
from hpctrain.results.report import make_summary_rows
from hpctrain.solvers import make_solver
from hpctrain.solvers.base import Record, Setting
from hpctrain.solvers.gauss_newton import GaussNewtonOptions
from hpctrain.solvers.quasi_newton import LBFGSOptions, SelfScaledOptions
from hpctrain.solvers.spqn import SPQNOptions
from hpctrain.solvers.torch_lbfgs import TorchLBFGSOptions
from hpctrain.solvers.trust_region import TrustRegionSolverOptions
from hpctrain.solvers.variance_reduction import NewtonOptions, SSNOptions
from hpctrain.store.run_file import read_run

JOB = write_text(
    'name = "burgers"\npoints = 40',
    network="depth = 2\nwidth = 3",
    solver='name = "gauss-newton"\ncontraction = 1e-12',
    stop="max_iterations = 5",
    chunks=2,
)

FINAL = [
    (LBFGSOptions(), Outcome.NO_DESCENT),
    (SelfScaledOptions(), Outcome.NO_DESCENT),
    (SPQNOptions(blocks=2, local_steps=2), Outcome.NO_BLOCK_DESCENT),
    (TorchLBFGSOptions(), Outcome.NO_LOWER_LOSS),
    (TrustRegionSolverOptions(), Outcome.NO_DECREASE_FORESEEN),
]


def outcomes(setting, options, theta, steps=60):
    """Those of the iterations from θ, up to the first final one."""
    solver, found = make_solver(setting, options), []
    state = solver.init(theta)
    while len(found) < steps and not (found and found[-1].is_final):
        state, record = solver.step(state)
        found.append(record.outcome)
    return found


@pytest.mark.parametrize("options, last", FINAL, ids=str)
def test_at_a_minimum_a_solver_ends_with_an_outcome_in_its_own_terms(options, last):
    loss = random_quadratic(8)
    found = outcomes(setting_of(loss, [4, 4]), options, minimum(loss))
    assert found[-1] is last and last.is_final
    assert not any(outcome.is_final for outcome in found[:-1])


@pytest.mark.parametrize(
    "options, last",
    [(NewtonOptions(), Outcome.NO_NEWTON_DESCENT), (SSNOptions(), Outcome.STEP_UNDERFLOW)],
    ids=str,
)
def test_where_no_step_is_left_a_newton_method_says_which(options, last):
    loss = random_quadratic(8)
    loss.b.zero_()
    theta = torch.zeros(8, dtype=torch.float64)
    assert outcomes(setting_of(loss, [8]), options, theta) == [last]


def test_a_sketch_without_a_decrease_is_followed_by_another_one():
    A, b, objective = linear_problem()
    options = GaussNewtonOptions(sketch=16)
    theta = torch.linalg.lstsq(A, b[:, None]).solution[:, 0]
    found = outcomes(Setting(objective), options, theta, steps=5)
    assert found[-1] is Outcome.SKETCH_EXHAUSTED and len(found) == 5


def test_a_run_that_has_nothing_left_says_why_and_goes_no_further(write_job, tmp_path, capsys):
    output = tmp_path / "run.h5"
    assert cli.main(["run", str(write_job(JOB)), "-o", str(output)]) == 0
    why = Outcome.DAMPING_LIMIT.text
    assert f"stopped: {why}\n" in capsys.readouterr().out
    run = read_run(output)
    assert run.stop_reason == why
    with h5py.File(output) as file:
        names = h5py.check_enum_dtype(file["history/outcome"].dtype)
    assert run.history["outcome"].tolist() == [names["ACCEPTED"], names["DAMPING_LIMIT"]]
    [row] = make_summary_rows([run])
    assert (row["iterations"], row["of them refused"]) == (1, 1)
    assert cli.main(["resume", str(output)]) == 0
    assert f"nothing to do, {output} has ended: {why}\n" in capsys.readouterr().out


@pytest.mark.parametrize("outcome", Outcome, ids=str)
def test_a_record_comes_back_from_json_with_its_outcome(outcome):
    record = Record(1.0, 2.0, 0.5, 1, 1, outcome, epoch=0.5, details={"radius": 1.0})
    assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record


@pytest.mark.parametrize("outcome", Outcome, ids=str)
def test_no_outcome_is_final_for_some_of_the_samples(outcome):
    assert not outcome.take_samples().is_final
    assert outcome.is_final or outcome.take_samples() is outcome
