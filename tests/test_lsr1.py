"""L-SR1 against the dense recursion, and its trust-region subproblem against dense eigenvalues."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hpctrain.methods.quasi_newton.lsr1 import (
    LSR1,
    Ending,
    Hessian,
    _compute_thin_qr,
    choose_initial_curvature,
    make_compact_hessian,
    minimise_diagonal,
)
from hpctrain.store.state import flatten, unflatten

N = 12


def vectors(count, seed=0, n=N):
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(count, n, generator=generator, dtype=torch.float64))


def numbers(values):
    return torch.tensor(values, dtype=torch.float64)


def symmetric(seed=0, n=N):
    M = torch.stack(vectors(n, seed + 100, n))
    return 0.5 * (M + M.T)


def compact(S, Y):
    A, B = torch.stack(S).double(), torch.stack(Y).double()
    return make_compact_hessian(S, Y, torch.stack([A @ A.T, A @ B.T, B @ B.T]))


def indefinite_hessian(k, seed=0, n=N):
    """B of k pairs of an indefinite matrix."""
    S = vectors(k, seed, n)
    hessian = compact(S, [symmetric(seed, n) @ s for s in S])
    assert hessian is not None
    return hessian


def dense(hessian, n=N):
    identity = torch.eye(n, dtype=torch.float64)
    return torch.stack([hessian.multiply_vector(e) for e in identity], dim=1)


def dense_recursion(gamma, S, Y):
    """B ← B + r rᵀ / sᵀr, r = y - Bs (Nocedal and Wright, equation 6.24)."""
    B = gamma * torch.eye(len(S[0]), dtype=torch.float64)
    for s, y in zip(S, Y, strict=True):
        r = y - B @ s
        B = B + torch.outer(r, r) / (s @ r)
    return B


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("k", [1, 2, 5, N])
def test_compact_form_is_the_dense_recursion(k, noise):
    """With noise SᵀY is not symmetric, and only its lower triangle may be used."""
    S = vectors(k)
    Y = [symmetric() @ s + noise * e for s, e in zip(S, vectors(k, seed=5), strict=True)]
    hessian = compact(S, Y)
    assert hessian is not None
    expected = dense_recursion(hessian.gamma, S, Y)
    torch.testing.assert_close(dense(hessian), expected, rtol=1e-7, atol=1e-7)


def test_the_newest_pair_satisfies_the_secant_equation():
    memory = LSR1()
    for s, e in zip(vectors(9), vectors(9, seed=5), strict=True):
        y = symmetric() @ s + 0.1 * e
        memory = memory.update(s, y, 4)
        torch.testing.assert_close(memory.hessian.multiply_vector(s), y, rtol=1e-8, atol=1e-8)
    assert len(memory.s) == len(memory.y) == 4


def test_inner_products_stay_those_of_the_pairs_as_pairs_come_and_go():
    """Also where sᵢᵀyⱼ and sⱼᵀyᵢ differ, as for pairs of a loss that is not quadratic."""
    memory = LSR1()
    for s, y in zip(vectors(6), vectors(6, seed=1), strict=True):
        memory = memory.update(s, y, 3)
        S, Y = torch.stack(memory.s), torch.stack(memory.y)
        expected = torch.stack([S @ S.T, S @ Y.T, Y @ Y.T])
        torch.testing.assert_close(memory.inner, expected, rtol=1e-12, atol=1e-12)
    assert len(memory.s) == 3


def test_an_indefinite_quadratic_is_learnt_exactly_from_n_pairs():
    hessian = indefinite_hessian(N)
    torch.testing.assert_close(dense(hessian), symmetric(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_gamma_is_the_least_eigenvalue_of_b(seed):
    hessian = indefinite_hessian(4, seed)
    assert float(hessian.shifts.min()) > 0
    least = float(torch.linalg.eigvalsh(dense(hessian)).min())
    assert least == pytest.approx(hessian.gamma, rel=1e-9)


@pytest.mark.parametrize("curvature, expected", [(4.0, 2.0), (-4.0, -6.0), (0.0, 0.0)])
def test_gamma_lies_below_the_curvature_of_a_single_pair(curvature, expected):
    DLL, SS = numbers([[9 * curvature]]), numbers([[9.0]])
    assert choose_initial_curvature(DLL, SS) == pytest.approx(expected, rel=1e-14)


def test_pairs_that_say_nothing_new_or_divide_by_zero_are_skipped():
    s, y = vectors(2)
    memory = LSR1().update(s, y, 5)
    assert memory.update(s, memory.hessian.multiply_vector(s), 5) is memory
    residual = vectors(1, seed=7)[0]
    residual -= (residual @ s) / (s @ s) * s
    assert memory.update(s, memory.hessian.multiply_vector(s) + residual, 5) is memory
    assert memory.update(torch.zeros_like(s), y, 5) is memory
    almost = residual + 2e-8 * float(residual.norm()) / float(s.norm()) * s
    assert memory.update(s, memory.hessian.multiply_vector(s) + almost, 5) is not memory


def test_oldest_pairs_are_dropped_while_the_compact_form_is_singular():
    """A step that differs by 1e-9 from one that is there: not to be told apart by rounded y."""
    t, s, u, v = vectors(4)
    A, memory = symmetric(), LSR1()
    for step in (t, s, u):
        memory = memory.update(step, A @ step, 5)
    assert len(memory.s) == 3
    close = s + 1e-9 * v
    memory = memory.update(close, A @ close, 5)
    assert [torch.equal(kept, step) for kept, step in zip(memory.s, (u, close), strict=True)]
    torch.testing.assert_close(memory.hessian.multiply_vector(close), A @ close)


def test_pairs_that_are_no_longer_true_may_be_kept():
    """Twice the same step, but the gradient changes otherwise: SᵀS is singular, M⁻¹ is not."""
    s, t, y = vectors(3)
    memory = LSR1().update(s, y, 5).update(s, y + t, 5)
    assert len(memory.s) == 2
    torch.testing.assert_close(memory.hessian.multiply_vector(s), y + t)


def test_the_basis_of_nearly_dependent_columns_is_orthonormal():
    """Angles of 1e-5: of ΨᵀΨ all but the last six digits are those of one column."""
    first, *others = vectors(5)
    columns = torch.stack([first, *(first + 1e-5 * each for each in others)])
    S, gamma = torch.stack(vectors(5, seed=1)), 0.5
    Y = columns + gamma * S
    factors = _compute_thin_qr(list(S), list(Y), gamma, columns @ columns.T, 1e-6)
    assert factors is not None
    combined, R = factors
    Q = combined(torch.eye(5, dtype=columns.dtype))
    torch.testing.assert_close(Q @ Q.T, torch.eye(5, dtype=Q.dtype), rtol=0, atol=1e-14)
    torch.testing.assert_close(R.T @ Q, columns, rtol=1e-13, atol=1e-13)
    assert torch.equal(R, R.triu())


@pytest.mark.parametrize("factor", [1.0, -2.0])
def test_dependent_pairs_are_singular(factor):
    s, y = vectors(2)
    assert compact([s, factor * s], [y, factor * y]) is None


def test_states_pass_through_their_leaves():
    memory = LSR1()
    for s in vectors(3):
        memory = memory.update(s, symmetric() @ s, 5)
    for state in (LSR1(), memory):
        again = unflatten(LSR1, {leaf.path: leaf.value for leaf in flatten(state)})
        v = vectors(1, seed=3)[0]
        assert torch.equal(again.hessian.multiply_vector(v), state.hessian.multiply_vector(v))


def check_optimality(B, g, radius, solution, tolerance=1e-9):
    """The conditions that hold at a global minimum and nowhere else (Moré and Sorensen 1983)."""
    s, sigma = solution.step, solution.sigma
    scale = float(torch.linalg.eigvalsh(B).abs().max()) + sigma
    length = float(s.norm())
    residual = float((B @ s + sigma * s + g).norm())
    assert residual <= tolerance * (float(g.norm()) + scale * length)
    assert sigma >= 0
    assert length <= radius * (1 + 1e-12)
    assert sigma * abs(radius - length) <= tolerance * sigma * radius
    assert float(torch.linalg.eigvalsh(B).min()) + sigma >= -tolerance * scale


@given(
    seed=st.integers(0, 10**6),
    k=st.integers(0, 6),
    n=st.integers(6, 9),
    radius=st.floats(1e-6, 1e6),
    scale=st.floats(1e-8, 1e8),
)
@settings(max_examples=150, deadline=None)
def test_the_subproblem_is_solved_to_global_optimality(seed, k, n, radius, scale):
    S, hessian = vectors(k, seed, n), Hessian(1.0)
    if k:
        hessian = compact(S, [symmetric(seed, n) @ s for s in S])
        assume(hessian is not None)  # pairs that are all but dependent have no B
    [g] = vectors(1, seed + 1, n)
    solution = hessian.minimise(scale * g, radius)
    check_optimality(dense(hessian, n), scale * g, radius, solution)


def test_an_interior_minimum_is_the_newton_step():
    S = vectors(4)
    A = symmetric() @ symmetric() + torch.eye(N, dtype=torch.float64)
    hessian = compact(S, [A @ s for s in S])
    [g] = vectors(1, seed=1)
    solution = hessian.minimise(g, 1e3)
    assert (solution.ending, solution.sigma) == (Ending.INTERIOR, 0.0)
    expected = -torch.linalg.solve(dense(hessian), g)
    torch.testing.assert_close(solution.step, expected, rtol=1e-9, atol=1e-11)
    bounded = hessian.minimise(g, 0.5 * float(expected.norm()))
    assert bounded.ending is Ending.BOUNDARY
    check_optimality(dense(hessian), g, 0.5 * float(expected.norm()), bounded)


@pytest.mark.parametrize("radius", [0.5, 10.0, 1e4])
def test_the_hard_case_goes_along_the_eigenvector_of_the_least_eigenvalue(radius):
    """g in the span of P: nothing of it lies in the eigenspace of γ < 0, the least eigenvalue."""
    hessian = indefinite_hessian(4)
    g = hessian.P.T @ numbers([1.0, -2.0, 0.5, 1.0])
    assert hessian.gamma < 0
    solution = hessian.minimise(g, radius)
    assert float(solution.step.norm()) == pytest.approx(radius, rel=1e-12)
    check_optimality(dense(hessian), g, radius, solution)


def test_at_a_saddle_the_step_follows_negative_curvature_to_the_boundary():
    hessian = indefinite_hessian(4)
    g = torch.zeros(N, dtype=torch.float64)
    solution = hessian.minimise(g, 2.0)
    assert solution.ending is Ending.HARD_CASE
    assert solution.sigma == -hessian.gamma
    check_optimality(dense(hessian), g, 2.0, solution)


def test_hard_case_inside_the_span_of_the_pairs():
    """The least eigenvalue belongs to a column of P, of which g has exactly nothing."""
    P = torch.eye(N, dtype=torch.float64)[:2]
    hessian = Hessian(1.0, P, numbers([-3.0, 4.0]))
    g = torch.ones(N, dtype=torch.float64)
    g[0] = 0
    solution = hessian.minimise(g, 5.0)
    assert (solution.ending, solution.sigma) == (Ending.HARD_CASE, 2.0)
    check_optimality(dense(hessian), g, 5.0, solution)


@pytest.mark.parametrize("component", [1e-12, 1e-80, 1e-300])
def test_nearly_hard_cases_reach_the_boundary_without_cancellation(component):
    eigenvalues = numbers([-1.0, 2.0, 5.0])
    g = numbers([component, 1.0, 1.0])
    v, sigma, ending = minimise_diagonal(eigenvalues, g, 10.0)
    assert ending is Ending.BOUNDARY
    assert float(v.norm()) == pytest.approx(10.0, rel=1e-14)
    assert sigma == pytest.approx(1.0, rel=1e-12)
    assert float(v[0]) == pytest.approx(-math.sqrt(100 - 1 / 9 - 1 / 36), rel=1e-10)


def test_a_singular_semidefinite_model_with_a_minimum_inside_stays_inside():
    v, sigma, ending = minimise_diagonal(numbers([0.0, 2.0]), numbers([0.0, 1.0]), 1.0)
    assert (v.tolist(), sigma, ending) == ([0.0, -0.5], 0.0, Ending.INTERIOR)


@pytest.mark.parametrize("radius", [1e-8, 1.0, 1e8])
def test_the_linear_model_goes_down_the_gradient_to_the_boundary(radius):
    [g] = vectors(1)
    solution = Hessian(0.0).minimise(g, radius)
    torch.testing.assert_close(solution.step, -radius * g / g.norm(), rtol=1e-14, atol=0)
    assert solution.sigma == pytest.approx(float(g.norm()) / radius, rel=1e-14)


def test_single_precision_pairs_give_single_precision_steps():
    S = [s.float() for s in vectors(4)]
    hessian = compact(S, [symmetric().float() @ s for s in S])
    step = hessian.minimise(vectors(1, seed=1)[0].float(), 0.1).step
    assert step.dtype == torch.float32
    assert float(step.norm()) == pytest.approx(0.1, rel=1e-6)


def test_the_bits_do_not_depend_on_the_number_of_threads():
    n = 100_000
    S, threads = vectors(3, n=n), torch.get_num_threads()
    weights = torch.linspace(-1, 2, n, dtype=torch.float64)
    steps = []
    for count in (1, 2):
        torch.set_num_threads(count)
        memory = LSR1()
        for s in S:
            memory = memory.update(s, weights * s, 3)
        steps.append(memory.hessian.minimise(S[0], 0.1).step)
    torch.set_num_threads(threads)
    assert torch.equal(*steps)
