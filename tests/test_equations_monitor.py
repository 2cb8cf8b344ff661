"""The errors of a PINN on its test grid, against NumPy on the field that is written with them."""

import numpy as np
import pytest

from hpctrain.networks.dense import DenseNetwork
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations.library.klein_gordon import KleinGordon
from hpctrain.problems.equations.problem import Formulation, PinnProblem


def test_the_error_is_divided_by_the_reference_and_that_of_the_paper_by_the_network():
    problem = PinnProblem(KleinGordon(), DenseNetwork(2, 5, 3), Formulation(points=20))
    theta = 3 * problem.initial_parameters(1)
    monitor = problem.monitor(Communicator(), 8, 1)
    fields = monitor.solution(theta)
    u, exact = fields["prediction"], fields["reference"]
    np.testing.assert_allclose(exact, fields["x"] * np.cos(fields["t"][:, None]), atol=1e-14)
    difference, size, own = (np.linalg.norm(each) for each in (u - exact, exact, u))
    assert abs(own - size) > 0.1 * size
    values = monitor.values(theta)
    assert values["error"] == pytest.approx(difference / size, rel=1e-12)
    assert values["error_paper"] == pytest.approx(difference / own, rel=1e-12)
    text = f"relative error {difference / size:.3e} (divided by |u_NN|: {difference / own:.3e})"
    assert monitor.summary(values) == text
