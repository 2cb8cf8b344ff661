"""Windows of time: what each begins with, its loss and errors, and what has none."""

from itertools import combinations_with_replacement, pairwise

import numpy as np
import pytest
import torch

from hpctrain.errors import InputError
from hpctrain.networks.dense import DenseNetwork
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations import (
    At,
    Box,
    Dirichlet,
    Disk,
    Equations,
    Initial,
    Observations,
    Periodic,
    Unknown,
)
from hpctrain.problems.equations.ansatz import evaluate_jets
from hpctrain.problems.equations.conditions.base import place_points_on
from hpctrain.problems.equations.holding import Holding
from hpctrain.problems.equations.problem import Formulation, PinnProblem
from hpctrain.problems.equations.slabs.monitor import SlabMonitor
from hpctrain.problems.equations.slabs.problem import SlabProblem, SlabState
from hpctrain.problems.equations.slabs.windows import find_windows, take_window

SEED = 2


class Wave(Equations):
    """Values and rates are given at first, in a form; a time of one half and a third."""

    geometry = Box(t=(0.5, 2), x=(0, 1))
    conditions = (
        Initial({"u": lambda at: torch.sin(torch.pi * at.x), "u.t": 1.0}, exact=True),
        Dirichlet({"u": lambda at: at.t - 0.5}, on="x.low", weight=2.0),
    )

    def residuals(self, at, u):
        return u.tt - u.xx + at.t


class Soft(Equations):
    """Two fields on a disk, which start in terms of the loss."""

    geometry = Box(t=(0, 1)) * Disk(center=(0, 0), radius=1)
    fields = ("u", "v")
    conditions = (
        Initial({"u": lambda at: at.x, "v": 0.0, "v.t": lambda at: at.y}),
        Dirichlet({"u": 0.0}),
    )

    def residuals(self, at, u, v):
        return u.t - u.laplacian + v.value, v.tt - u.x


class Around(Equations):
    """On a circle."""

    geometry = Box(t=(0, 1), x=(0, 2))
    conditions = (Initial({"u": lambda at: torch.cos(torch.pi * at.x)}, exact=True), Periodic("x"))

    def residuals(self, at, u):
        return u.t + u.x


def bow(at):
    return torch.cos(at.x) + at.x * (1 - at.x)


class Driven(Equations):
    """Exact values that move at one end and at the other, of which no function takes all."""

    geometry = Box(t=(0.5, 2), x=(0, 1))
    conditions = (
        Initial({"u": bow, "u.t": lambda at: at.x - 1}, exact=True),
        Dirichlet({"u": lambda at: torch.exp(0.5 - at.t)}, on="x.low", exact=True),
        Dirichlet({"u": lambda at: torch.cos(1 + 0 * at.t)}, on="x.high", exact=True),
    )

    def residuals(self, at, u):
        return u.tt - u.xx + at.t


class Cooled(Driven):
    """The same without rates."""

    conditions = (Initial({"u": bow}, exact=True), *Driven.conditions[1:])


def slabs_of(equations, slabs, points=40):
    network = DenseNetwork(2, 5, 3)
    formulation = Formulation(points=points, condition_points=12, scale_inputs=True)

    def make(own):
        return PinnProblem(own, network, formulation)

    problem = SlabProblem(equations, slabs, make, SEED)
    generator = torch.Generator().manual_seed(1)
    shape = (len(problem.bounds), problem.parameters)
    return problem, torch.randn(shape, generator=generator, dtype=torch.float64)


def begin(problem, thetas, window):
    """The parameters of a window, and the loss as it is when it begins."""
    problem.take(SlabState(window, thetas))
    return thetas[window]


def points_at(problem, time, count=7):
    """Points inside, all of one time."""
    d = len(problem.coordinates)
    points = 0.1 + 0.5 * torch.rand(d, count, generator=torch.Generator().manual_seed(0)).double()
    points[0] = time
    return points


