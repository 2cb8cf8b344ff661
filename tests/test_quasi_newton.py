"""Quasi-Newton memories against dense formulas."""

import math

import pytest
import torch
from quadratic import objective_of, random_quadratic, setting_of

from hpctrain.errors import InputError
from hpctrain.methods.quasi_newton import factors as factored
from hpctrain.methods.quasi_newton import inverse_hessian as broyden
from hpctrain.methods.quasi_newton.inverse_hessian import InverseHessian, Scaling
from hpctrain.methods.quasi_newton.secant_pairs import SecantPairs
from hpctrain.methods.quasi_newton.self_scaled import SelfScaledMethod
from hpctrain.methods.search.strong_wolfe import LineSearchOptions
from hpctrain.objective import evaluate_point
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.rows import find_row_ranges
from hpctrain.solvers import make_solver
from hpctrain.solvers.quasi_newton import SelfScaledOptions

N = 12


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def random_pairs(count):
    """Pairs y = A s of a symmetric positive definite A."""
    M = torch.randn(N, N, dtype=torch.float64)
    A = M @ M.T + torch.eye(N, dtype=torch.float64)
    steps = [torch.randn(N, dtype=torch.float64) for _ in range(count)]
    return A, [(s, A @ s) for s in steps]


def bfgs_inverse(H, s, y):
    """Nocedal and Wright, equation 6.17."""
    rho = 1 / (y @ s)
    V = torch.eye(N, dtype=torch.float64) - rho * torch.outer(s, y)
    return V @ H @ V.T + rho * torch.outer(s, s)


def compact_form(pairs):
    """The talk's compact form of the L-BFGS Hessian, B₀ = γ I with γ = yᵀy / yᵀs."""
    S, Y = (torch.stack(columns, dim=1) for columns in zip(*pairs, strict=True))
    s, y = pairs[-1]
    gamma = (y @ y) / (y @ s)
    SY = S.T @ Y
    L, D = torch.tril(SY, -1), torch.diag(torch.diag(SY))
    middle = torch.cat([torch.cat([gamma * S.T @ S, L], dim=1), torch.cat([L.T, -D], dim=1)], dim=0)
    W = torch.cat([gamma * S, Y], dim=1)
    return gamma * torch.eye(N, dtype=torch.float64) - W @ torch.linalg.solve(middle, W.T)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_two_loop_recursion_inverts_the_compact_form(count):
    _, pairs = random_pairs(count)
    memory = SecantPairs()
    for s, y in pairs:
        assert memory.store(s, y, count)
    g = torch.randn(N, dtype=torch.float64)
    expected = torch.linalg.solve(compact_form(pairs), g)
    torch.testing.assert_close(memory.multiply_inverse_hessian(g), expected, rtol=1e-9, atol=1e-11)


def test_the_oldest_pair_goes_first_and_unsafe_curvature_is_not_stored():
    _, pairs = random_pairs(4)
    memory = SecantPairs()
    for s, y in pairs:
        memory.store(s, y, 3)
    assert [torch.equal(kept, s) for kept, (s, _) in zip(memory.s, pairs[1:], strict=True)]
    assert len(memory.s) == 3
    assert not memory.store(pairs[0][0], -pairs[0][1], 3)
    assert not memory.store(pairs[0][0], 0 * pairs[0][1], 3)
    assert torch.equal(memory.s[-1], pairs[-1][0])


def dense_update(H, s, y, scaling):
    """METHODS, section 3, written out: H⁺ with the given τ and φ."""
    Hy, ys, yHy = H @ y, y @ s, y @ (H @ y)
    v = torch.sqrt(yHy) * (s / ys - Hy / yHy)
    bracket = H - torch.outer(Hy, Hy) / yHy + scaling.phi * torch.outer(v, v)
    return bracket / scaling.tau + torch.outer(s, s) / ys


