"""The errors of a PINN on its test grid, against NumPy on the field that is written with them."""

import re
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch

from hpctrain.networks.dense import DenseNetwork
from hpctrain.objective import Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations import Box, Condition, Equations, Observations, Unknown
from hpctrain.problems.equations.library.klein_gordon import KleinGordon
from hpctrain.problems.equations.problem import Formulation, PinnProblem
from hpctrain.problems.equations.term_losses import describe_overfitted
from hpctrain.problems.equations.terms import ProblemError


def test_the_error_is_divided_by_the_reference_and_that_of_the_paper_by_the_network():
    problem = PinnProblem(KleinGordon(), DenseNetwork(2, 5, 3), Formulation(points=20))
    theta = 3 * problem.make_initial_parameters(1)
    monitor = problem.make_monitor(Communicator(), 8, 1)
    fields = monitor.evaluate_solution(theta)
    u, exact = fields["prediction"], fields["reference"]
    np.testing.assert_allclose(exact, fields["x"] * np.cos(fields["t"][:, None]), atol=1e-14)
    difference, size, own = (np.linalg.norm(each) for each in (u - exact, exact, u))
    assert abs(own - size) > 0.1 * size
    values = monitor.measure(theta)
    assert values["error"] == pytest.approx(difference / size, rel=1e-12)
    assert values["error_paper"] == pytest.approx(difference / own, rel=1e-12)
    text = f"relative error {difference / size:.3e} (divided by |u_NN|: {difference / own:.3e})"
    assert monitor.describe_values(values) == text


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
    theta = problem.make_initial_parameters(1)
    monitor = problem.make_monitor(Communicator(), 8, 1)
    assert monitor.columns == ("error", "error_v", "error_p", "k", "error_k")
    fields, values = monitor.evaluate_solution(theta), monitor.measure(theta)
    x, y = np.meshgrid(fields["x"], fields["y"], indexing="ij")
    v, p = fields["prediction_v"] - np.sin(x), fields["prediction_p"] - x * y
    error_v = np.linalg.norm(v) / np.linalg.norm(np.sin(x))
    error_p = np.linalg.norm(p - p.mean()) / np.linalg.norm(x * y - (x * y).mean())
    assert values["error_v"] == pytest.approx(error_v, rel=1e-12)
    assert values["error_p"] == pytest.approx(error_p, rel=1e-10)
    assert values["error"] == max(values["error_v"], values["error_p"]) and values["k"] == 2.0
    assert values["error_k"] == pytest.approx(0.2, rel=1e-15)
    assert "k = 2 ± " in monitor.describe_values(
        values
    ) and "(20 % off)" in monitor.describe_values(values)


@pytest.mark.parametrize("order", [("u", "v"), ("v", "u")])
@pytest.mark.parametrize("of_constants", [False, True])
def test_beside_a_solution_of_zero_or_a_constant_an_error_is_the_root_mean_square(
    order, of_constants
):
    """Relative to nothing it would be infinite, and must not be lost among those of others."""

    class Still(Equations):
        geometry, test_grid = Box(x=(0, 1)), (11,)
        fields = ("u", "v")
        up_to_constant = ("v",) if of_constants else ()

        def residuals(self, at, u, v):
            return u.x, v.x

        def reference(self, at):
            given = {"u": 1 + at.x, "v": 0 * at.x + (0.3 if of_constants else 0.0)}
            return {name: given[name] for name in order}

    problem = PinnProblem(Still(), DenseNetwork(1, 3, 2), Formulation(10))
    theta = 3 * problem.make_initial_parameters(0) + 0.1
    x = torch.linspace(0, 1, 11, dtype=torch.float64)[None]
    v = problem.evaluate(theta, x, ["v"], 1)["v"]
    found = problem.make_monitor(Communicator(), 4, 1).measure(theta)
    v = v - v.mean() if of_constants else v
    assert found["error_v"] == pytest.approx(float(v.square().mean().sqrt()), rel=1e-9)
    assert found["error"] == max(found["error_u"], found["error_v"])


class Line(Equations):
    """y = a + b x through noisy measurements; the network has no part in it."""

    geometry = Box(x=(-1, 1))
    fields = ("y",)
    unknowns = {"a": Unknown(1.0), "b": Unknown(0.5, positive=True)}

    def __init__(self, x, y, *more):
        self.conditions = (
            Observations({"x": x, "y": y}, ["y"]),
            *more,
            Condition(lambda at, y, a, b: y - a - b * at.x, on="inside", points=len(x)),
        )

    def residuals(self, at, y):
        return 1e-9 * y.x


