"""Makes losses of terms: their residuals as functions of networks' jets, which kernels evaluate."""

from collections.abc import Sequence
from functools import cached_property, wraps
from typing import Any

import torch
from torch import Tensor

from hpctrain.kernels.jets import JetShape
from hpctrain.kernels.residual import Residual, ResidualLoss, make_residual_loss
from hpctrain.linalg.arrays import CPU
from hpctrain.problems.equations import unknowns as unknown_values
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.holding import Holding
from hpctrain.problems.equations.loss import TermLoss, compute_row_scale
from hpctrain.problems.equations.requests import (
    LANES,
    Trial,
    check_residual,
    find_shape_for,
    lengthen,
    take_points,
    try_out,
)
from hpctrain.problems.equations.terms import Term
from hpctrain.problems.equations.trial_solution import TrialSolution


class Assembly:
    """Makes losses of the terms of equations, at the points that they have or at others.

    Args:
        equations: checked.
        solution: whose fields the terms are of.
        terms: of the equations; others that are assembled have the same residuals, in this order.
        dtype: the precision of all numbers.
        device: where losses are evaluated.
    """

    def __init__(
        self,
        equations: Equations,
        solution: TrialSolution,
        terms: Sequence[Term],
        dtype: torch.dtype = torch.float64,
        device: torch.device = CPU,
    ) -> None:
        self._equations, self._frame, self._solution = equations, equations.frame, solution
        self._terms, self._samples = terms, sum(term.samples for term in terms)
        self._dtype, self._device = dtype, device

    @cached_property
    def trials(self) -> list[Trial]:
        """Each term, called once with made-up values."""
        return [try_out(term, self._frame) for term in self._terms]

    @cached_property
    def shapes(self) -> list[JetShape]:
        """The jet that each term needs."""
        return [find_shape_for(trial.components, self._frame) for trial in self.trials]

    def count_rows(self, number: int) -> int:
        """Residuals of each sample of a term."""
        return len(self.trials[number].values)

    def make_parts(self, terms: Sequence[Term], holding: Holding) -> list[TermLoss]:
        """The sums of terms over a rank's chunks, each scaled by its weight."""
        parts, first_row = [], 0
        for number, term in enumerate(terms):
            bounds = holding.cut(term.samples)
            if bounds[-1] > bounds[0]:
                scale = compute_row_scale(term.weight, term.samples, self._samples)
                parts.append(
                    self._make_loss(number, term, scale, bounds, first_row, holding.threads)
                )
            first_row += self.count_rows(number) * term.samples
        return parts

    def make_equation_residuals(self, term: Term, holding: Holding) -> ResidualLoss | None:
        """The equation's own residuals at the points of a term, as a rank holds them, or None."""
        bounds = holding.cut(term.samples)
        if bounds[-1] == bounds[0]:
            return None
        return self._make_loss(0, term, 1.0, bounds, 0, holding.threads).loss

    def _make_loss(
        self,
        number: int,
        term: Term,
        scale: float,
        bounds: list[int],
        first_row: int,
        threads: int,
    ) -> TermLoss:
        """A term, its rows scaled, over its samples bounds[0] … bounds[-1] - 1."""
        shape, g = self.shapes[number], term.group
        first, last = bounds[0], bounds[-1]
        names = list(self.trials[number].values)
        points = term.points[:, g * first : g * last]
        own = [bound - first for bound in bounds]
        evaluator = self._solution.make_evaluator(
            shape, points, [g * bound for bound in own], threads
        )

        def choose(chosen: Tensor) -> tuple[Residual, int]:
            count = len(chosen)
            return self._residual(term, shape, scale, chosen + first), count + -count % LANES

        residual, called = choose(torch.arange(last - first, device="cpu"))
        self._check(residual, names, shape, called, term)
        loss = make_residual_loss(
            evaluator,
            residual,
            self._dtype,
            unknowns=len(self._equations.unknowns),
            group=g,
            samples=called,
            choose=choose,
        )
        row = first_row + len(names) * first
        return TermLoss(term.name, loss, own, row, len(names), g > 1, number, first)

    def _residual(self, term: Term, shape: JetShape, scale: float, own: Tensor) -> Residual:
        """The scaled rows of some samples of a term, as a function of the jet there."""
        at, normals = take_points(
            term, self._frame, own, self._dtype, self._device, lengthened=True
        )
        exact, _ = take_points(term, self._frame, own, torch.float64, lengthened=True)
        composition = self._solution.make_composition(shape, exact.all)
        factor: float | Tensor = scale
        if term.sample_weights is not None:
            roots = scale * term.sample_weights[own].sqrt()
            factor = lengthen(roots).to(self._device, self._dtype)

        @wraps(term.written, updated=())
        def residual(jet: Any, taus: Any) -> tuple[Any, ...]:
            named = unknown_values.evaluate(self._equations.unknowns, taus)
            rows = term.zero(at, composition.fields(jet, normals), named).values()
            is_one = isinstance(factor, float) and factor == 1
            return tuple(rows) if is_one else tuple(factor * row for row in rows)

        return residual

    def _check(
        self, residual: Residual, names: list[str], shape: JetShape, samples: int, term: Term
    ) -> None:
        """Evaluates a residual once, so that one which fails at a point does so before a run."""
        outputs, g = self._solution.network.outputs, term.group
        size = (samples,) if g == 1 else (g, samples)
        device, dtype = self._device, self._dtype
        with torch.no_grad():
            taus = unknown_values.list_starts(self._equations.unknowns).to(device, dtype)
            jet = torch.zeros(shape.components, outputs, *size, dtype=dtype, device=device)
            rows = residual(jet, taus)
        for name, row in zip(names, rows, strict=True):
            check_residual(term, name, row, samples)
