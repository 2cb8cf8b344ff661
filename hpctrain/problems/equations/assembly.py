"""Makes losses of terms: their residuals as functions of networks' jets, which kernels evaluate."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, wraps
from typing import Any

import torch
from torch import Tensor

from hpctrain.kernels.jets import JetShape
from hpctrain.kernels.members import MemberResidual, trim_bounds
from hpctrain.kernels.residual import Residual, ResidualLoss, make_residual_loss
from hpctrain.linalg.arrays import CPU
from hpctrain.objective.coupling import Coupling
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
from hpctrain.problems.equations.subdomains import Cell, reorder
from hpctrain.problems.equations.terms import Term
from hpctrain.problems.equations.trial_solution import TrialSolution


class EquationResiduals:
    """Residuals at points in the order that they were given in.

    Args:
        parts: by cell, where its points are among all, and their residuals.
        points: N.
    """

    def __init__(self, parts: Sequence[tuple[Tensor, ResidualLoss]], points: int) -> None:
        self._parts, self._points = parts, points

    def evaluate_residuals(self, theta: Tensor) -> Tensor:
        """(N·m,) at θ (n,), the m of each point one after the other."""
        found = [
            (places, loss.evaluate_residuals(theta).reshape(len(places), -1))
            for places, loss in self._parts
        ]
        whole = theta.new_empty(self._points, found[0][1].shape[1])
        for places, rows in found:
            whole[places] = rows
        return whole.flatten()


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
        for number, given in enumerate(terms):
            order, cells = self._find_cells(given)
            term = given if order is None else reorder(given, order)
            bounds = holding.cut(term.samples)
            scale = compute_row_scale(term.weight, term.samples, self._samples)
            for cell in cells:
                own = cell.clip(bounds)
                if own[-1] > own[0]:
                    parts.append(
                        self._make_loss(
                            number, term, scale, own, first_row, holding.threads, cell.members
                        )
                    )
            first_row += self.count_rows(number) * term.samples
        return parts

    def _find_cells(self, term: Term) -> tuple[Tensor | None, list[Cell]]:
        """The order of a term's samples cell after cell; as they are, in one, if none is cut."""
        subdomains = self._solution.subdomains
        if subdomains is None:
            return None, [Cell((0,), 0, term.samples)]
        return subdomains.find_cells(term.points, term.group)

    def find_coupling(self, terms: Sequence[Term]) -> Coupling | None:
        """Which parameters samples of terms, on all ranks, couple; None for one domain."""
        solution = self._solution
        if solution.subdomains is None:
            return None
        network, n = solution.network, solution.network.parameters
        unknowns = torch.arange(n, n + len(self._equations.unknowns), device="cpu")
        cells = sorted({cell.members for term in terms for cell in self._find_cells(term)[1]})
        pieces = (
            network.find_entries(solution.list_networks([k]))
            for k in range(solution.subdomains.count)
        )
        return Coupling(tuple(pieces), tuple(cells), unknowns)

    def make_equation_residuals(self, term: Term, holding: Holding) -> EquationResiduals | None:
        """The equation's own residuals at the points of a term, as a rank holds them, or None."""
        bounds = holding.cut(term.samples)
        first, last = bounds[0], bounds[-1]
        if last == first:
            return None
        own = replace(term, points=term.points[:, first:last], given=None)
        order, cells = self._find_cells(own)
        places = torch.arange(last - first, device="cpu") if order is None else order
        moved = own if order is None else reorder(own, order)
        shares = Holding(holding.chunks, 0, 1, holding.threads).cut(last - first)
        parts = []
        for cell in cells:
            inside = cell.clip(shares)
            made = self._make_loss(0, moved, 1.0, inside, 0, holding.threads, cell.members)
            parts.append((places[cell.first : cell.last], made.loss))
        return EquationResiduals(parts, last - first)

    def _make_loss(
        self,
        number: int,
        term: Term,
        scale: float,
        bounds: list[int],
        first_row: int,
        threads: int,
        members: tuple[int, ...],
    ) -> TermLoss:
        """A term, its rows scaled, over its samples bounds[0] … bounds[-1] - 1.

        Args:
            members: the subdomains that these touch.
        """
        shape, g, solution = self.shapes[number], term.group, self._solution
        first, last = bounds[0], bounds[-1]
        names = list(self.trials[number].values)
        points = term.points[:, g * first : g * last]
        own = [bound - first for bound in bounds]
        filled = own if solution.subdomains is None else trim_bounds(own)
        evaluator = solution.make_evaluator(
            shape, points, [g * bound for bound in filled], threads, members
        )

        def choose(chosen: Tensor) -> tuple[Residual, int]:
            count = len(chosen)
            made = self._residual(term, shape, scale, chosen + first, members)
            return made, count + -count % LANES

        residual, called = choose(torch.arange(last - first, device="cpu"))
        self._check(residual, names, shape, called, term, len(members))
        q = len(self._equations.unknowns)
        loss = make_residual_loss(
            evaluator,
            residual,
            self._dtype,
            unknowns=q,
            group=g,
            samples=called,
            choose=choose,
        )
        if solution.subdomains is not None:
            numbers = solution.list_networks(members)
            loss = MemberResidual(loss, solution.network, numbers, q, own)
        row = first_row + len(names) * first
        return TermLoss(
            term.name, loss, own, row, len(names), g > 1, number, first, members=members
        )

    def _residual(
        self, term: Term, shape: JetShape, scale: float, own: Tensor, members: tuple[int, ...]
    ) -> Residual:
        """The scaled rows of some samples of a term, as a function of the jet there."""
        at, normals = take_points(
            term, self._frame, own, self._dtype, self._device, lengthened=True
        )
        exact, _ = take_points(term, self._frame, own, torch.float64, lengthened=True)
        composition = self._solution.make_composition_of(members, shape, exact.all)
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
        self,
        residual: Residual,
        names: list[str],
        shape: JetShape,
        samples: int,
        term: Term,
        members: int,
    ) -> None:
        """Evaluates a residual once, so that one which fails at a point does so before a run."""
        outputs, g = members * len(self._frame.fields), term.group
        size = (samples,) if g == 1 else (g, samples)
        device, dtype = self._device, self._dtype
        with torch.no_grad():
            taus = unknown_values.list_starts(self._equations.unknowns).to(device, dtype)
            jet = torch.zeros(shape.components, outputs, *size, dtype=dtype, device=device)
            rows = residual(jet, taus)
        for name, row in zip(names, rows, strict=True):
            check_residual(term, name, row, samples)
