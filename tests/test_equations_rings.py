"""Subdomains of a ring, along a coordinate whose ends are one place: windows, fields, runs."""

import math

import pytest
import torch
from job_texts import write_text
from sparse_matrices import make_dense

import hpctrain
from hpctrain import cli
from hpctrain.networks.dense import DenseNetwork
from hpctrain.objective import Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations import Box, Dirichlet, Equations, Initial, Neumann, Periodic
from hpctrain.problems.equations.ansatz import evaluate_jets
from hpctrain.problems.equations.problem import Formulation, PinnProblem
from hpctrain.problems.equations.subdomains import Subdomains
from hpctrain.problems.equations.terms import ProblemError
from hpctrain.results.export import export
from hpctrain.results.solution import open_solution

INDICES = [(), (0,), (1,), (0, 0), (0, 1), (1, 1), (1, 1, 1)]
LOW, HIGH = -1.0, 3.0
GRADED = [-0.9, 0.0, 2.0]
CUTS = [{"x": 4}, {"t": 2, "x": 3}, {"x": GRADED, "t": 2}]


class Ring(Equations):
    """Two periodic fields, in two periodic coordinates."""

    geometry = Box(t=(0, 1), x=(LOW, HIGH), y=(0, 2))
    fields = ("u", "v")
    conditions = (Periodic("x"), Periodic("y"), Dirichlet({"u": 1.0}, on="t.low", exact=True))

    def residuals(self, at, u, v):
        return u.t + u * u.x - v.yy, v.t + v.xxx + u


def made(subdomains, equations=Ring, fourier=None, points=160, **options):
    options = {"scale_inputs": True, "condition_points": 12, **options}
    formulation = Formulation(points, subdomains=subdomains, fourier=fourier, **options)
    network = DenseNetwork(len(equations.geometry.bounds), 4, 3)
    return PinnProblem(equations(), network, formulation)


def draw_points(*shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, dtype=torch.float64, generator=generator)


WAVES = 3 * draw_points(5, 3, seed=2) - 1


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("overlap", [0.3, 1.0])
def test_windows_around_a_ring_sum_to_one_their_derivatives_to_zero_and_have_the_period(
    cuts, overlap
):
    cover = Subdomains(Ring().frame, cuts, overlap, periodic={"x", "y"})
    t, x = torch.linspace(0, 1, 9), torch.linspace(LOW, HIGH, 81)
    points = torch.cartesian_prod(t, x, torch.zeros(1)).T.double()
    jets = [
        evaluate_jets(lambda p, k=k: cover.evaluate(k, p), points, INDICES, (), "")
        for k in range(cover.count)
    ]
    touched = cover.find_touched(points)
    assert int(touched.sum(dim=0).max()) == 2 ** len(cuts)
    assert bool(touched[:, points[1] == LOW].eq(touched[:, points[1] == HIGH]).all())
    for index in INDICES:
        total, size = (sum(f(jet[index]) for jet in jets) for f in (torch.clone, torch.abs))
        expected = float(index == ())
        assert (total - expected).abs().max() <= 1e-12 * max(1.0, float(size.max())), index
        for k, jet in enumerate(jets):
            largest = float(jet[index].abs().max())
            assert float(jet[index][~touched[k]].abs().max()) <= 1e-14 * largest
            ends = (jet[index][points[1] == end] for end in (LOW, HIGH))
            torch.testing.assert_close(*ends, rtol=0, atol=1e-12 * max(1.0, largest))
    period = HIGH - LOW
    for k in range(cover.count):
        low, high = torch.tensor(cover.find_bounds(k), dtype=torch.float64).T[..., None]
        turns = (points[1] + turn * period for turn in (-1, 0, 1))
        inside = torch.stack([(low[1] < x) & (x < high[1]) for x in turns]).any(dim=0)
        inside &= (low[0] <= points[0]) & (points[0] <= high[0])
        assert bool((touched[k] <= inside).all())


def test_a_ring_has_one_ramp_about_its_ends_of_the_smaller_cell_there():
    cover = Subdomains(Ring().frame, {"x": GRADED}, 0.5, periodic={"x"})
    half = 0.25 * (GRADED[0] - LOW)
    assert cover.find_bounds(0)[1] == pytest.approx((LOW - half, GRADED[0] + half))
    assert cover.find_bounds(3)[1] == pytest.approx((GRADED[2] - 0.25, HIGH + half))
    points = torch.tensor([[0.0] * 4, [LOW, HIGH, LOW + 1.1 * half, HIGH - 1.1 * half], [0.0] * 4])
    found = [cell.members for cell in cover.find_cells(points.double())[1]]
    assert sorted(found) == [(0,), (0, 3), (3,)]
    both = cover.evaluate(0, points.double())[:2]
    torch.testing.assert_close(both, torch.full_like(both, 0.5), rtol=1e-12, atol=0)