@pytest.mark.parametrize("updates", [1, 5, 6, 10])
def test_factors_and_then_rows_with_waiting_updates_equal_the_dense_recursion(updates):
    """The factors become rows at N/2 = 6 updates, when the next product is asked for."""
    _, pairs = random_pairs(updates)
    communicator, x = Communicator(), torch.randn(N, dtype=torch.float64)
    H, dense = InverseHessian(0.3), 0.3 * torch.eye(N, dtype=torch.float64)
    for k, (s, y) in enumerate(pairs):
        scaling = Scaling(tau=0.5 + 0.1 * k, phi=0.2 * k)
        Hx, Hy = H.multiply(x, communicator, 1), H.multiply(y, communicator, 1)
        assert (H.rows is None) == (k < N // 2)
        H, after = H.update(s, y, Hy, scaling, Hx, x)
        dense = dense_update(dense, s, y, scaling)
        torch.testing.assert_close(after, dense @ x, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(H.multiply(x, communicator, 1), dense @ x, rtol=1e-10, atol=1e-12)
    columns = [H.multiply(unit, communicator, 1) for unit in torch.eye(N, dtype=torch.float64)]
    torch.testing.assert_close(torch.stack(columns), dense, rtol=1e-10, atol=1e-12)


def test_more_updates_than_a_panel_holds_equal_the_dense_recursion():
    n, communicator, H = 400, Communicator(), InverseHessian()
    dense = torch.eye(n, dtype=torch.float64)
    for _ in range(factored.PANEL + 3):
        s = torch.randn(n, dtype=torch.float64)
        y, scaling = s + 0.1 * torch.roll(s, 1), Scaling(tau=0.9, phi=0.8)
        Hs, Hy = H.multiply(s, communicator, 2), H.multiply(y, communicator, 2)
        H, _ = H.update(s, y, Hy, scaling, Hs, s)
        dense = dense_update(dense, s, y, scaling)
    assert H.rows is None and len(H.factors.panels) == 2
    x = torch.randn(n, dtype=torch.float64)
    product = H.multiply(x, communicator, 1)
    torch.testing.assert_close(product, dense @ x, rtol=1e-9, atol=1e-9)


def follow(H, pairs, vectors):
    """The H after an update by each pair, and what it makes of some vectors."""
    alone = Communicator()
    for s, y in pairs:
        Hs, Hy = H.multiply(s, alone, 1), H.multiply(y, alone, 1)
        H, _ = H.update(s, y, Hy, Scaling(0.9, 0.8), Hs, s)
    return H, [H.multiply(x, alone, 1) for x in vectors]


@pytest.mark.parametrize("learnt", [0, 3, N // 2 - 1, N // 2, N // 2 + 3])
@pytest.mark.parametrize("kernels", ["native", "torch"])
@pytest.mark.parametrize("panel", [4, 3, factored.PANEL])
def test_updates_leave_the_inverse_hessian_that_they_start_from(
    learnt, kernels, panel, monkeypatch
):
    """As factors, where these become rows, and as rows; the first of three stays in use."""
    monkeypatch.setenv("HPCTRAIN_KERNELS", kernels)
    monkeypatch.setattr(factored, "PANEL", panel)
    _, pairs = random_pairs(learnt + 4)
    vectors = torch.randn(3, N, dtype=torch.float64)
    first, _ = follow(InverseHessian(), pairs[:learnt], [])
    same, before = follow(InverseHessian(), pairs[:learnt], vectors)
    one, ahead = follow(first, pairs[learnt : learnt + 2], vectors)
    _other, _ = follow(first, pairs[learnt + 2 :], vectors)
    _, again = follow(first, pairs[learnt : learnt + 2], vectors)
    _, expected = follow(same, pairs[learnt : learnt + 2], vectors)
    for found, wanted in (
        (again, ahead),
        (ahead, expected),
        (follow(first, [], vectors)[1], before),
    ):
        assert all(map(torch.equal, found, wanted))
    assert all(map(torch.equal, follow(one, [], vectors)[1], ahead))


@pytest.mark.parametrize("learnt", [3, N // 2 + 3])
def test_an_update_of_the_only_inverse_hessian_in_use_is_written_in_place(learnt):
    _, pairs = random_pairs(learnt + 3)
    H, places = InverseHessian(), []
    for pair in pairs:
        H, _ = follow(H, [pair], [])
        buffers = [H.rows] if H.rows else H.factors.panels
        places.append([each.rows.data_ptr() for each in buffers])
    assert places[learnt] and places[learnt:] == 3 * [places[learnt]]


def test_factors_are_written_beside_those_of_earlier_inverse_hessians_in_use():
    _, pairs = random_pairs(5)
    kept = [InverseHessian()]
    for pair in pairs:
        kept.append(follow(kept[-1], [pair], torch.ones(1, N, dtype=torch.float64))[0])
    assert len({H.factors.panels[0].rows.data_ptr() for H in kept[1:]}) == 1
    other, _ = follow(kept[2], pairs[:1], torch.ones(1, N, dtype=torch.float64))
    assert other.factors.panels[0].rows.data_ptr() != kept[2].factors.panels[0].rows.data_ptr()


def test_the_update_without_scaling_is_bfgs():
    _, [(s, y)] = random_pairs(1)
    H = torch.eye(N, dtype=torch.float64)
    expected = bfgs_inverse(H, s, y)
    torch.testing.assert_close(dense_update(H, s, y, Scaling(1.0, 1.0)), expected)


@pytest.mark.parametrize("name", ["ssbfgs", "ssbroyden"])
def test_updates_satisfy_the_secant_equation_and_stay_positive_definite(name):
    _, pairs = random_pairs(20)
    H = torch.eye(N, dtype=torch.float64)
    for s, y in pairs:
        h = float(y @ H @ y / (y @ s))
        b = float(s @ torch.linalg.solve(H, s) / (y @ s))
        H = dense_update(H, s, y, broyden.SCALINGS[name](h, b, N))
        torch.testing.assert_close(H @ y, s, rtol=1e-7, atol=1e-9)
        assert float(torch.linalg.eigvalsh(0.5 * (H + H.T)).min()) > 0


def test_ssbroyden_follows_its_published_formulas():
    """Every quantity of METHODS section 3, evaluated one after the other for one h and b."""
    h, b, n = 1.7, 0.9, 50
    A = b * h - 1
    c = math.sqrt(A / (A + 1))
    rho = min(1, h * (1 - c))
    theta = max((rho - 1) / A, min(1 / rho, (1 - b) / b))
    sigma = 1 + theta * A
    sigma_n = abs(sigma) ** (1 / (1 - n))
    assert theta > 0
    found = broyden.ssbroyden(h, b, n)
    assert found.tau == pytest.approx(rho * min(sigma_n, 1 / theta), rel=1e-14)
    assert found.phi == pytest.approx((1 - theta) / (1 + theta * A), rel=1e-14)
    h, b = 1.2, 3.0
    A = b * h - 1
    c = math.sqrt(A / (A + 1))
    rho = min(1, h * (1 - c))
    theta = max((rho - 1) / A, min(1 / rho, (1 - b) / b))
    assert theta <= 0
    sigma = 1 + theta * A
    found = broyden.ssbroyden(h, b, n)
    assert found.tau == pytest.approx(min(rho * abs(sigma) ** (1 / (1 - n)), sigma), rel=1e-14)
    assert broyden.ssbfgs(h, b, n) == Scaling(tau=1 / 3.0, phi=1.0)
    assert broyden.ssbfgs(h, 0.5, n) == Scaling(tau=1.0, phi=1.0)


def test_rho_of_ssbroyden_is_at_most_one():
    """h (1 - c) exceeds 1 where a step was far longer than H foresaw."""
    h, b, n = 10.0, 0.2, 50
    A = b * h - 1
    assert h * (1 - math.sqrt(A / (A + 1))) > 1
    theta = max(0.0, min(1.0, (1 - b) / b))
    sigma = 1 + theta * A
    found = broyden.ssbroyden(h, b, n)
    assert found.tau == pytest.approx(min(sigma ** (1 / (1 - n)), 1 / theta), rel=1e-14)
    assert found.phi == pytest.approx((1 - theta) / sigma, abs=1e-14)


@pytest.mark.parametrize("name", ["ssbfgs", "ssbroyden"])
def test_scalings_are_finite_where_the_update_is_degenerate(name):
    """A = b h - 1 is zero where H is exact already, and rounding may push it below."""
    for h, b in [(1.0, 1.0), (1.0, 1 - 1e-16), (1e-8, 1e8), (1e8, 1e-8), (1e4, 1e4)]:
        scaling = broyden.SCALINGS[name](h, b, 3021)
        assert math.isfinite(scaling.phi)
        assert 0 < scaling.tau < math.inf


@pytest.mark.parametrize("name", ["ssbfgs", "ssbroyden"])
def test_a_run_updates_its_inverse_hessian_as_published(name):
    """The recursion in dense matrices, with H = (sᵀy / yᵀy) I before its first update."""
    loss = random_quadratic(N, spread=2)
    objective, alone = objective_of(loss), Communicator()
    method = SelfScaledMethod(name, LineSearchOptions(), alone, 1)
    state = method.start(evaluate_point(objective, torch.ones(N, dtype=torch.float64)))
    dense, taus = torch.eye(N, dtype=torch.float64), []
    for k in range(8):
        old, state = state, method.step(objective, state)
        s, y = state.point.theta - old.point.theta, state.point.gradient - old.point.gradient
        if k == 0:
            dense = (s @ y) / (y @ y) * dense
        # B s = H⁻¹ s, which is -a g but where H was scaled just before.
        h, b = float(y @ dense @ y / (y @ s)), float(s @ torch.linalg.solve(dense, s) / (y @ s))
        scaling = broyden.SCALINGS[name](h, b, N)
        taus.append(scaling.tau)
        dense = dense_update(dense, s, y, scaling)
        v = torch.randn(N, dtype=torch.float64)
        torch.testing.assert_close(state.H.multiply(v, alone, 1), dense @ v, rtol=1e-7, atol=1e-9)
        expected = dense @ state.point.gradient
        torch.testing.assert_close(state.Hg, expected, rtol=1e-7, atol=1e-9)
    assert min(taus) < 0.9


def test_h_starts_anew_when_it_has_as_many_updates_as_asked():
    objective = objective_of(random_quadratic(N, spread=2))
    method = SelfScaledMethod("ssbroyden", LineSearchOptions(), Communicator(), 1, memory=3)
    state, counts = method.start(evaluate_point(objective, torch.ones(N).double())), []
    for _ in range(8):
        state = method.step(objective, state)
        counts.append(len(state.H.factors) + (state.H.waiting is not None))
    assert counts == [1, 2, 3, 1, 2, 3, 1, 2]


def test_a_pair_whose_curvature_squared_underflows_is_not_learnt_from():
    loss = random_quadratic(N)
    loss.b.zero_()
    objective = objective_of(loss)
    method = SelfScaledMethod("ssbroyden", LineSearchOptions(), Communicator(), 1)
    state = method.start(evaluate_point(objective, 1e-85 * torch.ones(N, dtype=torch.float64)))
    new = method.step(objective, state)
    assert new.step_length > 0 and new.H.is_identity


@pytest.mark.parametrize("ranks", [1, 2, 3, 7, 100])
def test_rows_are_divided_completely_and_in_whole_parts(ranks):
    ranges = find_row_ranges(1000, ranks)
    assert [row for first, last in ranges for row in range(first, last)] == list(range(1000))
    assert max(last - first for first, last in ranges) <= 1000 / ranks + 2 * 1000 / 64


@pytest.mark.parametrize("memory", [N // 2 - 1, (N + 1) // 2])
def test_updates_to_begin_anew_after_are_fewer_than_half_of_the_parameters(memory):
    """As of so many H is a matrix, which counts no updates."""
    setting, options = setting_of(random_quadratic(N), [N]), SelfScaledOptions(memory=memory)
    if 2 * memory < N:
        assert f"anew after {memory} updates" in make_solver(setting, options).describe()[0]
        return
    with pytest.raises(InputError, match=rf"^solver.memory = {memory} is not .* half of the {N}"):
        make_solver(setting, options)
