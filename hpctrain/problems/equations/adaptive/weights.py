"""Weights of terms and of points by what the solution still lacks.

Of terms, beside the equation's weight, which stays:

    λ_t ← a λ_t + (1 - a) m_e / m_t,

where m are the norms of the gradients of the terms, w_t ∇L_t without λ_t, so that all terms pull
with the same strength; or their traces of the neural tangent kernel, w_t tr(J_t J_tᵀ) / N_t, so
that all are learnt at the same speed. e is the equation.

Of the equation's points, ω_j (mean_j ω_j |r_j|²):

    causal          ω_j = exp(-ε Σ_{k < i} L_k) in part i of the time, L_k the mean of |r|² in
                    part k; ε moves on to its next value when all ω exceed δ
    self-adaptive   λ ← λ + η g / max |g|,  g_j = λ_j |r_j|²,  ω = λ² / mean λ²: a step up L

Sources: gradients, Wang, Teng, Perdikaris, SISC 43 (2021), and with norms Wang, Sankaran, Wang,
Perdikaris, arXiv 2308.08468; NTK, Wang, Yu, Perdikaris, JCP 449 (2022); causal, Wang, Sankaran,
Perdikaris, CMAME 421 (2024), arXiv 2203.07404; self-adaptive, McClenny and Braga-Neto, JCP 474
(2023), with the mask λ², here with a step of a fixed largest size, and a mean that stays 1.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np


def balance(
    factors: Sequence[float], measures: Sequence[float], equation: int, memory: float
) -> list[float]:
    """λ of all terms; a term stays as it was where its measure, or the equation's, is not positive.

    Args:
        factors: λ so far.
        measures: m of each term.
        equation: the number of its term.
        memory: a.
    """
    whole = measures[equation]

    def renew(number: int, factor: float, measure: float) -> float:
        known = 0 < measure < math.inf and 0 < whole < math.inf
        if number == equation or not known:
            return factor
        return memory * factor + (1 - memory) * whole / measure

    pairs = zip(factors, measures, strict=True)
    return [renew(number, *pair) for number, pair in enumerate(pairs)]


def weigh_causally(
    squares: np.ndarray, times: np.ndarray, span: tuple[float, float], bins: int, epsilon: float
) -> np.ndarray:
    """ω (N,).

    Args:
        squares: |r|² (N,).
        times: t (N,).
        span: the first and the last time.
        bins: M, equal parts of the span.
        epsilon: ε.
    """
    low, high = span
    part = np.clip((times - low) / (high - low) * bins, 0, bins - 1).astype(np.int64)
    counts = np.bincount(part, minlength=bins)
    means = np.bincount(part, squares, bins) / np.maximum(counts, 1)
    before = np.concatenate([[0.0], np.cumsum(means)[:-1]])
    return np.exp(-epsilon * before)[part]


def choose_epsilon(
    epsilons: Sequence[float],
    stage: int,
    threshold: float,
    weigh: Callable[[float], np.ndarray],
) -> tuple[int, np.ndarray]:
    """The stage, a number among `epsilons`, and ω (N,): the next one where all ω exceed δ.

    Args:
        epsilons: ε, ascending.
        stage: so far.
        threshold: δ.
        weigh: ε ↦ ω (N,).
    """
    omega = weigh(epsilons[stage])
    if omega.min() > threshold and stage + 1 < len(epsilons):
        return stage + 1, weigh(epsilons[stage + 1])
    return stage, omega


def ascend(omega: np.ndarray, squares: np.ndarray, rate: float) -> np.ndarray:
    """ω (N,) after a step of the self-adaptive weights; as it was where all residuals are zero.

    Args:
        omega: so far.
        squares: |r|² (N,).
        rate: η.
    """
    lam = np.sqrt(omega)
    g = lam * squares
    largest = g.max()
    if not 0 < largest < math.inf:
        return omega
    raised = (lam + rate * g / largest) ** 2
    return raised / raised.mean()
