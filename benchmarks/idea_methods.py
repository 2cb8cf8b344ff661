"""Methods that were tried and are no part of the package; see `benchmarks/ideas.py`."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.fft
import scipy.sparse
import torch
from pydantic import Field
from torch import Tensor

from hpctrain.linalg.arrays import to_array, to_tensor
from hpctrain.linalg.randomness import make_generator
from hpctrain.linalg.vectors import dot, norm
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.quasi_newton.factors import Factors
from hpctrain.methods.quasi_newton.inverse_hessian import InverseHessian
from hpctrain.networks.joint import JointNetwork
from hpctrain.objective import Evaluation, Objective, Point, complete_point
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At
from hpctrain.problems.equations.problem import PinnProblem
from hpctrain.solvers.base import Record
from hpctrain.solvers.gauss_newton import (
    GaussNewton,
    GaussNewtonOptions,
    GaussNewtonState,
    find_damped_step,
)

# Cells along each coordinate, in which residuals are looked at.
GRID = 64


class TwoSidedOptions(GaussNewtonOptions):
    """Settings of Gauss-Newton on sketches of the rows and of the columns of J."""

    share: float = Field(0.25, gt=0, le=1, description="s / n")
    rows: int | None = Field(1, gt=0, description="m / s; None for all rows of J")
    own_gradient: bool = Field(False, description="∇L itself, not that of the sketched residuals")
    probes: int = Field(0, ge=0, description="values of λ tried at once; 0 for the ratio's control")
    target: float = Field(0.075, description="the ratio that the smallest of these λ has to exceed")


class TwoSidedSystem:
    """min ‖S (r + J T y)‖² + δ ‖y‖² for the step T y, drawn anew for each system.

    S (m, N) adds each row of J to four of its rows with random signs; the columns of T (n, s) are
    orthonormal: signs, a permutation and s rows of the cosine transform. Source: DSGNAR, arXiv
    2607.02194.
    """

    def __init__(
        self,
        objective: Objective,
        point: Point,
        options: TwoSidedOptions,
        draw: np.random.Generator,
    ) -> None:
        self.objective, self.point, n = objective, point, objective.parameters
        s = round(options.share * n)
        rows = to_array(objective.residuals.evaluate_rows(point.theta)[0])
        self._S: scipy.sparse.csr_matrix | None = None
        if options.rows is not None and options.rows * s < len(rows):
            self._S = draw_sums(options.rows * s, len(rows), draw)
            rows = self._S @ rows
        self._signs, self._places = draw.choice([-1.0, 1.0], n), draw.permutation(n)
        self._chosen = draw.choice(n, s, replace=False)
        self.B = to_tensor(self._restrict(rows[:, 1:]))
        self.right = to_tensor(np.ascontiguousarray(rows[:, 0]))
        self.gram = self.B.T @ self.B
        self.own_gradient = options.own_gradient

    def _restrict(self, rows: np.ndarray) -> np.ndarray:
        """X T for rows X (…, n)."""
        moved = (rows * self._signs)[..., self._places]
        return scipy.fft.dct(moved, norm="ortho")[..., self._chosen]

    def restrict(self, gradient: Tensor) -> Tensor:
        """Tᵀ x (s,) for x (n,)."""
        return to_tensor(self._restrict(to_array(gradient)))

    def lift(self, y: Tensor) -> Tensor:
        """T y (n,)."""
        spread = np.zeros(len(self._signs))
        spread[self._chosen] = to_array(y)
        moved, x = scipy.fft.idct(spread, norm="ortho"), np.empty_like(spread)
        x[self._places] = moved
        return to_tensor(x * self._signs)

    def pull_back(self, q: Tensor) -> Tensor:
        """Tᵀ Jᵀ r(θ + q) (s,), of all residuals or of the sketched ones."""
        objective, theta = self.objective, self.point.theta
        if self.own_gradient or self._S is None:
            pulled = objective.residuals.pull_back(theta, q)
            return self.restrict(0.5 * objective.samples * pulled)
        objective.counts.loss_work += objective.counts.loss_cost
        residuals = objective.share.evaluate_residuals(theta + q)
        return self.B.T @ to_tensor(self._S @ to_array(residuals))

    def factor(self, damping: float) -> "FactoredTwoSided | None":
        delta = 0.5 * self.objective.samples * damping
        damped = self.gram + delta * torch.eye(len(self.gram), dtype=self.gram.dtype)
        factor, failed = torch.linalg.cholesky_ex(damped)
        return None if failed else FactoredTwoSided(self, delta, factor)


class FactoredTwoSided:
    """The Cholesky factor of (S J T)ᵀ S J T + δ I."""

    def __init__(self, system: TwoSidedSystem, delta: float, factor: Tensor) -> None:
        self._system, self._delta, self._factor = system, delta, factor

    def _solve(self, right: Tensor) -> Tensor:
        return torch.cholesky_solve(right[:, None], self._factor)[:, 0]

    @cached_property
    def _first(self) -> tuple[Tensor, Tensor]:
        """Tᵀ Jᵀ r at θ, and y."""
        s = self._system
        if s.own_gradient:
            g = s.restrict(0.5 * s.objective.samples * s.point.gradient)
        else:
            g = s.B.T @ s.right
        return g, -self._solve(g)

    def compute_velocity(self) -> Tensor:
        return self._system.lift(self._first[1])

    def compute_correction(self, q: Tensor, centre: Tensor) -> Tensor:
        s = self._system
        return -s.lift(self._solve(s.pull_back(q) + self._delta * s.restrict(q - centre)))

    def predict_decrease(self, p: Tensor) -> float:
        g, y = self._first
        return (self._delta * dot(y, y) - dot(g, y)) / self._system.objective.samples


def draw_sums(m: int, N: int, draw: np.random.Generator) -> scipy.sparse.csr_matrix:
    """S (m, N): four entries ± 1/2 in each column, in random rows."""
    places = (draw.integers(0, m, 4 * N), np.tile(np.arange(N), 4))
    return scipy.sparse.csr_matrix((draw.choice([-0.5, 0.5], 4 * N), places), shape=(m, N))


class TwoSided(GaussNewton):
    """Levenberg-Marquardt in the span of random directions, on sums of residuals."""

    Options = TwoSidedOptions

    def _make_system(self, state: GaussNewtonState) -> TwoSidedSystem:
        draw = make_generator(self.setting.seed, "two-sided", state.iteration)
        return TwoSidedSystem(self.setting.objective, state.point, self.options, draw)

    def _attempt_step(self, state: GaussNewtonState) -> tuple[GaussNewtonState, Record]:
        if self.options.probes:
            return self._choose_step(state)
        new, record = super()._attempt_step(state)
        if record.outcome.is_final:  # for these directions
            record = replace(record, outcome=Outcome.SKETCH_EXHAUSTED)
        return new, record

    def _choose_step(self, state: GaussNewtonState) -> tuple[GaussNewtonState, Record]:
        """The smallest of several λ around the last one whose ratio, and those above, suffice."""
        o, old, objective = self.options, state.point, self.setting.objective
        system, chosen, count = self._make_system(state), None, state.iteration + 1
        for damping in state.damping * np.geomspace(10, 0.1, o.probes):
            step = find_damped_step(system.factor(float(damping)), o)
            if step is None or step.total is None:
                break
            trial = objective.evaluate(old.theta + step.total)
            if not (old.loss - trial.loss) / step.predicted > o.target:
                break
            chosen = trial, float(damping)
        if chosen is None:
            record = Record(old.loss, norm(old.gradient), 0.0, 1, 1, Outcome.SKETCH_EXHAUSTED)
            return GaussNewtonState(old, 10 * state.damping, count), record
        new = complete_point(chosen[0])
        record = Record(new.loss, norm(new.gradient), 1.0, 1, 1)
        return GaussNewtonState(new, chosen[1], count), record


def widen(
    theta: Tensor, narrow: JointNetwork, wide: JointNetwork, noise: float | None, seed: int
) -> Tensor:
    """θ of a wide network that is the function of a narrow one.

    Source: Chen, Goodfellow, Shlens, Net2Net, ICLR 2016, arXiv 1511.05641.

    Args:
        theta: of the narrow network, one field's.
        noise: each neuron is there twice, with half of the weights that lead on, and the second
            has weights (1 + noise · a normal number) times those of the first. None: the further
            neurons are those of a fresh network, and no weight leads from them to the first ones.
        seed: of the noise, and of the fresh network.
    """
    new, draw = wide.make_initial_parameters(seed), make_generator(seed, "widen")
    for old_layer, layer in zip(narrow.parts[0].layers, wide.parts[0].layers, strict=True):
        W, b = old_layer.weight(theta), old_layer.bias(theta)
        to, source = layer.weight(new).clone(), layer.bias(new).clone()
        (rows, columns), is_first = W.shape, layer.start == 0
        if noise is None:
            to[:rows, :columns], source[:rows] = W, b
            to[:rows, columns:] = 0.0
        else:
            to = W if is_first else torch.cat([W, W], 1) / 2
            if len(to) < layer.outputs:
                second = to * (1 + noise * to_tensor(draw.standard_normal(to.shape)))
                to, b = torch.cat([to, second]), torch.cat([b, b])
            source = b
        new[layer.start : layer.stop] = torch.cat([to.reshape(-1), source])
    return new


@dataclass(frozen=True)
class SecondStage:
    """What a second network is trained on.

    Attributes:
        equations: for problems with `scale_distance = false`.
        periods: along each coordinate of the unit square.
        loss: what the loss of these equations is a part of.
    """

    equations: type[Equations]
    periods: list[float]
    loss: float


def make_second_stage(problem: PinnProblem, theta: Tensor, oscillation: float) -> SecondStage:
    """The equations for u = u₀ + ε D N, with the dominant frequencies of the residual of u₀.

    Residuals are divided by the root mean square of those of u₀, and ε is that over the square of
    the greatest angular frequency, as the equations are of order two. Source: Wang, Lai,
    Multi-stage neural networks, arXiv 2407.17213.

    Args:
        problem: that of u₀, on the unit square.
        theta: its parameters (n,).
        oscillation: frequencies are multiplied by it.
    """
    before, axes = type(problem.equations), problem.coordinates
    residual = _evaluate_on_grid(problem, theta)
    spectrum = np.abs(np.fft.rfftn(residual - residual.mean()))
    peak = np.unravel_index(int(spectrum.argmax()), spectrum.shape)
    periods = [oscillation * max(min(k, GRID - k), 0.5) for k in map(float, peak)]
    size = float(np.sqrt((residual**2).mean()))
    epsilon = size / (2 * math.pi * max(periods)) ** 2

    class Equation(before):
        conditions = ()  # the form meets them

        def ansatz(self, at: At) -> dict[str, tuple[Tensor, Tensor]]:
            D = torch.full_like(at.all[0], epsilon)
            for name, x in zip(axes, at.all, strict=True):
                D = D * (x if name == "t" else 4 * x * (1 - x))
            return {"u": (problem.evaluate_in_torch(theta, "u", at.all), D)}

        def residuals(self, at: At, u: Any) -> Any:
            return super().residuals(at, u) / size

    return SecondStage(Equation, periods, size**2)


def _evaluate_on_grid(problem: PinnProblem, theta: Tensor) -> np.ndarray:
    """The residual of an equation at the middles of cells of the unit square (`GRID`, `GRID`)."""
    middles = (np.arange(GRID) + 0.5) / GRID
    points = np.stack([each.reshape(-1) for each in np.meshgrid(middles, middles, indexing="ij")])
    (values,) = problem.evaluate_residuals(theta, to_tensor(points), 1).values()
    return to_array(values).reshape(GRID, GRID)


def match_frequencies(theta: Tensor, network: JointNetwork, periods: list[float]) -> Tensor:
    """Has the first layer's weights of each coordinate, which is scaled to [-1, 1], be uniform
    between ± π times its periods."""
    layer, new = network.parts[0].layers[0], theta.clone()
    W = layer.weight(new)
    scaled = W / W.abs().max(0).values * math.pi * torch.tensor(periods, dtype=W.dtype)
    new[layer.start : layer.bias_start] = scaled.reshape(-1)
    return new


class KroneckerScaled:
    """L as a function of z, θ = P z, P Pᵀ = H₀: from I in z Broyden's method has H₀ in θ.

    For each layer J_j (outputs, inputs + 1) is the derivative of the residual j by its weights and
    bias, and the layer's block of (2/N) JᵀJ is taken for a Kronecker product,

        B ≈ G ⊗ A / tr A,   G = (2/N) Σ_j J_j J_jᵀ,   A = (2/N) Σ_j J_jᵀ J_j,
        P = (G + γ tr G / outputs I)^(-1/2) ⊗ (A / tr A + γ / inputs I)^(-1/2),

    a step of the power iteration for the nearest product. Sources: Dangel, Müller, Zeinhofer,
    NeurIPS 2024, arXiv 2405.15603, for other factors of the same kind; Van Loan, Pitsianis,
    Approximation with Kronecker products (1993).

    Args:
        objective: L(θ).
        network: one field's.
        theta: where the factors are evaluated, by one sweep for the rows of J.
        damping: γ.
    """

    def __init__(
        self, objective: Objective, network: JointNetwork, theta: Tensor, damping: float
    ) -> None:
        self._objective, self._layers = objective, network.parts[0].layers
        self.parameters, self.dtype, self.device = objective.parameters, objective.dtype, "cpu"
        self.communicator, self.counts = objective.communicator, objective.counts
        self.threads = objective.threads
        J = objective.residuals.evaluate_rows(theta)[0][:, 1:]
        self._roots = []
        for layer in self._layers:
            W = layer.weight(J)
            own = torch.cat([W, layer.bias(J)[..., None]], 2) * math.sqrt(2 / len(J))
            G = torch.einsum("joi,jki->ok", own, own)
            A = torch.einsum("joi,jok->ik", own, own)
            A = A / A.trace()
            self._roots.append((_find_root(G, damping), _find_root(A, damping)))

    def scale(self, x: Tensor, inverse: bool = False) -> Tensor:
        """P x (n,), or P⁻¹ x."""
        scaled = []
        for layer, (G, A) in zip(self._layers, self._roots, strict=True):
            X = torch.cat([layer.weight(x), layer.bias(x)[:, None]], 1)
            Y = torch.linalg.solve(G, X) @ torch.linalg.inv(A) if inverse else G @ X @ A
            scaled += [Y[:, :-1].reshape(-1), Y[:, -1]]
        return torch.cat(scaled)

    def evaluate(self, z: Tensor) -> Evaluation:
        return Evaluation(self, z, self._objective.evaluate(self.scale(z)).loss)

    def evaluate_with_gradient(self, z: Tensor) -> Evaluation:
        found = self._objective.evaluate_with_gradient(self.scale(z))
        return Evaluation(self, z, found.loss, self.scale(found.evaluate_gradient()))


def _find_root(matrix: Tensor, damping: float) -> Tensor:
    """(M + γ tr M / n I)^(-1/2), symmetric."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * (values.clamp_min(0) + damping * values.mean()).rsqrt() @ vectors.T


