"""The shipped equations: their references solve them, and their statements hold together."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pinns import at, field_of
from scipy.integrate import solve_ivp

from hpctrain import make_objective, make_solver
from hpctrain.job.settings import load_job
from hpctrain.linalg.arrays import to_array
from hpctrain.networks.dense import DenseNetwork
from hpctrain.problems.equations.ansatz import evaluate_jets
from hpctrain.problems.equations.checks.probe import probe
from hpctrain.problems.equations.errors import find_test_points as points_of_errors
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.library import (
    EQUATIONS,
    allen_cahn_periodic,
    beltrami,
    burgers_2d,
    kdv,
    kdv_inverse,
    kuramoto_sivashinsky,
    lid_driven_cavity,
    lorenz_inverse,
    lotka_volterra,
    reaction,
    reaction_inverse,
    schroedinger,
    sod,
    taylor_green_inverse,
)
from hpctrain.problems.equations.library.burgers import cole_hopf
from hpctrain.problems.equations.library.methods import stream
from hpctrain.problems.equations.points import make_grid_points
from hpctrain.problems.equations.problem import Formulation, PinnProblem
from hpctrain.problems.equations.requests import take_points
from hpctrain.run.assemble import make_problem

JOBS = Path(__file__).parents[1] / "jobs"
FORMULAS = (
    "beltrami",
    "burgers",
    "burgers-2d",
    "burgers-inverse",
    "burgers-odd",
    "burgers-parametric",
    "burgers-viscous",
    "burgers-viscous-odd",
    "convection",
    "convection-fast",
    "elastic-plate",
    "elliptic-bar",
    "heat-1d",
    "heat-4d",
    "heat-ball",
    "heat-inverse",
    "heat-multiscale",
    "heat-plate",
    "heat-variable",
    "helmholtz",
    "hollow-cylinder",
    "kdv-solitons",
    "klein-gordon",
    "kovasznay",
    "log-fokker-planck",
    "poisson-100d",
    "poisson-10d",
    "poisson-2d",
    "poisson-5d",
    "poisson-5d-sine",
    "poisson-disk",
    "poisson-exponential",
    "poisson-inverse",
    "poisson-l-shape",
    "poisson-multiscale",
    "poisson-two-media",
    "reaction",
    "schroedinger-line",
    "taylor-green-inverse",
    "wave",
    "wave-long",
)
# Solutions that are computed; some are tested in files of their own.
COMPUTED = (
    "allen-cahn",
    "allen-cahn-even",
    "allen-cahn-periodic",
    "cavity-regularised",
    "diffusion-transport",
    "gray-scott",
    "heat-long",
    "kdv",
    "kdv-inverse",
    "kuramoto-sivashinsky",
    "kuramoto-sivashinsky-odd",
    "laplace-holes",
    "lid-driven-cavity",
    "lid-driven-cavity-stream",
    "lorenz-inverse",
    "lotka-volterra",
    "poisson-blocks",
    "poisson-boltzmann",
    "reaction-diffusion",
    "reaction-diffusion-slow",
    "reaction-inverse",
    "schroedinger",
    "sod",
    "wave-variable",
)
# 2 sech x and its slope at the ends of [-15, 15], where the solution of the line repeats itself.
NOT_QUITE = {("schroedinger-line", "Periodic"): 3e-6}
# The data have errors of their own.
INEXACT = ("burgers-inverse-noisy", "heat-inverse-noisy", "poisson-inverse-noisy")
# All fields of solutions whose reference leaves out what data and conditions do not determine.
WHOLE = {"beltrami": beltrami.solve, "taylor-green-inverse": taylor_green_inverse.solve}


@pytest.fixture(autouse=True, scope="module")
def measure_coarsely():
    """Not here: references are compared on the true grids."""


def small(name):
    network = DenseNetwork(inputs=1, width=4, depth=2)
    return PinnProblem(EQUATIONS[name](), network, Formulation(points=200, is_soft=True))


def exact_fields(equations, term, at, normals, wanted):
    """The reference as fields, whose derivatives are found by nested autograd."""
    frame, space = equations.frame, equations.frame.axes.space
    components = {()}
    for each in wanted:
        if not isinstance(each, str):
            components |= {each[:k] for k in range(len(each) + 1)}
        else:
            components |= {each, *((i,) for i in space), *((i, i) for i in space)}

    def part(name):
        def function(points):
            found = WHOLE.get(equations.name, equations.reference)(At(frame.axes, points))
            return found[name] if isinstance(found, dict) else found

        flat = at.all.flatten(1)
        ordered = sorted(components, key=lambda c: (isinstance(c, str), len(c), c))
        jets = evaluate_jets(function, flat, ordered, space, name)
        return {c: values.reshape(at.all.shape[1:]) for c, values in jets.items()}

    jets = {name: part(name) for name in frame.fields}
    return {
        name: Field(name, frame.axes, own.__getitem__, normals) for name, own in jets.items()
    }, max(float(v.abs().max()) for own in jets.values() for v in own.values())


def test_each_shipped_equation_has_a_reference_that_is_tested_here():
    assert {*FORMULAS, *COMPUTED, *INEXACT} == set(EQUATIONS)


@pytest.mark.parametrize("name", EQUATIONS)
def test_each_shipped_equation_has_a_job_with_an_aim(name):
    own, library = JOBS / f"{name}.toml", JOBS / "library" / f"{name}.toml"
    job = load_job(library if library.exists() else own)
    aims = [job.stop.error, *(stage.stop.error for stage in job.solver if stage.stop)]
    assert job.problem.name == name and any(aims)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_has_no_residuals_and_meets_all_conditions(name):
    problem = small(name)
    equations = problem.equations
    for term, trial in zip(problem.terms, problem.trials, strict=True):
        at, normals = take_points(term, problem.frame, slice(0, 100), torch.float64)
        fields, size = exact_fields(equations, term, at, normals, trial.components)
        unknowns = {n: torch.tensor(u.true).double() for n, u in equations.unknowns.items()}
        for row, values in term.zero(at, fields, unknowns).items():
            most = NOT_QUITE.get((name, term.name), 1e-9 * max(size, 1.0))
            assert float(values.abs().max()) <= most, (term.name, row)


def find_cautions(problem):
    """All but those that say at the end, in brackets, which is allowed."""
    return [each for each in problem.cautions if "[" not in each]


@pytest.mark.parametrize("name", EQUATIONS)
def test_each_problem_is_sound_without_exact_conditions(name):
    """By the checks before a run; and no two conditions contradict each other."""
    network = DenseNetwork(inputs=1, width=4, depth=2)
    problem = PinnProblem(EQUATIONS[name](), network, Formulation(200, is_soft=True))
    probe(problem)
    assert find_cautions(problem) == []


SHIPPED = [*(JOBS / "library").glob("*.toml"), *(JOBS / f"{name}.toml" for name in EQUATIONS)]


@pytest.mark.parametrize("path", sorted(filter(Path.exists, SHIPPED)), ids=lambda path: path.stem)
def test_each_job_is_sound_and_three_iterations_lower_its_loss(path):
    """On few points, by a small network; see the test above."""
    small = ["network.depth=2", "network.width=4", "parallel.chunks=8"]
    points = 800 if load_job(path).network.subdomains else 64  # some in each of them
    problem = make_problem(load_job(path, [*small, f"problem.points={points}"]))
    assert find_cautions(problem) == []
    solver = make_solver(make_objective(problem, chunks=8), "ssbroyden")
    state = solver.init(problem.make_initial_parameters(0))
    first = state.point.loss
    for _ in range(3):
        state, _ = solver.step(state)
    assert state.point.loss < first


@pytest.mark.parametrize("name", FORMULAS)
def test_no_form_is_the_solution_by_itself(name):
    """u = G + D·N with N = 0 or N = 1 leaves something to learn."""
    problem = PinnProblem(
        EQUATIONS[name](), DenseNetwork(inputs=1, width=4, depth=2), Formulation(200)
    )
    for field, form in problem.forms.items():
        points = problem.terms[0].points
        equations = problem.equations
        found = WHOLE.get(equations.name, equations.reference)(At(problem.frame.axes, points))
        exact = found[field] if isinstance(found, dict) else found
        for N in (0.0, 1.0):
            missed = form.lifting(points) + N * form.distance(points) - exact
            assert float(missed.norm()) > 1e-3 * float(exact.norm())


# Quicker solutions than the references, by what gives fields at points (2, N).
QUICK = {
    "allen-cahn-periodic": lambda x: [
        torch.from_numpy(allen_cahn_periodic.solve(1e-4, degree=600).at(*to_array(x)))
    ],
    "cavity-regularised": lambda x: lid_driven_cavity.solve(
        lid_driven_cavity.CavityRegularised.lid, 32
    ).velocities(x),
    "kdv": lambda x: [kdv.solve(0.022**2, 512, 4000).at(x)],
    "kuramoto-sivashinsky": lambda x: [kuramoto_sivashinsky.solve(128, 8000).at(x)],
    "reaction-diffusion": lambda x: [reaction.solve(5.0, 1024, 250).at(x)],
    "reaction-diffusion-slow": lambda x: [reaction.solve(3.0, 1024, 250).at(x)],
    "schroedinger": lambda x: [schroedinger.solve(512, 250).at(x)],
}
# Points (t, x) or (x, y), and what others found there, of the first field unless a number is given.
KNOWN = {
    "allen-cahn-periodic": [
        ((0.5, 0.0), 0.00121645),
        ((0.5, 0.25), 0.47383219),
        ((0.5, 0.5), -0.00380796),
        ((1.0, 0.0), 0.02957972),
        ((1.0, 0.25), 0.98847465),
        ((1.0, 0.5), -0.06407680),
    ],
    "kdv": [((1.0, -0.5), -0.2219817), ((1.0, 0.0), -0.6515900), ((1.0, 0.5), -0.4416305)],
    "kuramoto-sivashinsky": [
        ((0.5, -0.5), 1.41918066),
        ((1.0, -0.25), 1.47636289),
        ((1.0, -0.5), 0.00242878),
    ],
    "reaction-diffusion": [((0.5, math.pi), 0.83572833), ((0.5, 0.0), 0.77987490)],
    "reaction-diffusion-slow": [((0.5, math.pi), 0.86084912), ((0.5, 0.0), 0.69298374)],
    "cavity-regularised": [((0.5, 0.5), -0.16125216), ((0.25, 0.5), (1, 0.13914211))],
}


def at_points(*rows):
    return torch.tensor(rows, dtype=torch.float64).T.contiguous()


@pytest.mark.parametrize("name", KNOWN)
def test_computed_solutions_agree_with_independent_computations(name):
    for point, known in KNOWN[name]:
        field, value = known if isinstance(known, tuple) else (0, known)
        digits = 7 if name == "kdv" else 8
        found = float(QUICK[name](at_points(point))[field])
        assert found == pytest.approx(value, abs=1.5 * 10**-digits), point


@pytest.mark.parametrize("name", [*FORMULAS, *QUICK])
def test_bits_of_a_reference_at_a_point_depend_on_that_point_alone(name):
    equations = EQUATIONS[name]()
    points = points_of_errors(equations)[:, ::97][:, :300]

    def values(x):
        if name in QUICK:
            return list(QUICK[name](x))
        found = equations.reference(At(equations.frame.axes, x))
        return list(found.values()) if isinstance(found, dict) else [found]

    few = points[:, 1::8].contiguous()
    for every, some in zip(values(points), values(few), strict=True):
        assert torch.equal(every[1::8], some)


def test_burgers_has_the_known_values_for_one_viscosity_and_for_several():
    t = torch.tensor([0.25, 0.5, 1.0, 1.0], dtype=torch.float64)
    x = torch.tensor([-0.5, -0.1, -0.01, 0.75], dtype=torch.float64)
    known = {
        0.01 / math.pi: [0.803198420841, 0.958159553419, 0.594256167589, -0.188998095308],
        0.01: [0.796762262579, 0.938106632560, 0.247472323473, -0.188193961397],
    }
    for nu, values in known.items():
        for given in (nu, torch.full_like(t, nu)):
            assert cole_hopf(t, x, given).tolist() == pytest.approx(values, abs=1e-12)


def test_the_plane_burgers_equations_have_the_known_values():
    t, x, y = at_points((0.3, 1.0, 0.5), (1.0, 2.1, 1.7))
    u, v = burgers_2d.cole_hopf(t, x, y)
    assert u.tolist() == pytest.approx([0.9420670647855, -0.4361670070855], abs=1e-12)
    assert v.tolist() == pytest.approx([0.7100744305548, 0.3334187698981], abs=1e-12)


SYSTEMS = {
    "lorenz-inverse": (
        lorenz_inverse,
        lambda t, y: (
            lorenz_inverse.RATES[0] * (y[1] - y[0]),
            y[0] * (lorenz_inverse.RATES[1] - y[2]) - y[1],
            y[0] * y[1] - lorenz_inverse.RATES[2] * y[2],
        ),
        {1.0: [7.27511607, 6.68298986, 16.00395099], 3.0: [5.43185116, 5.38841317, 13.44864768]},
    ),
    "lotka-volterra": (
        lotka_volterra,
        lambda t, y: (20 * (2 * y[0] - 8 * y[0] * y[1]), 20 * (4 * y[0] * y[1] - 1.06 * y[1])),
        {0.1: [0.04728897, 0.41893145], 0.6: [0.04714006, 0.41807848]},
    ),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_systems_in_time_have_the_known_values_and_those_of_a_runge_kutta_method(name):
    module, slope, known = SYSTEMS[name]
    t = np.array([0.0, 0.123, *known])
    found = module.solve().at(t)
    for end, values in zip(t[1:], found[1:], strict=True):
        run = solve_ivp(slope, (0, end), module.START, "DOP853", rtol=1e-13, atol=1e-13)
        assert values == pytest.approx(run.y[:, -1], abs=1e-9)
    assert found[2:] == pytest.approx(np.array([*known.values()]), abs=1e-8)
    assert module.solve(300).at(t) == pytest.approx(found, abs=1e-12)


def test_a_reaction_with_diffusion_has_the_values_of_finite_differences():
    """Of second order on two grids, whose error is extrapolated."""
    where = [0.1, 0.5]

    def integrate(cells):
        x = np.linspace(0, 1, cells + 1)[1:-1]

        def slope(t, y):
            parts = np.split(y, 2)
            consumed = 0.1 * parts[0] * parts[1] ** 2
            lines = [np.concatenate([[1.0], part, [0.0]]) for part in parts]
            spread = [2e-3 * cells**2 * np.diff(line, 2) for line in lines]
            return np.concatenate([spread[0] - consumed, spread[1] - 2 * consumed])

        start = np.tile(np.exp(-20 * x), 2)
        run = solve_ivp(slope, (0, 1), start, "LSODA", rtol=1e-8, atol=1e-9)
        return np.array([[part[round(each * cells) - 1] for each in where]
                         for part in np.split(run.y[:, -1], 2)])  # fmt: skip

    coarse, fine = integrate(60), integrate(120)
    found = reaction_inverse.evaluate(np.full(2, 1.0), np.array(where))
    expected = fine + (fine - coarse) / 3
    assert np.stack([found["a"], found["b"]]) == pytest.approx(expected, abs=5e-6)


def test_the_shock_tube_conserves_across_its_shock_and_has_the_known_middle_state():
    """Rankine-Hugoniot: the flux jumps by the speed of the shock times the jump of what is kept."""
    assert sod.find_middle() == pytest.approx((0.303130, 0.927453), abs=5e-7)
    t = torch.full((2001,), 0.2, dtype=torch.float64)
    x = torch.linspace(0, 1, 2001, dtype=torch.float64)
    rho, u, p = sod.solve(t, x)
    shock = int((rho.diff().abs() > 0.1).nonzero()[-1])
    sides = [(float(rho[k]), float(u[k]), float(p[k])) for k in (shock, shock + 1)]
    speed = (float(x[shock]) - 0.5) / 0.2
    kept = [(r, r * v, q / 0.4 + r * v**2 / 2) for r, v, q in sides]
    flux = [(r * v, r * v**2 + q, v * (q / 0.4 + r * v**2 / 2 + q)) for r, v, q in sides]
    for k, f in zip(zip(*kept, strict=True), zip(*flux, strict=True), strict=True):
        assert f[0] - f[1] == pytest.approx(speed * (k[0] - k[1]), abs=5e-3)
    # Inside the rarefaction entropy and the invariant u + 5c are those on the left.
    inside = (x > 0.3) & (x < 0.45)
    c = torch.sqrt(1.4 * p / rho)
    assert torch.allclose((p / rho**1.4)[inside], p.new_tensor(1.0))
    assert torch.allclose((u + 5 * c)[inside], p.new_tensor(5 * math.sqrt(1.4)))
    # What entered at neither end is still there: 0.5 (1 + 0.125).
    assert float(torch.trapezoid(rho, x)) == pytest.approx(0.5625, abs=1e-4)


def test_the_schroedinger_solver_finds_the_soliton_of_the_line():
    """On so long an interval that the ends do not matter: two solitons, by a formula."""
    t, x = make_grid_points(((0.0, math.pi / 2), (-4.0, 4.0)), (5, 9))
    amplitude = torch.cosh(3 * x) + 3 * torch.exp(4j * t) * torch.cosh(x)
    size = torch.cosh(4 * x) + 4 * torch.cosh(2 * x) + 3 * torch.cos(4 * t)
    exact = 4 * torch.exp(0.5j * t) * amplitude / size
    found = schroedinger.solve(1024, 1000, half=20.0).at(torch.stack([t, x]))
    assert float((found - exact).abs().max()) < 2e-7
    line = schroedinger.SchroedingerLine()
    ours = line.reference(at(line, torch.stack([t, x])))
    assert torch.allclose(torch.complex(ours["u"], ours["v"]), exact, rtol=0, atol=1e-14)


def test_the_flow_of_a_cavity_meets_the_lid_and_the_walls():
    x = torch.linspace(0, 1, 33, dtype=torch.float64)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    for lid in (lid_driven_cavity.LidDrivenCavity.lid, lid_driven_cavity.CavityRegularised.lid):
        flow = lid_driven_cavity.solve(lid, 16)
        for point, wanted in (
            ((x, one), sum(c * x**k for k, c in enumerate(lid))),
            ((x, zero), zero),
            ((zero, x), zero),
            ((one, x), zero),
        ):
            u, v = flow.velocities(torch.stack(point))
            assert torch.allclose(u, wanted, atol=1e-13) and torch.allclose(v, zero, atol=1e-13)


def test_a_stream_function_meets_the_lid_and_has_the_residuals_of_its_velocities():
    velocities, stream_form = (
        lid_driven_cavity.LidDrivenCavity(),
        EQUATIONS["lid-driven-cavity-stream"](),
    )
    x, y = points = torch.rand(2, 50, dtype=torch.float64, generator=torch.manual_seed(0))
    lid = make_grid_points(((0.05, 0.95), (1.0, 1.0)), (19, 1))
    walls = torch.cat([make_grid_points(((e, e), (0.0, 0.9)), (1, 7)) for e in (0.0, 1.0)], dim=1)

    def form(x):
        G, D = stream_form.ansatz(at(stream_form, x))["psi"]
        return G + D * torch.sin(3 * x[0] + x[1])

    fields = {"psi": form, "p": lambda x: x[0] ** 2 * x[1]}
    psi, p = (field_of(stream_form, f, points, name) for name, f in fields.items())
    for where, wanted in ((lid, 4 * lid[0] * (1 - lid[0])), (walls, 0 * walls[0])):
        here = field_of(stream_form, form, where, "psi")
        assert float(here.x.abs().max()) < 1e-14
        assert torch.allclose(here.y, wanted, rtol=0, atol=2 * 1e-6 / 0.04)

    def slope(axis, sign):
        def function(x):
            x = x if x.requires_grad else x.clone().requires_grad_()
            return sign * torch.autograd.grad(form(x).sum(), x, create_graph=True)[0][axis]

        return function

    u, v = (
        field_of(velocities, slope(1, 1), points, "u"),
        field_of(velocities, slope(0, -1), points, "v"),
    )
    expected = velocities.residuals(at(velocities, points), u, v, p)
    found = stream_form.residuals(at(stream_form, points), psi, p)
    assert float(expected["continuity"].abs().max()) < 1e-10
    weight = 1.0
    for end in (0.0, 1.0):
        square = (x - end) ** 2 + (1 - y) ** 2
        weight = weight * square / (square + 0.0025)
    for name, row in found.items():
        assert torch.allclose(row, weight * expected[name], rtol=1e-10, atol=1e-10)


def test_basis_functions_of_a_cavity_and_their_derivatives_belong_together():
    x, h = np.linspace(0.1, 0.9, 7), 1e-5
    ahead, here, behind = (stream.basis(x + s, 8) for s in (h, 0.0, -h))
    for order in (0, 1):
        difference = (ahead[order] - behind[order]) / (2 * h)
        assert difference == pytest.approx(here[order + 1], abs=1e-8)
    ends = stream.basis(np.array([0.0, 1.0]), 8)
    assert np.abs(ends[0]).max() < 1e-14 and np.abs(ends[1]).max() < 1e-14


# Solutions of other resolution, and how far at most the reference is from each, on the way to the
# error that it claims: methods of order 4 leave 16 times as much with half of the steps.
OTHERS = {
    "allen-cahn-periodic": (QUICK["allen-cahn-periodic"], 2e-8),
    "cavity-regularised": (
        lambda x: lid_driven_cavity.solve(lid_driven_cavity.CavityRegularised.lid, 48).velocities(
            x
        ),
        2e-7,
    ),
    "kdv": (lambda x: [kdv.solve(0.022**2, 512, 16_000).at(x)], 15 * 2e-11),
    "kdv-inverse": (lambda x: [kdv_inverse.solve(256, 8000).at(x)], 1e-9),
    "kuramoto-sivashinsky": (QUICK["kuramoto-sivashinsky"], 15 * 2e-9),
    "lid-driven-cavity": (
        lambda x: lid_driven_cavity.solve(lid_driven_cavity.LidDrivenCavity.lid, 48).velocities(x),
        1e-6,
    ),
    "schroedinger": (lambda x: parts(schroedinger.solve(2048, 1000).at(x)), 3e-6),
}


def parts(h):
    return [h.real, h.imag]


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_a_reference_is_as_exact_as_it_claims(name):
    equations = EQUATIONS[name]()
    other, most = OTHERS[name]
    points = points_of_errors(equations)
    points = points[:, :: points.shape[1] // 2000]
    found = equations.reference(At(equations.frame.axes, points))
    values = found.values() if isinstance(found, dict) else [found]
    for ours, theirs in zip(values, other(points), strict=True):
        assert float((ours - theirs).abs().max()) < most
