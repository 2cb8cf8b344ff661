"""Renews the points and the weights of equations in the course of a run.

Every rank evaluates the residuals at its chunks of the points; rank 0 chooses by those of all
ranks, and all take what it chose. A choice depends on θ, the seed and the iteration alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hpctrain.linalg.arrays import CPU, to_array, to_tensor
from hpctrain.linalg.randomness import make_generator
from hpctrain.linalg.vectors import norm
from hpctrain.objective import Objective, Point
from hpctrain.problems.equations.adaptive.options import AdaptOptions
from hpctrain.problems.equations.adaptive.points import (
    draw_by_residual,
    draw_candidates,
    find_retained,
)
from hpctrain.problems.equations.adaptive.weights import (
    ascend,
    balance,
    choose_epsilon,
    weigh_causally,
)
from hpctrain.problems.equations.assembly import EquationResiduals
from hpctrain.problems.equations.conditions.base import Frame
from hpctrain.problems.equations.fields import TIME
from hpctrain.problems.equations.geometry.sampling import Cube, shift_cube_points
from hpctrain.problems.equations.holding import Holding
from hpctrain.problems.equations.loss import PinnLoss
from hpctrain.problems.equations.terms import ProblemError, Term
from hpctrain.store.run_file import TERM_WEIGHT

# Candidates of RAD for each point, where the job names no number.
CANDIDATES = 10
# The number of the equation's term.
FIRST = 0
# How many θ of earlier renewals the guard may go back to.
KEPT = 7


@dataclass(frozen=True)
class AdaptedState:
    """What the loss of equations depends on beside θ.

    Attributes:
        points: of the equation (d, N).
        factors: λ of the weight of each term, 1 for the equation.
        sample_weights: ω (N,) of the equation's points.
        stage: the number of ε of causal weights.
        drawn: the iteration before which all points were last drawn; 0 for those of the start.
        thetas: (`KEPT`, n), with which the run went on at earlier renewals of points: row i at the
            last one whose number is divisible by 2^i; None before the first.
        guarded: how many renewals of points the guard has taken back or begun again after.
    """

    points: Tensor
    factors: list[float]
    sample_weights: Tensor
    stage: int = 0
    drawn: int = 0
    thetas: Tensor | None = None
    guarded: int = 0


class Renewable(Protocol):
    """What is renewed: a problem of equations."""

    frame: Frame
    first_terms: list[Term]

    def move_into_clusters(self, points: Tensor) -> Tensor: ...

    def draw_terms(self, cube: Cube) -> list[Term]: ...

    def replace_terms(self, terms: list[Term]) -> None: ...

    def make_equation_residuals(
        self, points: Tensor, holding: Holding
    ) -> EquationResiduals | None: ...

    def share(self, chunks: int, rank: int, ranks: int, threads: int) -> PinnLoss: ...


class PinnRenewal:
    """See the module and `problems.base.Renewal`.

    Args:
        problem: whose terms are replaced.
        objective: its loss on all ranks, which counts the work.
        options: what is renewed.
        seed: of the job.
    """

    def __init__(
        self, problem: Renewable, objective: Objective, options: AdaptOptions, seed: int
    ) -> None:
        self._problem, self._objective = problem, objective
        self._options, self._seed = options, seed
        ranks = self._ranks = objective.communicator
        self._holding = Holding(objective.chunks, ranks.rank, ranks.size, objective.threads)
        self._points = EvaluatedPoints(problem, objective, self._holding)
        self._drawn: tuple[int, list[Term]] | None = None
        terms = problem.first_terms
        points = terms[FIRST].points
        ones = torch.ones(points.shape[1], dtype=torch.float64, device=CPU)
        self.state = AdaptedState(points, [1.0] * len(terms), ones)
        self.columns = tuple(self.list_values())

    def list_values(self) -> dict[str, float]:
        """The weights of conditions, the least of a point, ε of causal ones, what was guarded."""
        o, state, found = self._options, self.state, dict[str, float]()
        if o.weights:
            pairs = zip(self._problem.first_terms, state.factors, strict=True)
            weights = {f"{TERM_WEIGHT}{term.name}": f * term.weight for term, f in pairs}
            found |= dict(list(weights.items())[1:])
        if o.sample_weights:
            found["least_sample_weight"] = float(state.sample_weights.min())
        if o.sample_weights == "causal":
            found["epsilon"] = o.epsilons[state.stage]
        if o.points and o.guard:
            found["guarded"] = state.guarded
        return found

    def is_due(self, iteration: int) -> bool:
        """Weights are renewed before the first iteration, too; points follow a solution."""
        o = self._options
        has_weights = o.weights is not None or o.sample_weights is not None
        return iteration % o.every == 0 and (iteration > 0 or has_weights)

    def renew(self, theta: Tensor, iteration: int) -> None:
        o, state = self._options, self.state
        with self._ranks.timer.phase("global"):
            if o.points == "fresh" and iteration:
                points = self._ranks.run_on_all(lambda: self._draw_terms(iteration))[FIRST].points
                state = replace(state, points=points, drawn=iteration)
            elif o.points and iteration:
                state = replace(state, points=self._choose_points(theta, iteration))
            if o.sample_weights:
                state = self._weigh_samples(theta, state)
            self.take(state)
            if o.weights:
                self.take(replace(self.state, factors=self._weigh_terms(theta)))

    def guard(self, iteration: int, before: float, point: Point) -> Tensor | None:
        """See `problems.base.Renewal`.

        Between points a network may be steep for long before one finds it, or since the last steps.
        So of θ and those of earlier renewals, further and further back, the one is gone on from
        whose loss on the same new points is least. What a quasi-Newton method has learnt is of a
        loss without this place in any case.
        """
        o, state, theta = self._options, self.state, point.theta
        if o.points is None or not o.guard or not iteration:
            return None
        is_steep = not point.loss <= o.guard * before
        if is_steep and state.thetas is not None:
            theta = self._find_lowest(point, state.thetas)
        number = iteration // o.every
        thetas = theta.repeat(KEPT, 1) if state.thetas is None else state.thetas.clone()
        for row in range(KEPT):
            if number % 2**row == 0:
                thetas[row] = theta
        self.state = replace(state, thetas=thetas, guarded=state.guarded + is_steep)
        return theta if is_steep else None

    def _find_lowest(self, point: Point, thetas: Tensor) -> Tensor:
        """Of some θ (k, n) and that of a point the one with the least loss."""
        losses = {theta: self._objective.evaluate(theta).loss for theta in thetas.unique(dim=0)}
        if math.isfinite(point.loss):
            losses[point.theta] = point.loss
        finite = {theta: loss for theta, loss in losses.items() if math.isfinite(loss)}
        return min(finite, key=finite.__getitem__, default=thetas[0])

    def take(self, state: AdaptedState) -> None:
        self.state = state
        terms = [
            replace(term, weight=factor * term.weight)
            for term, factor in zip(self._draw_terms(state.drawn), state.factors, strict=True)
        ]
        omega = state.sample_weights if self._options.sample_weights else None
        terms[FIRST] = replace(terms[FIRST], points=state.points, sample_weights=omega)
        self._ranks.run_on_all(lambda: self._problem.replace_terms(terms))

    def _draw_terms(self, iteration: int) -> list[Term]:
        """The terms, without weights of a renewal, at the points drawn before an iteration."""
        if not iteration:
            return self._problem.first_terms
        if self._drawn is None or self._drawn[0] != iteration:
            random = make_generator(self._seed, "fresh points", iteration)
            terms = self._problem.draw_terms(partial(shift_cube_points, random))
            self._drawn = iteration, terms
        return self._drawn[1]

    def _choose_points(self, theta: Tensor, iteration: int) -> Tensor:
        """The equation's next points (d, N)."""
        o, points = self._options, self.state.points
        if o.points == "r3":
            squares = self._points.evaluate(theta, points)
            return self._ranks.run_on_root(lambda: self._replace_small(points, squares, iteration))
        count = points.shape[1]
        wanted = o.candidates or CANDIDATES * count
        candidates = self._ranks.run_on_root(lambda: self._draw(wanted, iteration))
        squares = self._points.evaluate(theta, candidates)

        def choose() -> Tensor:
            chosen = draw_by_residual(squares, count, o.power, o.offset, self._seed, iteration)
            return candidates[:, to_tensor(chosen)] if len(chosen) == count else points

        return self._ranks.run_on_root(choose)

    def _replace_small(self, points: Tensor, squares: np.ndarray, iteration: int) -> Tensor:
        stays = to_tensor(find_retained(squares))
        others = int((~stays).sum())
        renewed = points.clone()
        if others:
            renewed[:, ~stays] = self._draw(others, iteration)
        return renewed

    def _draw(self, count: int, iteration: int) -> Tensor:
        """Points (d, M) inside, as dense in the job's clusters as at the start."""
        problem = self._problem
        return draw_candidates(
            problem.frame.region, count, problem.move_into_clusters, self._seed, iteration
        )

    def _weigh_samples(self, theta: Tensor, state: AdaptedState) -> AdaptedState:
        """ω of the equation's points, and the stage of ε."""
        o = self._options
        squares = self._points.evaluate(theta, state.points)
        if o.sample_weights == "self-adaptive":
            omega = to_array(state.sample_weights)
            renewed = self._ranks.run_on_root(lambda: to_tensor(ascend(omega, squares, o.rate)))
            return replace(state, sample_weights=renewed)
        axis = self._problem.frame.axes.names.index(TIME)
        span = self._problem.frame.region.bounds[axis]
        times = to_array(state.points[axis])

        def weigh(epsilon: float) -> np.ndarray:
            return weigh_causally(squares, times, span, o.bins, epsilon)

        stage, renewed = self._ranks.run_on_root(
            lambda: _to_pair(choose_epsilon(o.epsilons, state.stage, o.threshold, weigh))
        )
        return replace(state, sample_weights=renewed, stage=stage)

    def _weigh_terms(self, theta: Tensor) -> list[float]:
        """λ of each term."""
        factors, o = self.state.factors, self._options
        measure = self._measure_gradients if o.weights == "gradients" else self._measure_traces
        measures = [m / factor for m, factor in zip(measure(theta), factors, strict=True)]
        return self._ranks.run_on_root(lambda: balance(factors, measures, FIRST, o.memory))

    def _measure_gradients(self, theta: Tensor) -> list[float]:
        """‖w_t ∇L_t‖ of each term."""
        objective = self._objective
        objective.counts.gradient_work += self._share.gradient_cost
        leaves = self._share.compute_gradients_by_term(theta, self._names)
        return [norm(each) / objective.samples for each in self._sum(leaves)]

    def _measure_traces(self, theta: Tensor) -> list[float]:
        """w_t tr(J_t J_tᵀ) / N_t of each term."""
        objective = self._objective
        objective.counts.gradient_work += self._share.gradient_cost
        leaves = self._share.compute_traces_by_term(theta, self._names)
        return [float(each) / objective.samples for each in self._sum(leaves)]

    @property
    def _share(self) -> PinnLoss:
        return self._problem.share(*self._holding)

    @property
    def _names(self) -> list[str]:
        return [term.name for term in self._problem.first_terms]

    def _sum(self, leaves: Tensor) -> Tensor:
        """The sum of this rank's chunks (C, …) and those of the others."""
        return self._ranks.sum_leaves(leaves, self._holding.chunks)

    def describe(self) -> list[str]:
        return [
            f"renewed every {self._options.every} iterations: {', '.join(self._list_parts())}",
            "loss: over the points and with the weights of the moment; the history has the terms'"
            " over those of the start, without weights",
        ]

    def _list_parts(self) -> Sequence[str]:
        o, count = self._options, self.state.points.shape[1]
        points = {
            "rad": f"points by RAD of {o.candidates or CANDIDATES * count} candidates,"
            f" k {o.power:g}, c {o.offset:g}",
            "r3": "points by R3",
            "fresh": "all points drawn anew, but for those of observations",
        }
        weights = {
            "gradients": f"weights by norms of gradients, memory {o.memory:g}",
            "ntk": f"weights by traces of the NTK, memory {o.memory:g}",
        }
        samples = {
            "causal": f"causal weights over {o.bins} parts of the time, epsilon"
            f" {', '.join(f'{each:g}' for each in o.epsilons)}",
            "self-adaptive": f"self-adaptive weights of points, rate {o.rate:g}",
        }
        chosen = (
            points.get(o.points or ""),
            weights.get(o.weights or ""),
            samples.get(o.sample_weights or ""),
        )
        guard = f"guard {self._options.guard:g}" if self._options.points else ""
        return [each for each in (*chosen, guard) if each]