@contextmanager
def factors_only(rounded: bool) -> Iterator[None]:
    """Has Broyden's H be factors of its updates for any number of them.

    Args:
        rounded: to single precision; their sums are in double precision, as if each number was
            converted where it is read.
    """
    append, make_dense = Factors.append, InverseHessian._make_dense

    def append_rounded(self: Factors, vectors: Tensor, *others: Any) -> None:
        append(self, vectors.float().double(), *others)

    InverseHessian._make_dense = lambda *arguments: None
    Factors.append = append_rounded if rounded else append
    try:
        yield
    finally:
        InverseHessian._make_dense, Factors.append = make_dense, append


def place_by_rule(problem: PinnProblem, weighted: bool) -> None:
    """Gives an equation in a box the points of Gauss and Legendre, equally many along each axis.

    Args:
        problem: with one point for each, k^d of them.
        weighted: whether residuals have the rule's weights too, of mean 1; else equal ones.

    Raises:
        ValueError: there is no such k.
    """
    first, *others = problem.terms
    bounds, total = problem.frame.region.bounds, first.samples
    count = round(total ** (1 / len(bounds)))
    if count ** len(bounds) != total:
        raise ValueError(f"{total} points are not as many along each of {len(bounds)} axes")
    nodes, weights = np.polynomial.legendre.leggauss(count)
    axes = [low + (high - low) * (nodes + 1) / 2 for low, high in bounds]
    points = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(len(bounds), -1)
    products = np.prod(np.stack(np.meshgrid(*[weights] * len(bounds), indexing="ij")), axis=0)
    omega = torch.from_numpy(products.ravel() / products.mean()) if weighted else None
    term = replace(first, points=torch.from_numpy(points), sample_weights=omega)
    problem.replace_terms([term, *others])