@pytest.mark.parametrize(
    ("unknowns", "said"),
    [
        ({"error": Unknown(0.5)}, "is named error, as a column"),
        ({"error_u": Unknown(0.5)}, "is named error_u, as a column"),
        ({"k": Unknown(1.0, positive=True, true=-3.0)}, "true = -3.0: it must be above 0"),
    ],
)
def test_unknowns_that_results_could_not_tell_are_refused(unknowns, said):
    with pytest.raises(ProblemError, match=re.escape(said)):
        type("Own", (Line,), {"unknowns": unknowns})([0.1], [0.2]).check()


def test_tables_of_measurements_count_with_the_scatter_of_their_own_rows():
    """Rows of few measurements have larger weights in the loss, and so has their noise."""
    random = np.random.default_rng(1)
    tables = [np.linspace(-0.9, 0.9, count) for count in (6, 90)]
    noisy = [2 + 0.7 * x + 9.0 * random.standard_normal(len(x)) for x in tables]
    more = Observations({"x": tables[1], "y": noisy[1]}, ["y"], weight=3.0, name="more")
    problem = PinnProblem(Line(tables[0], noisy[0], more), DenseNetwork(1, 3, 2), Formulation(10))
    theta = problem.make_initial_parameters(0)
    theta[-2:] = torch.tensor([2.0, np.log(0.7)])
    found = problem.estimate_uncertainties(theta, Communicator(), 4, 1)
    terms = problem.share(4, 0, 1, 1)._terms
    J = [t.loss.evaluate_jacobian(theta, 0, 4)[:, 1:].numpy() for t in terms]
    r = [t.loss.evaluate_residuals(theta).numpy() for t in terms]
    less = 96 / (96 - 2)  # two unknowns
    pooled = less * np.mean(np.concatenate(r[1:3]) ** 2)
    scatter = [pooled, less * np.mean(r[1] ** 2), less * np.mean(r[2] ** 2), pooled]
    assert scatter[1] > 2 * scatter[2]
    inverse = np.linalg.pinv(sum(j.T @ j for j in J), rcond=1e-13)
    middle = sum(s * j.T @ j for s, j in zip(scatter, J, strict=True))
    covariance = inverse @ middle @ inverse
    assert found["a"].standard_error == pytest.approx(covariance[-2, -2] ** 0.5, rel=5e-3)
    assert found["b"].standard_error == pytest.approx(0.7 * covariance[-1, -1] ** 0.5, rel=5e-3)


def test_standard_errors_of_a_straight_line_are_those_of_linear_regression():
    """The residuals y_j − N_j, N_j − a − b x_j: eliminating N doubles the variance of a row."""
    random = np.random.default_rng(0)
    x = np.linspace(-0.99, 0.99, 40)
    y = 2 + 0.7 * x + 0.1 * random.standard_normal(40)
    problem = PinnProblem(Line(x, y), DenseNetwork(1, 3, 2), Formulation(10))
    theta = problem.make_initial_parameters(0)
    theta[-2:] = torch.tensor([2.0, np.log(0.7)])
    found = problem.estimate_uncertainties(theta, Communicator(), 4, 1)
    share = problem.share(4, 0, 1, 1)
    J = torch.cat([t.loss.evaluate_jacobian(theta, 0, 4)[:, 1:] for t in share._terms]).numpy()
    r = share._terms[1].loss.evaluate_residuals(theta).numpy()
    covariance = np.linalg.pinv(J.T @ J, rcond=1e-13) * np.sum(r**2) / (40 - 2)
    assert found["a"].standard_error == pytest.approx(2 * 0.5 * covariance[-2, -2] ** 0.5, rel=1e-3)
    assert found["b"].standard_error == pytest.approx(0.7 * covariance[-1, -1] ** 0.5, rel=1e-3)
    assert found["a"].is_identified and found["b"].is_identified
    half = scipy.stats.t(40 - 2).ppf(0.975) * found["a"].standard_error
    assert found["a"].interval == pytest.approx(half, rel=1e-9)


