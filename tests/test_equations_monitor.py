"""The errors of a PINN on its test grid, against NumPy on the field that is written with them."""

import numpy as np
import pytest
import torch

from hpctrain.networks.dense import DenseNetwork
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations import Box, Condition, Equations, Observations, Unknown
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
    assert "k = 2 ± " in monitor.summary(values) and "(20 % off)" in monitor.summary(values)


class Line(Equations):
    """y = a + b x through noisy measurements; the network has no part in it."""

    geometry = Box(x=(-1, 1))
    fields = ("y",)
    unknowns = {"a": Unknown(1.0), "b": Unknown(0.5, positive=True)}

    def __init__(self, x, y):
        self.conditions = (
            Observations({"x": x, "y": y}, ["y"]),
            Condition(lambda at, y, a, b: y - a - b * at.x, on="inside", points=len(x)),
        )

    def residuals(self, at, y):
        return 1e-9 * y.x


def test_standard_errors_of_a_straight_line_are_those_of_linear_regression():
    """The residuals y_j − N_j, N_j − a − b x_j: eliminating N doubles the variance of a row."""
    random = np.random.default_rng(0)
    x = np.linspace(-0.99, 0.99, 40)
    y = 2 + 0.7 * x + 0.1 * random.standard_normal(40)
    problem = PinnProblem(Line(x, y), DenseNetwork(1, 3, 2), Formulation(10))
    theta = problem.initial_parameters(0)
    theta[-2:] = torch.tensor([2.0, np.log(0.7)])
    found = problem.uncertainties(theta, Communicator(), 4, 1)
    share = problem.share(4, 0, 1, 1)
    J = torch.cat([t.loss.jacobian(theta, 0, 4)[:, 1:] for t in share._terms]).numpy()
    r = share._terms[1].loss.residuals(theta).numpy()
    covariance = np.linalg.pinv(J.T @ J, rcond=1e-13) * np.mean(r**2)
    assert found["a"].standard_error == pytest.approx(2 * 0.5 * covariance[-2, -2] ** 0.5, rel=1e-3)
    assert found["b"].standard_error == pytest.approx(0.7 * covariance[-1, -1] ** 0.5, rel=1e-3)
    assert found["a"].is_identified and found["b"].is_identified


def test_an_unknown_that_the_residuals_do_not_determine_is_named():
    class Twice(Line):
        unknowns = {"a": Unknown(1.0), "b": Unknown(1.0)}

        def __init__(self):
            sum_of = Condition(lambda at, y, a, b: y - a - b, on="inside", points=20)
            self.conditions = (sum_of,)

    problem = PinnProblem(Twice(), DenseNetwork(1, 3, 2), Formulation(10))
    monitor = problem.monitor(Communicator(), 4, 1)
    theta = problem.initial_parameters(0)
    monitor.solution(theta)
    assert "hardly determined by the residuals" in monitor.summary(monitor.values(theta))
