"""Networks of overlapping subdomains: windows, derivatives, sparse systems, and whole runs."""

import pytest
import torch
from job_texts import TANH, write_text
from sparse_matrices import make_dense

from hpctrain import cli
from hpctrain.kernels.dense import add_square_gram
from hpctrain.methods.least_squares.damped_systems import PrimalSystem
from hpctrain.networks.dense import DenseNetwork
from hpctrain.objective import Objective, evaluate_point
from hpctrain.parallel.block_scaling import BlockScaling, regularise
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations import Box, Dirichlet, Equations, Observations, Periodic, Unknown
from hpctrain.problems.equations.ansatz import evaluate_jets
from hpctrain.problems.equations.library import EQUATIONS
from hpctrain.problems.equations.problem import Formulation, PinnProblem
from hpctrain.problems.equations.subdomains import Subdomains
from hpctrain.problems.equations.terms import ProblemError
from hpctrain.results.export import export
from hpctrain.results.solution import open_solution
from hpctrain.store.run_file import read_run

INDICES = [(), (0,), (1,), (0, 0), (0, 1), (1, 1), (0, 0, 0)]
X = [0.1, 0.45, 0.8]
ALONE = Communicator()


class Coupled(Equations):
    """Two fields and a rate, with a condition that holds exactly and two that do not."""

    geometry = Box(t=(0, 1), x=(-1, 3))
    fields = ("u", "v")
    unknowns = {"rate": Unknown(0.7)}
    conditions = (
        Dirichlet({"u": 1.0}, exact=True),
        Periodic("x", exact=False, derivatives=1),
        Observations({"t": X, "x": [3 * x for x in X], "v": X}, ["v"]),
    )

    def residuals(self, at, u, v, rate):
        return u.t + u * u.x - rate * u.xx, v.tt - v.xx + u * v


def made(subdomains=None, equations=Coupled, width=4, points=120, **options):
    options = {"scale_inputs": True, "condition_points": 12, **options}
    formulation = Formulation(points, subdomains=subdomains or {"t": 2, "x": 3}, **options)
    return PinnProblem(equations(), DenseNetwork(2, width, 3), formulation)


def objective_of(problem, chunks=8):
    return Objective.of(problem, ALONE, chunks)


@pytest.mark.parametrize("counts", [{"x": 4}, {"x": 3, "t": 2}, {"x": [-0.9, 0.0, 2.0], "t": 2}])
@pytest.mark.parametrize("overlap", [0.3, 1.0])
def test_windows_sum_to_one_their_derivatives_to_zero_and_vanish_outside_of_their_boxes(
    counts, overlap
):
    frame = Coupled().frame
    cover = Subdomains(frame, counts, overlap)
    t, x = torch.linspace(0, 1, 23), torch.linspace(-1, 3, 41)
    points = torch.cartesian_prod(t, x).T.double()
    jets = [
        evaluate_jets(lambda p, k=k: cover.evaluate(k, p), points, INDICES, (), "")
        for k in range(cover.count)
    ]
    for index in INDICES:
        total, size = (sum(f(jet[index]) for jet in jets) for f in (torch.clone, torch.abs))
        expected = float(index == ())
        assert (total - expected).abs().max() <= 1e-12 * max(1.0, float(size.max())), index
    touched = cover.find_touched(points)
    assert int(touched.sum(dim=0).max()) <= 2 ** len(counts)
    for k, jet in enumerate(jets):
        for index in INDICES:
            size = float(jet[index].abs().max())
            assert float(jet[index][~touched[k]].abs().max()) <= 1e-14 * size
        low, high = torch.tensor(cover.find_bounds(k), dtype=torch.float64).T[..., None]
        assert bool((((points < low) | (points > high)).any(dim=0) <= ~touched[k]).all())