def test_as_many_measurements_as_unknowns_do_not_tell_how_well_these_are_known():
    for count, known in ((2, False), (3, True)):
        x = np.linspace(-0.9, 0.9, count)
        problem = PinnProblem(Line(x, 2 + x), DenseNetwork(1, 3, 2), Formulation(10))
        theta = problem.make_initial_parameters(0)
        assert bool(problem.estimate_uncertainties(theta, Communicator(), 4, 1)) == known


@pytest.mark.parametrize("part", [1.0, 1e-4])
def test_an_unknown_that_the_residuals_do_not_determine_is_named(part):
    """Of which there is little in the residuals, too: its own curvature is small then."""

    class Twice(Line):
        unknowns = {"a": Unknown(1.0), "b": Unknown(1.0)}

        def __init__(self):
            sum_of = Condition(lambda at, y, a, b: y - part * (a + b), on="inside", points=20)
            self.conditions = (sum_of,)

    problem = PinnProblem(Twice(), DenseNetwork(1, 3, 2), Formulation(10))
    monitor = problem.make_monitor(Communicator(), 4, 1)
    theta = problem.make_initial_parameters(0)
    monitor.evaluate_solution(theta)
    assert "hardly determined by the residuals" in monitor.describe_values(monitor.measure(theta))


class Measured(Equations):
    """Measurements of zero with noise, and an equation of two residuals."""

    geometry = Box(x=(0, 1), y=(0, 2))
    conditions = (
        Observations(
            {"x": np.linspace(0, 1, 200), "y": np.linspace(0, 1, 200), "u": np.zeros(200)},
            ["u"],
            noise=0.1,
        ),
        Condition(lambda at, u: u.x - 1, on="inside", weight=3.0),
    )

    def residuals(self, at, u):
        return u.x, u.y - u.value


def measured():
    problem = PinnProblem(Measured(), DenseNetwork(2, 5, 3), Formulation(30, condition_points=20))
    return problem, problem.make_initial_parameters(1)


def test_losses_of_terms_are_without_weights_and_add_up_to_the_loss_with_them():
    problem, theta = measured()
    monitor = problem.make_monitor(Communicator(), 8, 1)
    names = ("equation", "Observations", "Condition")
    assert monitor.columns == tuple(f"loss.{name}" for name in names)
    losses = monitor.measure(theta)
    weights = (1.0, 1 / 0.1**2, 3.0)
    assert monitor.describe_values(losses) == "terms without weights: " + ", ".join(
        f"{name} {losses[f'loss.{name}']:.3e}" for name in names
    )
    total = sum(w * losses[f"loss.{name}"] for w, name in zip(weights, names, strict=True))
    found = Objective.of(problem, Communicator(), 8).evaluate(theta).loss
    assert total == pytest.approx(found, rel=1e-13)


def test_the_loss_of_a_term_is_the_mean_square_of_its_residuals():
    problem, theta = measured()
    found = problem.make_monitor(Communicator(), 8, 1).measure(theta)["loss.Observations"]
    u = problem.evaluate(theta, problem.terms[1].points, ["u"], 1)["u"]
    assert found == pytest.approx(float(u.square().mean()), rel=1e-13)


def test_the_loss_of_a_single_term_has_no_column_of_its_own():
    problem = PinnProblem(KleinGordon(), DenseNetwork(2, 5, 3), Formulation(points=20))
    assert problem.make_monitor(Communicator(), 8, 1).columns == ("error", "error_paper")


@pytest.mark.parametrize(
    ("mean", "count", "is_said"), [(0.4, 200, True), (0.6, 200, False), (0.4, 60, False)]
)
def test_measurements_are_called_overfitted_far_below_their_noise_only(mean, count, is_said):
    problem, _ = measured()
    term = problem.first_terms[1]
    fewer = {"points": term.points[:, :count], "given": term.given[:, :count]}
    problem.first_terms[1] = replace(term, **fewer)
    said = describe_overfitted(problem, {"loss.Observations": mean * 0.1**2})
    assert bool(said) == is_said
    if is_said:
        assert f"the mean (r/noise)^2 of {count} values is 0.4," in said[0]


def test_a_run_that_follows_the_noise_of_measurements_warns_at_its_end():
    problem, theta = measured()
    with pytest.warns(UserWarning, match=r"Measured: Observations: overfitted"):
        problem.make_monitor(Communicator(), 8, 1).evaluate_solution(0 * theta)
