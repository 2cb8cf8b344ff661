"""The errors of a PINN on its test grid, against NumPy on the field that is written with them."""

import numpy as np
import pytest
import torch

from hpctrain.networks.dense import DenseNetwork
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations import Box, Equations, Unknown
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


class Flow(Equations):
    """Two fields, one of them known up to a constant."""

    geometry = Box(x=(0, 1), y=(0, 2))
    fields = ("v", "p")
    unknowns = {"k": Unknown(2.0, true=2.5)}
    up_to_constant = ("p",)
    test_grid = (7, 9)

    def residuals(self, at, v, p, k):
        return v.x + k * p.y

    def reference(self, at):
        return {"v": torch.sin(at.x), "p": at.x * at.y}


def test_errors_of_several_fields_and_those_up_to_a_constant():
    problem = PinnProblem(Flow(), DenseNetwork(2, 5, 3), Formulation(points=20))
    theta = problem.initial_parameters(1)
    monitor = problem.monitor(Communicator(), 8, 1)
    assert monitor.columns == ("error", "error_v", "error_p", "k")
    fields, values = monitor.solution(theta), monitor.values(theta)
    x, y = np.meshgrid(fields["x"], fields["y"], indexing="ij")
    v, p = fields["prediction_v"] - np.sin(x), fields["prediction_p"] - x * y
    error_v = np.linalg.norm(v) / np.linalg.norm(np.sin(x))
    error_p = np.linalg.norm(p - p.mean()) / np.linalg.norm(x * y - (x * y).mean())
    assert values["error_v"] == pytest.approx(error_v, rel=1e-12)
    assert values["error_p"] == pytest.approx(error_p, rel=1e-10)
    assert values["error"] == max(values["error_v"], values["error_p"]) and values["k"] == 2.0
    assert "k = 2 (20 % off)" in monitor.summary(values)
