"""The loss of a PINN on one rank: sums of the squared residuals of all terms over its chunks.

Chunk c of the summation tree holds the c-th part of every term's samples, so that the sums do not
depend on how ranks share the chunks. A term's rows are scaled by √(ω_j w_t |D| / N_t),
|D| = Σ_t N_t: then the sum of their squares over |D| is the loss.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from hpctrain.decomposition.blocks import Region
from hpctrain.kernels.dense import add_gram_sums, fit_parts
from hpctrain.kernels.members import MemberResidual
from hpctrain.kernels.residual import ResidualLoss
from hpctrain.linalg.block_layout import Layout
from hpctrain.linalg.vectors import dot
from hpctrain.networks.joint import JointLayer, JointNetwork
from hpctrain.objective.coupling import Coupling
from hpctrain.problems.equations.cell_rows import CellRows


@dataclass(frozen=True)
class TermLoss:
    """One term on this rank.

    Attributes:
        name: of the term.
        loss: sums over its chunks.
        bounds: chunk c holds its samples bounds[c] … bounds[c + 1] - 1.
        first_row: the number of its first row here among the rows of all terms on all ranks.
        residuals: m, rows of each sample.
        is_grouped: each sample has several points.
        number: of the term.
        first: the number of its first sample here among those of the term.
        factor: of its sums, beside the weight that its rows have.
        members: the subdomains that its samples touch.
    """

    name: str
    loss: ResidualLoss
    bounds: list[int]
    first_row: int
    residuals: int
    is_grouped: bool = False
    number: int = 0
    first: int = 0
    factor: float = 1.0
    members: tuple[int, ...] = (0,)

    def select(self, chosen: Tensor, factor: float) -> "TermLoss | None":
        """The same over those of its samples here that are chosen; None where there are none.

        Args:
            chosen: numbers of samples of the term, ascending.
            factor: of the sums.
        """
        is_here = (chosen >= self.first) & (chosen < self.first + self.bounds[-1])
        own = chosen[is_here] - self.first
        if not len(own):
            return None
        bounds = torch.searchsorted(own, own.new_tensor(self.bounds)).tolist()
        return replace(self, loss=self.loss.select(own, bounds), bounds=bounds, factor=factor)

    def scale(self, sums: Tensor) -> Tensor:
        """Sums over its chunks, multiplied by the factor."""
        return sums if self.factor == 1 else self.factor * sums

    @property
    def rows(self) -> int:
        """N m, on this rank."""
        return self.bounds[-1] * self.residuals

    @property
    def chunk_rows(self) -> list[int]:
        """The number of rows of each chunk."""
        return [(last - first) * self.residuals for first, last in pairwise(self.bounds)]

    def find_group_bounds(self, groups: int) -> list[int]:
        """Bounds of groups, `groups` in each chunk, equal to within a sample, perhaps empty."""
        inner = [a + g * (b - a) // groups for a, b in pairwise(self.bounds) for g in range(groups)]
        return [*inner, self.bounds[-1]]


@dataclass(frozen=True)
class _Frozen:
    """What a restriction does not change: θ outside its region, and the jets that enter it."""

    region: Region
    theta: Tensor
    activations: list[Tensor | None]


class PinnLoss:
    """Sums of squared residuals over chunks of samples; see `objective.LeastSquaresLoss`.

    Args:
        network: N, one network or several.
        terms: those that have samples on this rank.
        parameters: n, the network's and the unknowns.
        rows: of all terms on all ranks.
        strata: samples of each term on all ranks.
        dtype, device: of all numbers.
        threads: for the sums of products of Jacobians.
        coupling: which parameters have rows in common, where few have.
    """

    def __init__(
        self,
        network: JointNetwork,
        terms: Sequence[TermLoss],
        chunks: int,
        parameters: int,
        rows: int,
        strata: Sequence[int],
        dtype: torch.dtype,
        device: torch.device,
        threads: int,
        coupling: Coupling | None = None,
    ) -> None:
        self.dtype, self.device = dtype, device
        self.rows, self.strata = rows, tuple(strata)
        self._network, self._chunks = network, chunks
        self._threads = threads
        self._whole = parameters
        self.take_terms(terms, coupling)
        self._set_region(None)

    def take_terms(self, terms: Sequence[TermLoss], coupling: Coupling | None) -> None:
        """Goes on with other points or weights; of as many rows."""
        self._terms, self.coupling = terms, coupling
        self.chunks_at_a_time = fit_parts(sum(max(term.chunk_rows) for term in terms))
        # Groups of points are few, and always left to torch.
        traced = (term.loss.untraced for term in terms if not term.is_grouped)
        self.untraced = next((each for each in traced if each is not None), None)

    def _set_region(self, frozen: _Frozen | None) -> None:
        layers = self._network.layers
        self._frozen = frozen
        self._first = frozen.region.first if frozen else 0
        self._last = frozen.region.last if frozen else len(layers) - 1
        self.parameters = frozen.region.size if frozen else self._whole
        self.coupling = None if frozen else self.coupling
        # Forward through layers `first` …; back through all of those but the first, which needs
        # no adjoint below it; and one product more for each layer from `first` to `last`, also
        # for those between them that a region leaves out: the kernels sweep them all the same.
        above = _multiply_adds(layers[self._first :])
        adjoint = _multiply_adds(layers[self._first + 1 :])
        self.prefix_cost = _multiply_adds(layers[: self._first])
        self.loss_cost = above
        self.gradient_cost = above + adjoint + _multiply_adds(layers[self._first : self._last + 1])

    def compute_losses_of(self, theta: Tensor, names: Collection[str]) -> Tensor:
        """Σ ℓ_j over each chunk (C,), of the terms of these names alone."""
        full = self._full(theta)
        parts = [
            term.scale(term.loss.sum_losses(full, self._first, activations))
            for term, activations in self._terms_with_activations()
            if term.name in names
        ]
        return self._add(parts, ())

    def compute_losses_by_term(self, theta: Tensor, names: Sequence[str]) -> Tensor:
        """Σ ℓ_j over each chunk, of each of these terms (C, T)."""
        terms = [term for term in self._terms if term.name in names]
        found = [(term.name, term.loss.sum_losses(theta, 0, None)) for term in terms]
        return self._stack(found, names, ())

    def find_not_finite(self, theta: Tensor) -> tuple[int, int] | None:
        """The numbers of the first term and sample here with residuals that are not finite."""
        for term in self._terms:
            bad = ~term.loss.evaluate_residuals(theta).isfinite()
            if bool(bad.any()):
                row = int(bad.nonzero()[0])
                return term.number, term.first + row // term.residuals
        return None

    def compute_changes_by_term(self, theta: Tensor, v: Tensor, names: Sequence[str]) -> Tensor:
        """Σ (J v)² over the rows of each chunk, of each of these terms (C, T), for v (n,)."""
        terms = [term for term in self._terms if term.name in names]
        found = [(t.name, t.loss.multiply_gauss_newton_chunks(theta, v) @ v) for t in terms]
        return self._stack(found, names, ())

    def compute_gradients_by_term(self, theta: Tensor, names: Sequence[str]) -> Tensor:
        """Σ ∇ℓ_j over each chunk, of each term (C, T, n)."""
        last = len(self._network.layers) - 1
        found = [
            (term.name, term.loss.sum_losses_and_gradients(theta, 0, last, None)[:, 1:])
            for term in self._terms
        ]
        return self._stack(found, names, (self._whole,))

    def compute_traces_by_term(self, theta: Tensor, names: Sequence[str]) -> Tensor:
        """Σ ‖∂r/∂θ‖² over the rows of each chunk, of each term (C, T)."""

        def trace(term: TermLoss, chunk: int) -> float:
            J = term.loss.evaluate_jacobian(theta, chunk, chunk + 1)[:, 1:].flatten()
            return dot(J, J)

        found = [
            (term.name, theta.new_tensor([trace(term, chunk) for chunk in range(self._chunks)]))
            for term in self._terms
        ]
        return self._stack(found, names, ())

    def _stack(
        self, found: Iterable[tuple[str, Tensor]], names: Sequence[str], shape: tuple[int, ...]
    ) -> Tensor:
        """The sums of what was found by terms' names (C, …), as (C, T, …); of none zero."""
        none = torch.zeros(self._chunks, *shape, dtype=self.dtype, device=self.device)
        sums = dict.fromkeys(names, none)
        for name, each in found:
            sums[name] = sums[name] + each
        return torch.stack([sums[name] for name in names], dim=1)

    def restrict(self, region: Region, theta: Tensor) -> "PinnLoss":
        """See `objective.SampledLoss`."""
        restricted = object.__new__(PinnLoss)
        restricted.__dict__.update(self.__dict__)
        first = region.first
        activations = [
            t.loss.evaluate_prefix(theta, first) if first > 0 else None for t in self._terms
        ]
        restricted._set_region(_Frozen(region, theta.clone(), activations))
        return restricted

    def subset(self, chosen: Tensor) -> "PinnBatch":
        """The loss over some samples: the same weighted sum of means, each over those of its term.

        Args:
            chosen: their numbers, ascending, all of a term behind those of the term before it.
        """
        samples, offsets = sum(self.strata), [0, *accumulate(self.strata)]
        terms = list[TermLoss]()
        for term in self._terms:
            ends = chosen.new_tensor(offsets[term.number : term.number + 2])
            low, high = torch.searchsorted(chosen, ends).tolist()
            if low < high:
                mean = len(chosen) * self.strata[term.number] / (samples * (high - low))
                found = term.select(chosen[low:high] - offsets[term.number], mean)
                terms += [] if found is None else [found]
        part = copy(self)
        part.take_terms(terms, None)
        frozen = self._frozen
        return PinnBatch(part if frozen is None else part.restrict(frozen.region, frozen.theta))

    def sum_losses(self, theta: Tensor) -> Tensor:
        return self.compute_losses_of(theta, {term.name for term in self._terms})

    def sum_losses_and_gradients(self, theta: Tensor) -> Tensor:
        sums = self._sum_losses_and_gradients(self._full(theta))
        if self._frozen is None or self.parameters == self._swept:
            return sums
        start = self._network.layers[self._first].start
        gradients = [
            sums[:, 1 + run.start - start : 1 + run.stop - start]
            for run in self._frozen.region.runs
        ]
        return torch.cat([sums[:, :1], *gradients], dim=1)

    def _sum_losses_and_gradients(self, full: Tensor) -> Tensor:
        """By all parameters from the first layer of the region to its last (C, 1 + m)."""
        first, last = self._first, self._last
        if not self._is_of_members:
            parts = [
                term.scale(term.loss.sum_losses_and_gradients(full, first, last, activations))
                for term, activations in self._terms_with_activations()
            ]
            return self._add(parts, (1 + self._swept,))
        sums = torch.zeros(self._chunks, 1 + self._swept, dtype=self.dtype, device=self.device)
        for term, activations in self._terms_with_activations():
            assert isinstance(term.loss, MemberResidual)
            term.loss.add_losses_and_gradients(
                sums, full, first, last, activations, factor=term.factor
            )
        return sums

    @property
    def _is_of_members(self) -> bool:
        """Whether each term reads the networks of some subdomains only."""
        return bool(self._terms) and isinstance(self._terms[0].loss, MemberResidual)

    def add_gauss_newton(
        self, theta: Tensor, first: int, last: int, G: Tensor, layout: Layout
    ) -> None:
        by_chunk = self._evaluate_rows(theta, first, last)
        if by_chunk:
            add_gram_sums(by_chunk, 1, G, layout, self._threads)

    def evaluate_cell_rows(self, theta: Tensor, first: int, last: int) -> CellRows:
        coupling = self.coupling
        assert coupling is not None
        by_cell = []
        for cell in coupling.cells:
            pieces = [coupling.all_pieces[i] for i in coupling.list_pieces(cell)]
            by_term = [
                term.loss.evaluate_own_jacobian(theta, first, last, torch.cat(pieces)).split(
                    term.chunk_rows[first:last]
                )
                for term in self._terms
                if term.members == cell and isinstance(term.loss, MemberResidual)
            ]
            by_chunk = zip(*by_term, strict=True) if by_term else [()] * (last - first)
            by_cell.append([[rows for rows in each if len(rows)] for each in by_chunk])
        return CellRows(coupling, by_cell, self._threads, theta)

    def evaluate_rows(self, theta: Tensor, first: int, last: int) -> list[Tensor]:
        none = torch.zeros(0, 1 + self._whole, dtype=self.dtype, device=self.device)
        by_chunk = self._evaluate_rows(theta, first, last) or [[]] * (last - first)
        return [torch.cat([none, *parts]) for parts in by_chunk]

    def count_rows(self) -> list[int]:
        counts = (term.chunk_rows for term in self._terms)
        return [sum(each) for each in zip([0] * self._chunks, *counts, strict=True)]

    def _evaluate_rows(self, theta: Tensor, first: int, last: int) -> list[list[Tensor]]:
        """The rows [r J] of each of some chunks, term by term; of no chunk where there is no term.

        Args:
            theta: θ (n,).
            first, last: the chunks first … last - 1 of this rank.
        """
        by_term = [
            term.loss.evaluate_jacobian(theta, first, last).split(term.chunk_rows[first:last])
            for term in self._terms
        ]
        return [[rows for rows in parts if len(rows)] for parts in zip(*by_term, strict=True)]

    def evaluate_residuals(self, theta: Tensor) -> Tensor:
        """The rows of all terms, one after the other."""
        parts = [term.loss.evaluate_residuals(theta) for term in self._terms]
        return torch.cat(parts) if parts else self._none()[:0, 0]

    def sort_by_chunk(self, values: Tensor) -> Tensor:
        own = values.split([term.rows for term in self._terms])
        parts = (its.split(term.chunk_rows) for term, its in zip(self._terms, own, strict=True))
        return torch.cat(
            [values[:0], *(part for chunk in zip(*parts, strict=True) for part in chunk)]
        )

    def pull_back(self, theta: Tensor, weights: Tensor) -> Tensor:
        own = weights.split([term.rows for term in self._terms])
        pairs = zip(self._terms, own, strict=True)
        if not self._is_of_members:
            return self._add([term.loss.pull_back(theta, w) for term, w in pairs], (self._whole,))
        sums = self._none()
        for term, w in pairs:
            assert isinstance(term.loss, MemberResidual)
            term.loss.add_pulled_back(sums, theta, w)
        return sums

    def multiply_gauss_newton_chunks(self, theta: Tensor, v: Tensor) -> Tensor:
        parts = [term.loss.multiply_gauss_newton_chunks(theta, v) for term in self._terms]
        return self._add(parts, (self._whole,))

    def sketch_rows(self, theta: Tensor, signs: Tensor, groups: int) -> Tensor:
        r = self.sum_groups(self.evaluate_residuals(theta), signs, groups)
        parts = [
            term.loss.regroup(term.find_group_bounds(groups)).pull_back(
                theta, self._signs(term, signs)
            )
            for term in self._terms
        ]
        return torch.cat([r[:, None], self._add(parts, (self._whole,), groups)], dim=1)

    def sum_groups(self, values: Tensor, signs: Tensor, groups: int) -> Tensor:
        sums = values.new_zeros(self._chunks * groups)
        for term, own in zip(
            self._terms, values.split([term.rows for term in self._terms]), strict=True
        ):
            sizes = [last - first for first, last in pairwise(term.find_group_bounds(groups))]
            counts = torch.tensor(sizes, device=self.device) * term.residuals
            group = torch.arange(len(sizes), device=self.device).repeat_interleave(counts)
            sums.index_add_(0, group, own * self._signs(term, signs))
        return sums

    def _signs(self, term: TermLoss, signs: Tensor) -> Tensor:
        own = signs[term.first_row : term.first_row + term.rows]
        return own.to(self.device, self.dtype)

    def _none(self) -> Tensor:
        return torch.zeros(self._chunks, self._whole, dtype=self.dtype, device=self.device)

    def _add(self, parts: Sequence[Tensor], shape: tuple[int, ...], groups: int = 1) -> Tensor:
        """Sums of terms by chunk, (C · groups, …), in the memory of the first one's."""
        if not parts:
            chunks = self._chunks * groups
            return torch.zeros(chunks, *shape, dtype=self.dtype, device=self.device)
        total = parts[0]
        for part in parts[1:]:
            total += part
        return total

    @property
    def _swept(self) -> int:
        """Parameters of layers first … last, with the unknowns behind the last one."""
        layers = self._network.layers
        is_all = self._last == len(layers) - 1
        stop = self._whole if is_all else layers[self._last].stop
        return stop - layers[self._first].start

    def _terms_with_activations(self) -> Iterable[tuple[TermLoss, Tensor | None]]:
        kept = self._frozen.activations if self._frozen else [None] * len(self._terms)
        return zip(self._terms, kept, strict=True)

    def _full(self, theta: Tensor) -> Tensor:
        """θ (n,) out of the argument, which is R θ for a region."""
        if self._frozen is None:
            return theta
        self._frozen.region.replace(self._frozen.theta, theta)
        return self._frozen.theta


class PinnBatch:
    """The loss over some samples, whose rows are no least-squares system of the whole set's.

    Args:
        part: of these samples.
    """

    def __init__(self, part: PinnLoss) -> None:
        self._part = part
        self.parameters, self.dtype, self.device = part.parameters, part.dtype, part.device
        self.loss_cost, self.gradient_cost = part.loss_cost, part.gradient_cost
        self.prefix_cost = part.prefix_cost

    def sum_losses(self, theta: Tensor) -> Tensor:
        return self._part.sum_losses(theta)

    def sum_losses_and_gradients(self, theta: Tensor) -> Tensor:
        return self._part.sum_losses_and_gradients(theta)

    def restrict(self, region: Region, theta: Tensor) -> "PinnBatch":
        return PinnBatch(self._part.restrict(region, theta))


def _multiply_adds(layers: tuple[JointLayer, ...]) -> int:
    return sum(layer.cost for layer in layers)


def compute_row_scale(weight: float, samples: int, total: int) -> float:
    """√(w |D| / N) for a term of N samples among |D|."""
    return math.sqrt(weight * total / samples)
