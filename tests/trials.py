"""A small job for every solver of the registry: on equations, images or labelled rows."""

from pathlib import Path

import h5py
import numpy as np
from classifiers import write_h5

from hpctrain.job.settings import parse_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.run import assemble as build

SAMPLES, FEATURES = 16, 3
# Columns of a history that no two runs have alike.
TIMES = ("seconds", "wall_seconds")
JOB = """
[problem]
{problem}
{network}
[solver]
name = "{name}"
{settings}
[parallel]
chunks = 4
threads = 1
[stop]
max_iterations = 8
"""
PDE = """
import torch
from hpctrain.problems.equations import Box, Equations

class Mine(Equations):
    geometry, test_grid = Box(t=(0.0, 1.0), x=(-1.0, 1.0)), (3, 3)

    def residuals(self, at, u):
        return {residual}
"""
PINN = (
    'name = "{folder}/mine.py:Mine"\npoints = 20\nscale_distance = false',
    '[network]\nkind = "mlp"\ndepth = 3\nwidth = 3\nactivation = "tanh"\nscale_inputs = false',
)
CLASSES = (
    'name = "classification"\ndata = "two.h5"\ndata_path = "{folder}"',
    '[network]\nkind = "fcnn"\nhidden = [4, 3]\nactivation = "tanh"',
)
RESNET = (CLASSES[0], '[network]\nkind = "dense-resnet"\nwidth = 3\nblocks = 4')
LOGISTIC = ('name = "logistic"\ndata = "{folder}/rows.h5"', "")
# Where a solver is tried, unless on a PINN without further settings.
TRIED = {
    "aspqn": (PINN, "blocks = 3\nlocal_steps = 2"),
    "mspqn": (PINN, "blocks = 3\nlocal_steps = 2"),
    "newton-krylov-schwarz": (PINN, "blocks = 3\nsketch = 10"),
    "apts-weights": (CLASSES, "local_steps = 2"),
    "apts-data": (CLASSES, "local_steps = 2"),
    "apts-parts": (CLASSES, "batch_size = 16\nparts = 2"),
    "rmtr": (RESNET, "levels = 2\nbatch_size = 16\ncoarse_steps = 2"),
    **dict.fromkeys(["mlvr", "mlvr-krylov", "astrom", "ssn", "newton"], (LOGISTIC, "")),
    **dict.fromkeys(["svrg", "sarah"], (LOGISTIC, f"learning_rate = {SAMPLES}\ninner_steps = 2")),
}
# The same on mini-batches.
BATCHED = {
    "sgd": f"learning_rate = {SAMPLES}\nmomentum = 0\nbatch_size = 4",
    "adam": "batch_size = 4",
    "trust-region": "batch_size = 4",
    "apts-weights": "blocks = 1\nbatch_size = 4",
    "rmtr": "levels = 1\nbatch_size = 4\nzeta = 0",
}


class Trial:
    """Jobs on data and equations in a folder, written by one rank of those that read them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def flatten(self) -> "Trial":
        """Writes problems that have no gradient where all parameters are zero."""
        self.equation("torch.relu(u.value - 100) + 1")
        self.rows(np.zeros((SAMPLES, FEATURES)))
        write_h5(self.folder / "two.h5", train=SAMPLES, classes=2)
        return self

    def pose(self) -> "Trial":
        """Writes problems whose losses descend for many steps."""
        write_h5(self.folder / "two.h5", train=SAMPLES, classes=2)
        self.equation("u.t + u.value * u.x - 0.1 * u.xx - torch.sin(at.x)")
        self.rows(np.random.default_rng(0).standard_normal((SAMPLES, FEATURES)))
        return self

    def equation(self, residual: str) -> None:
        (self.folder / "mine.py").write_text(PDE.format(residual=residual))

    def rows(self, features: np.ndarray) -> None:
        with h5py.File(self.folder / "rows.h5", "w") as file:
            file["features"], file["labels"] = features, np.resize([-1.0, 1.0], len(features))

    def text(self, name: str, tried=None) -> str:
        (problem, network), settings = tried or TRIED.get(name, (PINN, ""))
        text = JOB.format(problem=problem, network=network, name=name, settings=settings)
        return text.replace("{folder}", str(self.folder))

    def job(self, name: str, *overrides: str, tried=None):
        return parse_job(self.text(name, tried), "a test", overrides)


def made(job):
    """The job's solver, and its state at θ₀."""
    problem = build.make_problem(job)
    objective = build.make_objective(problem, Communicator(), job.parallel.chunks, 1)
    solver = build.make_job_solver(job, objective)
    return solver, solver.init(problem.make_initial_parameters(job.seed))


def assert_same_history(found, expected):
    """The columns of two histories have the same bits, but for times."""
    assert found.keys() == expected.keys()
    for name in expected.keys() - set(TIMES):
        assert np.array_equal(found[name], expected[name], equal_nan=True), name
