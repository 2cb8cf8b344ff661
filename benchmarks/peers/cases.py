"""The problems on which hpctrain and its peers are timed, and the start that all of them get.

Every program gets the same points, network, initial parameters, test points and loss, as arrays in
one file for each problem and seed. The loss is

    L = Σ_t mean_j Σ_i r_tij²,

over the terms t, their points j and the residuals i at a point.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hpctrain.job.settings import load_job
from hpctrain.linalg.arrays import to_array
from hpctrain.problems.equations import At
from hpctrain.problems.equations.errors import find_test_points
from hpctrain.problems.equations.problem import PinnProblem
from hpctrain.run.assemble import make_problem

# Relative L2 errors, the largest over the fields, whose first time is told.
TARGETS = (1e-2, 1e-3, 4.6e-4, 1e-5)


@dataclass(frozen=True)
class Case:
    """A problem.

    Attributes:
        job: the job file of hpctrain that states it, with a plain network of tanh.
        measured: for each term beside the equation's, the fields whose values it asks for.
    """

    job: str
    measured: tuple[tuple[str, ...], ...] = ()


CASES = {
    "burgers": Case("jobs/burgers.toml"),
    "klein-gordon": Case("jobs/klein-gordon-gauss-newton.toml"),
    "kovasznay": Case("jobs/library/kovasznay.toml", (("u", "v"), ("p",))),
    "burgers-inverse": Case("jobs/library/burgers-inverse.toml", (("u",),)),
}


def write_start(name: str, seed: int, path: Path) -> None:
    """Writes what every program starts from, as an .npz file.

    Its arrays, with d coordinates and q unknowns:

    - `problem`: the name.
    - `W0`, `b0`, `W1`, …: the weights (outputs, inputs) and biases of the network's layers.
    - `middle` (d,), `slope` (d,): the network is given slope · (x - middle).
    - `taus` (q,): the free numbers of the unknowns; see `problems.equations.unknowns`.
    - `points` (N, d): of the equations.
    - `points0`, `values0`, …: of each other term, (N, d) and (N, fields).
    - `test` (M, d), `truth` (M, fields): where the error is measured.
    """
    case = CASES[name]
    problem = make_problem(load_job(case.job))
    assert isinstance(problem, PinnProblem)
    theta, (network,) = problem.make_initial_parameters(seed), problem.network.parts
    arrays: dict[str, object] = {"problem": name, "taus": to_array(theta[network.parameters :])}
    for number, layer in enumerate(network.layers):
        arrays[f"W{number}"] = to_array(layer.weight(theta))
        arrays[f"b{number}"] = to_array(layer.bias(theta))
    bounds = torch.tensor(problem.frame.region.bounds, dtype=torch.float64)
    scaled = problem.formulation.scale_inputs
    arrays["middle"] = to_array(bounds.mean(1)) if scaled else np.zeros(len(bounds))
    arrays["slope"] = (
        to_array(2 / (bounds[:, 1] - bounds[:, 0])) if scaled else np.ones(len(bounds))
    )
    equation, *others = problem.terms
    arrays["points"] = to_array(equation.points.T)
    for number, (term, fields) in enumerate(zip(others, case.measured, strict=True)):
        arrays[f"points{number}"] = to_array(term.points.T)
        arrays[f"values{number}"] = _evaluate(problem, term.points, fields)
    test = find_test_points(problem.equations)
    arrays["test"] = to_array(test.T)
    arrays["truth"] = _evaluate(problem, test, problem.equations.fields)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, **arrays)  # type: ignore[arg-type]
    temporary.replace(path)


def _evaluate(problem: PinnProblem, points: torch.Tensor, fields: tuple[str, ...]) -> np.ndarray:
    """The exact values (N, fields) at points (d, N)."""
    found = problem.equations.reference(At(problem.frame.axes, points))
    named = found if isinstance(found, dict) else {problem.equations.fields[0]: found}
    return np.stack([to_array(named[field]) for field in fields], axis=1)