def test_fields_and_their_derivatives_are_those_of_plain_torch_in_any_order_of_points():
    problem = made()
    theta = problem.make_initial_parameters(0)
    points = torch.rand(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    points = points * torch.tensor([[1.0], [4.0]]) - torch.tensor([[0.0], [1.0]])
    found = problem.evaluate(theta, points, ["u", "u.t", "u.xx", "v.tx"], 1)
    for name, index in {"u": (), "u.t": (0,), "u.xx": (1, 1), "v.tx": (0, 1)}.items():

        def field(x, name=name):
            return problem.evaluate_in_torch(theta, name[0], x)

        below = [index[:k] for k in range(len(index) + 1)]
        expected = evaluate_jets(field, points, below, (), "")[index]
        torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("is_soft", [False, True])
def test_gradients_and_rows_of_jacobians_are_those_of_differences(is_soft):
    objective = objective_of(made(is_soft=is_soft))
    theta = objective.source.make_initial_parameters(3)
    v = torch.randn(len(theta), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    gradient = objective.evaluate_with_gradient(theta).evaluate_gradient()
    h = 1e-6
    ahead, behind = (objective.evaluate(theta + s * h * v).loss for s in (1, -1))
    assert float(gradient @ v) == pytest.approx((ahead - behind) / (2 * h), rel=1e-6)
    rows, _ = objective.residuals.evaluate_rows(theta)
    r, J = rows[:, 0], rows[:, 1:]
    torch.testing.assert_close(2 / objective.samples * J.T @ r, gradient, rtol=1e-9, atol=1e-9)
    product = objective.residuals.multiply_gauss_newton(theta, v)
    expected = 2 / objective.samples * J.T @ (J @ v)
    torch.testing.assert_close(product, expected, rtol=1e-9, atol=1e-9 * float(expected.norm()))
    pulled = objective.residuals.pull_back(theta, 0 * theta)
    torch.testing.assert_close(pulled, gradient, rtol=1e-9, atol=1e-9)


def test_subdomains_between_given_places_have_as_many_points_each():
    ends = [-1.0, -0.9, 0.0, 2.0, 3.0]
    points = made({"x": ends[1:-1], "t": 2}, points=400).first_points
    counts = torch.histogram(points[1], torch.tensor(ends, dtype=points.dtype)).hist
    assert float((counts - 100).abs().max()) <= 2
    halves = points[0][points[1] < -0.9]
    assert float(halves.mean()) == pytest.approx(0.5, abs=0.02)


def test_points_of_conditions_on_sides_are_as_many_in_each_too():
    options = {"is_soft": True, "condition_points": 400}
    terms = made({"x": [-0.9, 0.0], "t": [0.1]}, EQUATIONS["burgers"], **options).terms
    points = {term.name: term.points for term in terms}
    t, x = points["Initial"]
    counts = torch.histogram(x, torch.tensor([-1.0, -0.9, 0.0, 1.0], dtype=x.dtype)).hist
    assert float(t.abs().max()) == 0 and float(counts.max() - counts.min()) <= 2
    t, x = points["Dirichlet"]
    assert bool((x.abs() == 1).all()) and abs(int((t < 0.1).sum()) - 200) <= 2


CUTS = [{"x": 4}, {"t": 3}, {"t": 2, "x": [-0.5, 0.0]}]


@pytest.mark.parametrize("subdomains", CUTS)
@pytest.mark.parametrize("is_soft", [False, True])
def test_sparse_systems_are_the_dense_ones(subdomains, is_soft):
    """Periodic ends couple the first and the last subdomain, and the rate couples all."""
    objective = objective_of(made(subdomains, is_soft=is_soft))
    theta = objective.source.make_initial_parameters(3)
    rows, _ = objective.residuals.evaluate_rows(theta)
    J = rows[:, 1:]
    dense = 2 / objective.samples * J.T @ J
    sparse = objective.residuals.assemble_gauss_newton(theta)
    size = float(dense.abs().max())
    torch.testing.assert_close(make_dense(sparse), dense, rtol=1e-10, atol=1e-12 * size)
    b = torch.randn(len(theta), dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    shift = 1e-2 * size
    x = sparse.factorise(shift).solve(b)
    expected = torch.linalg.solve(dense + shift * torch.eye(len(b), dtype=b.dtype), b)
    torch.testing.assert_close(x, expected, rtol=1e-8, atol=1e-10 * float(expected.abs().max()))
    assert sparse.factorise(-2 * size) is None


@pytest.mark.parametrize("subdomains", CUTS)
def test_scaled_steps_are_those_of_the_dense_damped_system(subdomains):
    """min ‖r + J p‖² + δ ‖R p‖², from the rows [J; √δ R] by Householder; R by pieces."""
    objective = objective_of(made(subdomains))
    theta = objective.source.make_initial_parameters(3)
    system = PrimalSystem(objective, evaluate_point(objective, theta), 1e-12)
    rows, _ = objective.residuals.evaluate_rows(theta)
    r, J = rows[:, 0], rows[:, 1:]
    scale, lam = (2 / objective.samples) ** 0.5, 1e-3
    R = torch.zeros(len(theta), len(theta), dtype=torch.float64)
    for piece in objective.residuals.coupling.all_pieces:
        R[piece[:, None], piece] = scale * torch.linalg.qr(J[:, piece], mode="r").R
        own = make_dense(system.matrix)[piece[:, None], piece]
        torch.testing.assert_close(own, torch.eye(len(piece), dtype=own.dtype), rtol=0, atol=1e-6)
    damped = torch.cat([scale * J, lam**0.5 * R])
    right = torch.cat([-scale * r, torch.zeros(len(theta), dtype=r.dtype)])
    expected = torch.linalg.lstsq(damped, right[:, None], driver="gelsd").solution[:, 0]
    factored = system.factor(lam)
    p = factored.compute_velocity()
    z, found = R @ expected, R @ p
    torch.testing.assert_close(found, z, rtol=1e-6, atol=1e-6 * float(z.norm()))
    decrease = float((r @ r - (r + J @ p) @ (r + J @ p)) / objective.samples)
    assert factored.predict_decrease(p) == pytest.approx(decrease, rel=1e-8)
    none = torch.zeros_like(p)
    first = factored.compute_correction(none, none)
    torch.testing.assert_close(first, p, rtol=1e-6, atol=1e-6 * float(p.norm()))


def test_columns_that_differ_by_rounding_errors_of_their_squares_are_told_apart():
    """JᵀJ of the Läuchli matrix [1 1; ε 0; 0 ε] is that of rank one."""
    epsilon = 1e-9
    J = torch.tensor([[1.0, 1.0], [epsilon, 0.0], [0.0, epsilon]], dtype=torch.float64)
    assert int(torch.linalg.cholesky_ex(J.T @ J)[1]) != 0
    R = regularise(torch.linalg.qr(J, mode="r").R, 1e-13)
    scaling = BlockScaling(ALONE, [torch.arange(2)], [R])
    Q = scaling.scale_columns(J, [0])
    torch.testing.assert_close(Q.T @ Q, torch.eye(2, dtype=J.dtype), rtol=0, atol=1e-6)
    theta = torch.tensor([2.0, -3.0], dtype=torch.float64)
    found = scaling.unscale(scaling.scale(theta))
    torch.testing.assert_close(found, theta, rtol=1e-6, atol=0)
    weak = regularise(torch.linalg.qr(J, mode="r").R, 1e-6)
    norms = torch.linalg.svdvals(
        BlockScaling(ALONE, [torch.arange(2)], [weak]).scale_columns(J, [0])
    )
    # σ of J are √2 and ε, the norm of its largest column is 1
    expected = [1.0, epsilon / (epsilon**2 + 1e-12) ** 0.5]
    assert norms.tolist() == pytest.approx(expected, rel=1e-6)


def test_neighbours_alone_share_blocks():
    coupled = objective_of(made({"x": 5}, width=3))
    theta = coupled.source.make_initial_parameters(0)
    sparse = coupled.residuals.assemble_gauss_newton(theta)
    order = sparse.elimination.order
    off = {frozenset((order[i], order[j])) for i, j in sparse.own if i != j}
    neighbours = [(1, 0), (2, 1), (3, 2), (4, 3), (4, 0)]  # the last, by the periodic ends
    assert off == {frozenset(pair) for pair in [*neighbours, *((5, k) for k in range(5))]}


def test_a_square_gram_is_the_sum_over_its_parts():
    generator = torch.Generator().manual_seed(0)
    parts = [
        [torch.randn(k, 1 + 100, dtype=torch.float64, generator=generator) for k in sizes]
        for sizes in ([5, 3], [], [7], [40])
    ]
    C = torch.zeros(100, 100, dtype=torch.float64)
    add_square_gram(parts, 1, C, 1)
    J = torch.cat([rows[:, 1:] for part in parts for rows in part])
    torch.testing.assert_close(C.tril(), (J.T @ J).tril())


def test_residuals_at_points_come_in_the_order_of_the_points():
    problem = made()
    theta = problem.make_initial_parameters(1)
    points = problem.first_points[:, :40]
    whole = problem.evaluate_residuals(theta, points, 1)
    turned = problem.evaluate_residuals(theta, points.flip(1), 1)
    for name, values in whole.items():
        torch.testing.assert_close(turned[name].flip(0), values, rtol=1e-12, atol=1e-12)
        assert float(values.std()) > 0


@pytest.mark.parametrize(
    "options, said",
    [
        ({"subdomains": {"z": 2}}, "network.subdomains.z = 2 is not allowed: Coupled has t, x"),
        ({"subdomains": {"x": 300}}, "have none of the 120 points: fewer subdomains"),
        (
            {"subdomains": {"x": [0.0, 3.0]}},
            r"network.subdomains.x = \[0.0, 3.0\] is not allowed: places between -1 and 3",
        ),
    ],
)
def test_a_cut_that_is_not_possible_is_refused(options, said):
    with pytest.raises(ProblemError, match=said):
        made(**options)


PROBLEM = 'name = "burgers"\npoints = 100'
CUT = f"{TANH}\nsubdomains = {{ x = 3 }}\noverlap = 0.8"


def test_a_run_lowers_the_loss_goes_on_exactly_and_its_network_is_exported(tmp_path):
    job = tmp_path / "job.toml"
    lines = 'name = "gauss-newton"'
    job.write_text(write_text(PROBLEM, network=CUT, solver=lines, output="checkpoint_every = 2"))
    whole, parts = tmp_path / "whole.h5", tmp_path / "parts.h5"
    settings = ["--set", "output.error_every=1", "--set", "stop.max_iterations="]
    assert cli.main(["run", str(job), "-o", str(whole), *settings[:3], f"{settings[3]}4"]) == 0
    assert cli.main(["run", str(job), "-o", str(parts), *settings[:3], f"{settings[3]}2"]) == 0
    assert cli.main(["resume", str(parts), "--set", "stop.max_iterations=4"]) == 0
    losses = [read_run(path).history["loss"] for path in (whole, parts)]
    assert losses[0].tolist() == losses[1].tolist()
    assert losses[0][-1] < 0.5 * losses[0][0]
    x = torch.rand(9, 2, dtype=torch.float64)
    export(str(whole), str(tmp_path / "network.pt"))
    exported = torch.jit.load(str(tmp_path / "network.pt"))(x)[:, 0]
    found = open_solution(str(whole)).evaluate({"t": x[:, 0].numpy(), "x": x[:, 1].numpy()})
    torch.testing.assert_close(exported, torch.tensor(found["u"]), rtol=0, atol=1e-12)


def test_raw_inputs_are_refused_with_one_line(tmp_path, capsys):
    job = tmp_path / "job.toml"
    job.write_text(
        write_text(PROBLEM, network=f"{CUT}\nscale_inputs = false", solver='name = "adam"')
    )
    assert cli.main(["run", str(job)]) == 2
    assert "subdomains is for scale_inputs = true" in capsys.readouterr().err