@dataclass
class EvaluatedPoints:
    """Squares of the equation's residuals at points; what is made for the last ones is kept."""

    problem: Renewable
    objective: Objective
    holding: Holding
    _last: Tensor | None = field(default=None, init=False)
    _loss: EquationResiduals | None = field(default=None, init=False)

    def evaluate(self, theta: Tensor, points: Tensor) -> np.ndarray:
        """Σ_i r_i² at points (d, M), the same (M,) on all ranks; collective."""
        objective, count = self.objective, points.shape[1]
        ranks = objective.communicator
        if self._last is not points:
            self._loss = ranks.run_on_all(
                lambda: self.problem.make_equation_residuals(points, self.holding)
            )
            self._last = points
        counts = self.holding.count_by_rank(count)
        own = torch.zeros(0, dtype=objective.dtype, device=objective.device)
        if self._loss is not None:
            rows = self._loss.evaluate_residuals(theta).reshape(counts[self.holding.rank], -1)
            own = reduce(torch.add, rows.square().unbind(1))
        share = self.problem.share(*self.holding)
        objective.counts.loss_work += count / objective.samples * share.loss_cost
        return to_array(ranks.allgather_rows(own, counts).double())


def check_adaptable(options: AdaptOptions, frame: Frame, terms: Sequence[Term]) -> None:
    """Raises a ProblemError where equations have nothing that is to be renewed."""
    place = f"problem.adapt: {frame.title}"
    if options.weights and len(terms) == 1:
        raise ProblemError(
            f'{place} has no conditions in its loss that weights = "{options.weights}" could'
            ' weigh: leave it out, or set problem.constraints = "soft"'
        )
    if options.sample_weights == "causal" and TIME not in frame.axes.coordinates:
        raise ProblemError(
            f'{place} has no coordinate {TIME} for sample_weights = "causal": it has'
            f" {', '.join(frame.axes.coordinates)}"
        )


def _to_pair(found: tuple[int, np.ndarray]) -> tuple[int, Tensor]:
    return found[0], to_tensor(found[1])