@pytest.mark.parametrize(
    ("equations", "names"),
    [
        (Wave, ("u", "u.x", "u.t", "u.xx")),
        (Around, ("u", "u.x", "u.xx")),
        (Driven, ("u", "u.x", "u.t", "u.xx")),
        (Cooled, ("u", "u.x", "u.xx")),
    ],
)
def test_a_window_begins_with_the_values_and_rates_of_the_one_before_it(equations, names):
    problem, thetas = slabs_of(equations(), 3)
    for window in (1, 2):
        begin(problem, thetas, window)
        points = points_at(problem, problem.bounds[window][0])
        before, after = (
            problem.windows[k].evaluate(thetas[k], points, names, 1) for k in (window - 1, window)
        )
        for name in names:
            torch.testing.assert_close(after[name], before[name], rtol=1e-9, atol=1e-9)
        other = problem.windows[window].evaluate(thetas[window], points, ("u.tt",), 1)["u.tt"]
        assert not torch.allclose(
            other, problem.windows[window - 1].evaluate(thetas[0], points, ("u.tt",), 1)["u.tt"]
        )


def count_operations(values):
    """The nodes of the graph that gives values."""
    found, new = set(), [values.grad_fn]
    while new:
        node = new.pop()
        if node is not None and node not in found:
            found.add(node)
            new += [other for other, _ in node.next_functions]
    return len(found)


def test_exact_values_and_rates_cost_each_window_before_once():
    problem, thetas = slabs_of(Wave(), 7)
    begin(problem, thetas, 6)
    points = points_at(problem, 1.9).requires_grad_()
    counts = [count_operations(each.forms["u"].lifting(points)) for each in problem.windows[1:]]
    assert len({after - before for before, after in pairwise(counts[1:])}) == 1


def test_exact_values_are_evaluated_once_for_each_window_and_set_of_points(monkeypatch):
    """Windows have their points in common but for time: the one before keeps what it had there."""
    problem, thetas = slabs_of(Around(), 7)
    problem.share(4, 0, 1, 1)
    counts, evaluate = [], PinnProblem.evaluate

    def count(*arguments):
        counts[-1] += 1
        return evaluate(*arguments)

    monkeypatch.setattr(PinnProblem, "evaluate", count)
    for theta in thetas[:-1]:
        counts.append(0)
        problem.advance(theta)
    assert len(set(counts)) == 1 and counts[0] > 0


@pytest.mark.parametrize("equations", [Driven, Cooled])
def test_exact_values_at_sides_hold_in_each_window_and_bend_nothing_at_its_start(equations):
    problem, thetas = slabs_of(equations(), 4)
    for number, window in enumerate(problem.windows):
        begin(problem, thetas, number)
        for condition in window.equations.conditions[1:]:
            points, _ = place_points_on(condition.on, window.frame, "", 50)
            points = torch.cat([points, points], dim=1)
            points[0, :50] = window.frame.region.bounds[0][0]
            found = window.evaluate(thetas[number], points, ["u"], 1)["u"]
            wanted = condition.values["u"](At(window.frame.axes, points))
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
        near = torch.tensor([[1e-2, 1e-3, 1e-4, 1e-5]] * 2, dtype=torch.float64)
        near[0] += window.frame.region.bounds[0][0]
        indices = [(), (0,), (1,), (0, 0), (0, 1), (1, 1)]
        jets = evaluate_jets(window.forms["u"].lifting, near, indices, (), "")
        for index in indices[3:]:  # at the distances from the corner of the first time
            torch.testing.assert_close(jets[index][1:], jets[index][:-1], rtol=0.2, atol=0.5)


@pytest.mark.parametrize(("equations", "time"), [(Around, 0.9), (Wave, 1.9)])
def test_derivatives_of_an_exact_start_are_those_of_differences(equations, time):
    problem, thetas = slabs_of(equations(), 5)
    begin(problem, thetas, 4)
    g, h = problem.windows[4].forms["u"].lifting, 1e-3
    points = points_at(problem, time)
    step = torch.tensor([[0.0], [h]], dtype=torch.float64)
    below = [(1,) * k for k in range(5)]
    jets = evaluate_jets(g, points, below, (), "")
    for order in range(4):  # the last one is of a higher order than the equation's
        ahead, behind = (
            evaluate_jets(g, points + s * step, below[: order + 1], (), "") for s in (1, -1)
        )
        slope = (ahead[below[order]] - behind[below[order]]) / (2 * h)
        size = float(jets[below[order + 1]].abs().max())
        torch.testing.assert_close(jets[below[order + 1]], slope, rtol=0, atol=1e-4 * size)