@pytest.mark.parametrize("cuts", [*CUTS, {"x": 3, "y": 3}])
@pytest.mark.parametrize("fourier", [None, WAVES])
def test_fields_and_their_derivatives_agree_at_both_ends(cuts, fourier):
    problem = made(cuts, fourier=fourier)
    theta = problem.make_initial_parameters(0)
    theta = theta + 0.3 * draw_points(len(theta))
    names = [f"{u}{d}" for u in "uv" for d in ("", ".x", ".y", ".xx", ".yy", ".xxx", ".yyy")]
    for axis, bounds in ((1, (LOW, HIGH)), (2, (0.0, 2.0))):
        points = draw_points(3, 40) * torch.tensor([[1.0], [4.0], [2.0]])
        points[1] += LOW
        ends = [points.index_fill(0, torch.tensor([axis]), end) for end in bounds]
        low, high = (problem.evaluate(theta, x, names, 1) for x in ends)
        for name in names:
            size = float(low[name].abs().max())
            assert size > 0
            torch.testing.assert_close(high[name], low[name], rtol=0, atol=1e-10 * size)


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("fourier", [None, WAVES])
def test_fields_and_their_derivatives_around_a_ring_are_those_of_plain_torch(cuts, fourier):
    problem = made(cuts, fourier=fourier)
    theta = problem.make_initial_parameters(0)
    points = draw_points(3, 60) * torch.tensor([[1.0], [4.0], [2.0]])
    points[1] += LOW
    points[1, :4] = torch.tensor([LOW, HIGH, LOW + 0.01, HIGH - 0.01])
    wanted = {"u": (), "u.x": (1,), "v.xx": (1, 1), "v.tx": (0, 1), "u.xxx": (1, 1, 1)}
    found = problem.evaluate(theta, points, list(wanted), 1)
    for name, index in wanted.items():

        def field(x, name=name):
            return problem.evaluate_in_torch(theta, name[0], x)

        below = [index[:k] for k in range(len(index) + 1)]
        expected = evaluate_jets(field, points, below, (), "")[index]
        torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-9)


def test_networks_take_the_coordinate_itself_in_their_boxes_and_waves_where_it_is_not_cut():
    problem = made({"x": 4}, fourier=WAVES)
    inputs = problem.solution.inputs[0]
    x = torch.tensor([LOW, LOW + 0.3, HIGH - 0.2, HIGH], dtype=torch.float64)
    points = torch.stack([torch.zeros(4), x, torch.full_like(x, 0.5)]).double()
    # the box of the first cell is [−1.5, 0.5], one unit around the ends included
    scaled = torch.tensor([LOW, LOW + 0.3, LOW - 0.2, LOW], dtype=torch.float64) + 0.5
    values = inputs.values(points)
    assert inputs.count == 1 + 1 + 2 + 2 * len(WAVES)
    torch.testing.assert_close(values[1], scaled)
    torch.testing.assert_close(values[2:4], torch.tensor([[0.0], [1.0]]).double().expand(2, 4))
    in_y = math.pi * torch.round(WAVES[:, 2, None] / math.pi)
    angles = -WAVES[:, 0, None] + WAVES[:, 1, None] * scaled - 0.5 * in_y
    torch.testing.assert_close(values[4:9], torch.sin(angles))


@pytest.mark.parametrize("cuts", CUTS)
def test_sparse_systems_around_a_ring_are_the_dense_ones(cuts):
    objective = Objective.of(made(cuts), Communicator(), 8)
    theta = objective.source.make_initial_parameters(3)
    rows, _ = objective.residuals.evaluate_rows(theta)
    r, J = rows[:, 0], rows[:, 1:]
    dense = 2 / objective.samples * J.T @ J
    sparse = objective.residuals.assemble_gauss_newton(theta)
    size = float(dense.abs().max())
    torch.testing.assert_close(make_dense(sparse), dense, rtol=1e-10, atol=1e-12 * size)
    gradient = objective.evaluate_with_gradient(theta).evaluate_gradient()
    torch.testing.assert_close(2 / objective.samples * J.T @ r, gradient, rtol=1e-9, atol=1e-9)
    pieces = objective.residuals.coupling.all_pieces
    first, last = pieces[0], pieces[-1]
    assert float(dense[first[:, None], last].abs().max()) > 0


