"""Small logistic problems for tests."""

import numpy as np
from scipy.sparse import csr_array

from hpctrain.objective import Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.logistic.problem import LabelledRows, LogisticProblem
from hpctrain.solvers.base import Setting

CHUNKS = 8


def random_rows(samples=60, features=6, seed=0, sparse=False) -> LabelledRows:
    """Noisy labels of a random plane; sparse rows have about half of their features."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((samples, features))
    if sparse:
        rows *= random.random(rows.shape) < 0.5
    noise = 0.5 * random.standard_normal(samples)
    labels = np.where(rows @ random.standard_normal(features) + noise > 0, 1.0, -1.0)
    return LabelledRows(csr_array(rows) if sparse else rows, labels)


def random_problem(samples=60, features=6, seed=0, sparse=False, ridge=None) -> LogisticProblem:
    return LogisticProblem(random_rows(samples, features, seed, sparse), "test data", ridge)


def objective_over(problem: LogisticProblem, communicator: Communicator | None = None) -> Objective:
    communicator = communicator or Communicator()
    return Objective.of(problem, communicator, CHUNKS)


def setting_over(
    problem: LogisticProblem, seed: int = 0, communicator: Communicator | None = None
) -> Setting:
    return Setting(objective_over(problem, communicator), seed)