@pytest.mark.parametrize("equations", [Wave, Driven])
def test_exact_values_and_rates_are_those_that_torch_alone_finds(equations):
    problem, thetas = slabs_of(equations(), 5)
    begin(problem, thetas, 4)
    below = [index for k in range(4) for index in combinations_with_replacement((0, 1), k)]
    found = evaluate_jets(
        problem.windows[4].forms["u"].lifting, points_at(problem, 1.9), below, (), ""
    )
    with problem.holding(thetas, in_torch=True):
        lifting = problem.windows[4].forms["u"].lifting
        expected = evaluate_jets(lifting, points_at(problem, 1.9), below, (), "")
    for index in below:
        torch.testing.assert_close(found[index], expected[index], rtol=1e-9, atol=1e-9)


def test_a_start_that_is_a_term_is_the_distance_to_the_window_before():
    problem, thetas = slabs_of(Soft(), [0.4, 1.0])
    theta = begin(problem, thetas, 1)
    term = next(each for each in problem.windows[1].terms if each.name == "Initial")
    assert (term.points[0] == 0.4).all()
    names = ("u", "v", "v.t")
    before, own = (problem.windows[k].evaluate(thetas[k], term.points, names, 1) for k in (0, 1))
    expected = sum((own[name] - before[name]).square().mean() for name in names)
    share = problem.share(4, 0, 1, 1)
    found = share.compute_losses_of(theta, ["Initial"]).sum() / problem.samples
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)


def test_the_loss_of_a_window_is_that_of_its_equations_alone():
    problem, thetas = slabs_of(Wave(), [0.9, 2.0])
    share = problem.share(4, 0, 1, 1)
    first = share.sum_losses_and_gradients(thetas[0])
    theta = begin(problem, thetas, 1)
    own = problem.windows[1]
    points = own.terms[0].points[0]
    assert own.terms[0].samples == 40 and points.min() >= 0.9 and points.max() <= 2.0
    fresh = own.make_share(own.terms, Holding(4, 0, 1, 1))
    found = share.sum_losses_and_gradients(theta)
    assert torch.equal(found, fresh.sum_losses_and_gradients(theta))
    begin(problem, thetas, 0)
    assert torch.equal(share.sum_losses_and_gradients(thetas[0]), first)


def test_a_solution_asked_for_in_mid_run_leaves_the_loss_as_it_is():
    problem, thetas = slabs_of(Wave(), [0.9, 2.0])
    share, theta = problem.share(4, 0, 1, 1), begin(problem, thetas, 1)
    before = share.sum_losses_and_gradients(theta)
    problem.evaluate(2 * thetas, points_at(problem, 1.5), ("u",), 1)
    assert torch.equal(problem.share(4, 0, 1, 1).sum_losses_and_gradients(theta), before)
    assert torch.equal(problem.join_parameters(theta), thetas.ravel())


def test_windows_cover_time_and_keep_the_grid_of_points():
    class Fine(Wave):
        test_grid = (200, 400)

    assert find_windows(3, Fine()) == [(0.5, 1.0), (1.0, 1.5), (1.5, 2.0)]
    window = take_window(Fine(), (0.5, 1.0), None)
    assert window.frame.region.bounds == ((0.5, 1.0), (0.0, 1.0))
    assert window.grid == (67, 400)
    assert Fine().frame.region.bounds[0] == (0.5, 2.0)


