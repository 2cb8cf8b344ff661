"""Sums of random Fourier features: linear in all that is trained, and solved by one step."""

import math

import numpy as np
import pytest
import torch

import hpctrain
from hpctrain.networks.kinds.dense import DenseOptions
from hpctrain.objective import Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations import Equations, Interval
from hpctrain.problems.equations.problem import Formulation, PinnProblem

WAVES, SCALE, SEED, POINTS = 60, 4.0, 3, 300


class Rod(Equations):
    """u″ = −9 sin 3x on (−1, 1), with the values of sin 3x at both ends."""

    geometry = Interval(x=(-1, 1))

    def ansatz(self, at):
        return {"u": (at.x * math.sin(3.0), 1 - at.x**2)}

    def residuals(self, at, u):
        return u.xx + 9 * torch.sin(3 * at.x)

    def reference(self, at):
        return torch.sin(3 * at.x)


def make_options(**others):
    return DenseOptions(kind="mlp", depth=1, fourier=WAVES, fourier_scale=SCALE, **others)


def make_rod():
    options = make_options()
    formulation = Formulation(POINTS, fourier=options.draw_frequencies("x", SEED))
    return PinnProblem(Rod(), options.make(1), formulation)


def list_columns(x, frequencies):
    """(D φ)″ (N, n) of all features φ = x, sin fx, cos fx and 1, D = 1 − x², by hand."""
    fx = np.outer(x, frequencies)
    one, sine, cosine, f = np.ones_like(x)[:, None], np.sin(fx), np.cos(fx), frequencies
    values = np.hstack([x[:, None], sine, cosine, one])
    slopes = np.hstack([one, f * cosine, -f * sine, 0 * one])
    curves = np.hstack([0 * one, -f * f * sine, -f * f * cosine, 0 * one])
    return (1 - x**2)[:, None] * curves - 4 * x[:, None] * slopes - 2 * values


def test_residuals_are_linear_in_the_parameters_with_the_columns_of_the_features():
    problem = make_rod()
    n, x = problem.parameters, problem.terms[0].points[0].numpy()
    frequencies = problem.formulation.fourier[:, 0].numpy()
    theta = np.random.default_rng(0).normal(size=n)
    expected = list_columns(x, frequencies) @ theta + 9 * np.sin(3 * x)
    loss = float((expected**2).mean())
    objective = Objective.of(problem, Communicator(), 16, 1)
    found = objective.evaluate(torch.tensor(theta)).loss
    assert found == pytest.approx(loss, rel=1e-12)


def test_one_step_of_gauss_newton_solves_a_linear_equation():
    tables = {
        "seed": SEED,
        "problem": {"name": Rod, "points": POINTS},
        "network": {"kind": "mlp", "depth": 1, "fourier": WAVES, "fourier_scale": SCALE},
        "solver": {"name": "gauss-newton", "factorisation": "qr", "damping": 1e-20},
        "stop": {"max_iterations": 1},
        "output": {"error_every": 1},
    }
    result = hpctrain.train(tables, progress=False)
    assert result.errors["error"] < 1e-11


def test_a_linear_network_has_features_and_no_hidden_layer():
    with pytest.raises(ValueError, match=r"width = 3 is for hidden layers: depth = 1 has none"):
        make_options(width=3)
    with pytest.raises(ValueError, match='depth = 1 is for kind = "mlp" or "residual" with fouri'):
        DenseOptions(kind="mlp", depth=1)
    with pytest.raises(ValueError, match="width is missing: the neurons of a hidden layer"):
        DenseOptions(kind="mlp", depth=2)
