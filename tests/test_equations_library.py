"""The shipped equations: their references solve them, and their statements hold together."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pinns import at, field_of
from scipy.integrate import solve_ivp

from hpctrain.job.settings import load_job
from hpctrain.linalg.arrays import to_array
from hpctrain.networks.dense import DenseNetwork
from hpctrain.problems.equations.ansatz import function_jets
from hpctrain.problems.equations.checks.probe import probe
from hpctrain.problems.equations.errors import find_test_points as points_of_errors
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.library import (
    EQUATIONS,
    allen_cahn_periodic,
    burgers_2d,
    kdv,
    kuramoto_sivashinsky,
    lid_driven_cavity,
    lorenz_inverse,
    schroedinger,
)
from hpctrain.problems.equations.library.burgers import cole_hopf
from hpctrain.problems.equations.library.methods import stream
from hpctrain.problems.equations.points import make_grid_points
from hpctrain.problems.equations.problem import Formulation, PinnProblem
from hpctrain.problems.equations.requests import points_of

JOBS = Path(__file__).parents[1] / "jobs"
FORMULAS = (
    "burgers",
    "burgers-2d",
    "burgers-inverse",
    "burgers-parametric",
    "elastic-plate",
    "elliptic-bar",
    "heat-ball",
    "heat-multiscale",
    "heat-plate",
    "heat-variable",
    "helmholtz",
    "hollow-cylinder",
    "klein-gordon",
    "kovasznay",
    "poisson-10d",
    "poisson-2d",
    "poisson-5d",
    "poisson-5d-sine",
    "poisson-disk",
    "poisson-inverse",
    "poisson-l-shape",
    "poisson-two-media",
    "schroedinger-line",
    "wave",
    "wave-long",
)
# Solutions that are computed; some are tested in files of their own.
COMPUTED = (
    "allen-cahn",
    "allen-cahn-periodic",
    "cavity-regularised",
    "diffusion-transport",
    "kdv",
    "kuramoto-sivashinsky",
    "laplace-holes",
    "lid-driven-cavity",
    "lid-driven-cavity-stream",
    "lorenz-inverse",
    "poisson-blocks",
    "poisson-boltzmann",
    "schroedinger",
)
# 2 sech x and its slope at the ends of [-15, 15], where the solution of the line repeats itself.
NOT_QUITE = {("schroedinger-line", "Periodic"): 3e-6}
# The data have errors of their own.
INEXACT = ("burgers-inverse-noisy", "poisson-inverse-noisy")
TRUE_UNKNOWNS = {"l1": 1.0, "l2": 0.01 / math.pi}


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
            found = equations.reference(At(frame.axes, points))
            return found[name] if isinstance(found, dict) else found

        flat = at.all.flatten(1)
        ordered = sorted(components, key=lambda c: (isinstance(c, str), len(c), c))
        jets = function_jets(function, flat, ordered, space, name)
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
        at, normals = points_of(term, problem.frame, slice(0, 100), torch.float64)
        fields, size = exact_fields(equations, term, at, normals, trial.components)
        unknowns = {u: torch.tensor(TRUE_UNKNOWNS[u]).double() for u in equations.unknowns}
        for row, values in term.zero(at, fields, unknowns).items():
            most = NOT_QUITE.get((name, term.name), 1e-9 * max(size, 1.0))
            assert float(values.abs().max()) <= most, (term.name, row)


@pytest.mark.parametrize("name", EQUATIONS)
@pytest.mark.parametrize("is_soft", [False, True], ids=["as stated", "soft"])
def test_each_problem_is_sound(name, is_soft):
    """By the checks before a run; and no two conditions contradict each other."""
    network = DenseNetwork(inputs=1, width=4, depth=2)
    problem = PinnProblem(EQUATIONS[name](), network, Formulation(200, is_soft=is_soft))
    probe(problem)
    assert not problem.cautions or "[" in problem.cautions[0]


@pytest.mark.parametrize("name", FORMULAS)
def test_no_form_is_the_solution_by_itself(name):
    """u = G + D·N with N = 0 or N = 1 leaves something to learn."""
    problem = PinnProblem(
        EQUATIONS[name](), DenseNetwork(inputs=1, width=4, depth=2), Formulation(200)
    )
    for field, form in problem.forms.items():
        points = problem.terms[0].points
        found = problem.equations.reference(At(problem.frame.axes, points))
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


def test_the_lorenz_system_has_the_known_values_and_those_of_a_runge_kutta_method():
    sigma, rho, beta = lorenz_inverse.RATES

    def slope(t, y):
        return sigma * (y[1] - y[0]), y[0] * (rho - y[2]) - y[1], y[0] * y[1] - beta * y[2]

    t = np.array([0.0, 0.3, 1.0, 2.345, 3.0])
    found = lorenz_inverse.evaluate(t)
    for end, values in zip(t[1:], found[1:], strict=True):
        run = solve_ivp(slope, (0, end), lorenz_inverse.START, "DOP853", rtol=1e-13, atol=1e-13)
        assert values == pytest.approx(run.y[:, -1], abs=1e-9)
    assert found[2] == pytest.approx([7.27511607, 6.68298986, 16.00395099], abs=1e-8)
    assert found[4] == pytest.approx([5.43185116, 5.38841317, 13.44864768], abs=1e-8)
    assert lorenz_inverse.evaluate(t, step=0.01) == pytest.approx(found, abs=1e-12)


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
