"""Networks of subdomains on several ranks: the steps of one rank, bit by bit."""

import pytest
import torch

from hpctrain.networks.dense import DenseNetwork
from hpctrain.objective import Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations.library import EQUATIONS
from hpctrain.problems.equations.problem import Formulation, PinnProblem
from hpctrain.solvers.base import Setting
from hpctrain.solvers.gauss_newton import GaussNewton, GaussNewtonOptions

FREQUENCIES = torch.linspace(-3, 4, 10, dtype=torch.float64).view(5, 2)
FORMULATION = Formulation(
    90, scale_inputs=True, subdomains={"t": 2, "x": 3}, overlap=0.7, fourier=FREQUENCIES
)


# The second one is periodic in x, whose cells make a ring.
NAMES = ["burgers", "convection"]


def train(ranks, name, factorisation):
    """θ after three steps, and errors on a grid."""
    problem = PinnProblem(EQUATIONS[name](), DenseNetwork(2, 4, 3), FORMULATION)
    options = GaussNewtonOptions(factorisation=factorisation)
    solver = GaussNewton(Setting(Objective.of(problem, ranks, 8), 0), options)
    state = solver.init(problem.make_initial_parameters(0))
    for _ in range(3):
        state, _ = solver.step(state)
    return state.point, problem.make_monitor(ranks, 8, 1).measure(state.point.theta)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factorisation", ["gram", "qr"])
def test_steps_have_the_bits_of_one_rank(comm, assert_everywhere, name, factorisation):
    found, errors = train(comm, name, factorisation)
    expected, alone = train(Communicator(), name, factorisation)
    assert_everywhere(torch.equal(found.theta, expected.theta), "the parameters")
    assert_everywhere(found.loss == expected.loss, "the loss")
    assert_everywhere(errors == alone, "the errors")