def test_cells_of_a_ring_between_given_places_have_as_many_points_each():
    points = made({"x": GRADED}, points=400).first_points
    ends = torch.tensor([LOW, *GRADED, HIGH], dtype=points.dtype)
    assert float((torch.histogram(points[1], ends).hist - 100).abs().max()) <= 2


@pytest.mark.parametrize("cut", [2, [0.5]])
def test_a_ring_of_two_is_refused(cut):
    with pytest.raises(ProblemError) as caught:
        made({"x": cut})
    assert str(caught.value) == (
        f"network.subdomains.x = {cut} is not allowed: x is periodic: at least 3 subdomains, or"
        " 2 places between them"
    )


def test_two_of_a_coordinate_that_is_periodic_by_a_term_are_cut_as_others_are():
    class Soft(Ring):
        conditions = (Periodic("x", exact=False),)

    for problem in (made({"x": 2}, Soft), made({"x": 2}, is_soft=True)):
        assert problem.solution.subdomains.find_bounds(0)[1] == (LOW, 2.0)


class Flat(Equations):
    """A field without slope at the ends of x."""

    geometry = Box(t=(0, 1), x=(0, 2))
    conditions = (Neumann({"u": 0.0}, on=("x.low", "x.high"), exact=True),)

    def residuals(self, at, u):
        return u.t - u.xx


def test_a_coordinate_that_networks_take_functions_of_is_not_cut():
    with pytest.raises(ProblemError, match=r"subdomains.x = 3 is not .* it, for exact slopes"):
        made({"x": 3}, Flat)


class Carried(Equations):
    """A wave that goes round a ring of length 3 with the speed 2."""

    geometry = Box(t=(0, 1), x=(-1, 2))
    conditions = (
        Initial({"u": lambda at: torch.sin(2 * torch.pi / 3 * at.x)}, exact=True),
        Periodic("x"),
    )

    def residuals(self, at, u):
        return u.t + 2 * u.x

    def reference(self, at):
        return torch.sin(2 * torch.pi / 3 * (at.x - 2 * at.t))


def test_steps_of_gauss_newton_solve_a_linear_equation_on_a_ring():
    tables = {
        "problem": {"name": Carried, "points": 1500},
        "network": {
            "kind": "mlp",
            "depth": 1,
            "fourier": 50,
            "fourier_scale": 3.0,
            "subdomains": {"t": 2, "x": 4},
        },
        "solver": {
            "name": "gauss-newton",
            "factorisation": "qr",
            "damping": 1e-12,
            "least_damping": 1e-30,
            "corrections": 0,
        },
        "stop": {"max_iterations": 4},
        "output": {"error_every": 1},
    }
    result = hpctrain.train(tables, progress=False)
    assert result.errors["error"] < 1e-9


OWN = """
from hpctrain.problems.equations import Box, Dirichlet, Equations, Periodic

class Around(Equations):
    geometry = Box(t=(0, 1), x=(0, 2))
    conditions = (Dirichlet({"u": 1.0}, on="t.low", exact=True), Periodic("x"))

    def residuals(self, at, u):
        return u.t + u.x + u - at.t
"""


@pytest.mark.parametrize("suffix", ["pt", "pt2"])
def test_the_network_of_a_ring_is_exported(tmp_path, suffix):
    (tmp_path / "around.py").write_text(OWN)
    job, run = tmp_path / "job.toml", tmp_path / "run.h5"
    network = 'kind = "mlp"\ndepth = 2\nwidth = 4\nsubdomains = { x = 3 }'
    lines = f'name = "{tmp_path}/around.py:Around"\npoints = 60'
    job.write_text(write_text(lines, network=network, solver='name = "gauss-newton"'))
    settings = ["--set", "stop.max_iterations=2"]
    assert cli.main(["run", str(job), "-o", str(run), *settings]) == 0
    file = tmp_path / f"network.{suffix}"
    export(str(run), str(file))  # which compares what was written
    assert file.stat().st_size > 0
    x = draw_points(12, 2) * torch.tensor([1.0, 2.0])
    x[:2, 1] = torch.tensor([0.0, 2.0])
    if suffix == "pt":
        exported = torch.jit.load(str(file))(x)[:, 0]
        found = open_solution(str(run)).evaluate({"t": x[:, 0].numpy(), "x": x[:, 1].numpy()})
        torch.testing.assert_close(exported, torch.tensor(found["u"]), rtol=0, atol=1e-12)