def test_errors_over_all_windows_are_those_of_all_their_points():
    class Line(Wave):
        conditions = (Initial({"u": 1.0}, exact=True),)
        test_grid = (7, 4)

        def reference(self, at):
            return 1 + at.t * at.x

    problem, thetas = slabs_of(Line(), 3)
    monitor = SlabMonitor(problem, Communicator(), 4, 1)
    begin(problem, thetas, 2)
    solution = monitor.evaluate_solution(thetas[2])
    assert solution["t"] == pytest.approx(np.linspace(0.5, 2, 7))
    assert solution["prediction"].shape == (7, 4)
    difference = solution["prediction"] - solution["reference"]
    pieces = [slice(0, 3), slice(2, 5), slice(4, 7)]  # windows share their ends
    squares = [np.sum(difference[piece] ** 2) for piece in pieces]
    sizes = [np.sum(solution["reference"][piece] ** 2) for piece in pieces]
    error = np.sqrt(sum(squares) / sum(sizes))
    values = monitor.measure(thetas[2])
    assert values["error"] == pytest.approx(error, rel=1e-12)
    said, last = monitor.describe_values(values).split("; in the last one ")
    assert said.startswith(f"over all windows error {error:.3e}")
    own = np.sqrt(squares[2] / sizes[2])
    assert f"{own:.3e}" in last


def test_points_of_unequal_windows_count_by_their_lengths():
    """Where there is no grid every window has as many test points."""

    class Known(Soft):
        def reference(self, at):
            return {"u": 1 + at.t * at.x, "v": at.t}

    problem, thetas = slabs_of(Known(), [0.05, 1.0])
    monitor = SlabMonitor(problem, Communicator(), 4, 1)
    begin(problem, thetas, 1)
    solution = monitor.evaluate_solution(thetas[1])
    early = solution["t"] <= 0.05
    assert early.sum() == (~early).sum()
    weights = np.where(early, 0.05, 0.95)
    for name in ("u", "v"):
        off = solution[f"prediction_{name}"] - solution[f"reference_{name}"]
        ratio = np.sum(weights * off**2) / np.sum(weights * solution[f"reference_{name}"] ** 2)
        found = monitor.measure(thetas[1])[f"error_{name}"]
        assert found == pytest.approx(np.sqrt(ratio), rel=1e-12)


def changed(**attributes):
    return type("Changed", (Around,), attributes)()


@pytest.mark.parametrize(
    ("equations", "line"),
    [
        (lambda: changed(geometry=Box(x=(0, 2), t=(0, 1))), "time as the first coordinate, t"),
        (
            lambda: changed(geometry=Box(t=(0, 1), x=(0, 2)) & Box(t=(0, 1), x=(0, 1))),
            "a geometry that is a box",
        ),
        (lambda: changed(conditions=(Dirichlet({"u": 0.0}),)), "an Initial condition"),
        (lambda: changed(unknowns={"c": Unknown(1.0)}), "no unknowns"),
        (lambda: changed(depends={"u": ("x",)}), "fields that all depend on t"),
        (
            lambda: changed(
                conditions=(
                    *Around.conditions,
                    Observations({"t": [0.5], "x": [0.5], "u": [1.0]}, ["u"]),
                )
            ),
            "no Observations",
        ),
        (
            lambda: changed(conditions=(*Around.conditions, Dirichlet({"u": 0.0}, on="t.high"))),
            "no conditions at t.low and t.high other than Initial",
        ),
        (
            lambda: changed(conditions=(*Around.conditions, Dirichlet({"u": 0.0}, on="t"))),
            "no conditions at t.low and t.high other than Initial",
        ),
        (
            lambda: changed(
                conditions=(*Around.conditions, Dirichlet({"u": 0.0}, on=("x.low", "t.low")))
            ),
            "no conditions at t.low and t.high other than Initial",
        ),
        (lambda: changed(ansatz=lambda self, at: {"u": (0.0, at.t)}), "no ansatz()"),
    ],
)
def test_equations_that_have_no_windows_are_refused_with_the_reason(equations, line):
    with pytest.raises(InputError) as caught:
        find_windows(2, equations())
    assert str(caught.value).startswith(
        f"problem.slabs is not allowed for Changed: it needs {line}"
    )


def test_a_condition_at_a_time_of_one_window_is_named(tmp_path):
    equations = changed(
        conditions=(*Around.conditions, Dirichlet({"u": 0.0}, on=lambda at: at.t > 0.9))
    )
    with pytest.raises(InputError, match=r"Dirichlet"):
        slabs_of(equations, 2)
