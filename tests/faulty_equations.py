"""Equations of one's own whose functions are replaced by faulty ones."""

from pathlib import Path

import torch

from hpctrain.job.settings import Job, load_job
from hpctrain.networks.dense import DenseNetwork
from hpctrain.problems.equations import Box, Dirichlet, Equations, Initial
from hpctrain.problems.equations.checks.probe import probe
from hpctrain.problems.equations.problem import Formulation, PinnProblem

# A parameter of nobody's; `Free.ansatz`, which calls faulty functions, sees it by this name.
NU = torch.nn.Parameter(torch.tensor(0.1, dtype=torch.float64))


class Heat(Equations):
    """u_t = u_xx / 10, right as it stands."""

    geometry = Box(t=(0.0, 1.0), x=(0.0, 1.0))
    conditions = (
        Initial({"u": lambda at: torch.sin(torch.pi * at.x)}),
        Dirichlet({"u": 0.0}),
    )
    test_grid = (11, 11)

    def ansatz(self, at):
        return {"u": (torch.sin(torch.pi * at.x), at.t * at.x * (1 - at.x))}

    def residuals(self, at, u):
        return u.t - 0.1 * u.xx


class Free(Heat):
    """Without conditions, so that any G and D may stand in the ansatz."""

    conditions = ()
    G = D = None

    def ansatz(self, at):
        t, x = at
        given = {"G": torch.sin(torch.pi * x), "D": t * x * (1 - x)}
        pair = (getattr(type(self), name) or given[name] for name in "GD")
        return {"u": tuple(each(at) if callable(each) else each for each in pair)}


def pinn(equations, dtype=torch.float64):
    """A small problem of some equations."""
    network = DenseNetwork(2, 4, 2)
    return PinnProblem(equations, network, Formulation(64, condition_points=20), dtype)


def broken(base=Heat, **data):
    """The equations with other functions, each given as a lambda."""
    return type("Mine", (base,), data)()


def probed(base=Heat, dtype=torch.float64, **data):
    """A problem of the equations with other functions, looked at as before a run."""
    problem = pinn(broken(base, **data), dtype)
    probe(problem, dtype)
    return problem


def job(*overrides) -> Job:
    """A small job, of other settings too."""
    return load_job("jobs/burgers.toml", ["problem.points=64", "network.depth=2", *overrides])


def mine(tmp_path: Path, text: str) -> str:
    """An override that names an equation made of Heat's lines in a file."""
    (tmp_path / "mine.py").write_text(text)
    return f"problem.name={tmp_path / 'mine.py'}:Mine"


HEAD = """\
import torch
from hpctrain.problems.equations import Box, Equations
class Mine(Equations):
    geometry = Box(t=(0.0, 1.0), x=(0.0, 1.0))
    test_grid = (11, 11)
    def ansatz(self, at):
        return {"u": (torch.sin(torch.pi * at.x), at.t * at.x * (1 - at.x))}
"""
RIGHT = f"""{HEAD}
    def residuals(self, at, u):
        return u.t - u.xx
"""
