"""The loss of each term by itself, without weights, so that it can be compared between runs."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Protocol

from torch import Tensor

from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations.adaptive.options import AdaptOptions
from hpctrain.problems.equations.conditions import Observations
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.holding import Holding
from hpctrain.problems.equations.loss import PinnLoss
from hpctrain.problems.equations.terms import Term
from hpctrain.store.run_file import TERM_LOSS

# Measurements are overfitted where their mean (r/σ)² is below this part of what noise gives, and
# by more than so many standard deviations of that.
OVERFITTED, DEVIATIONS = 0.5, 4.0


class ProblemOfTerms(Protocol):
    """A problem as its terms are measured."""

    equations: Equations
    first_terms: list[Term]
    terms: list[Term]
    samples: int

    @property
    def adapt(self) -> AdaptOptions | None: ...

    def count_rows(self, number: int) -> int: ...

    def share(self, chunks: int, rank: int, ranks: int, threads: int) -> PinnLoss: ...

    def make_share(self, terms: Sequence[Term], holding: Holding) -> PinnLoss: ...


class TermLosses:
    """mean_j Σ_i r_ij² of each term, over its points of the start; there is none beside one alone.

    Attributes:
        columns: `loss.` and the name of each term.
    """

    def __init__(
        self, problem: ProblemOfTerms, communicator: Communicator, chunks: int, threads: int
    ) -> None:
        self._problem, self._communicator = problem, communicator
        self._holding = Holding(chunks, communicator.rank, communicator.size, threads)
        self._names = [term.name for term in problem.first_terms]
        if problem.adapt is None and len(self._names) == 1:
            self._names = []
        self.columns = tuple(f"{TERM_LOSS}{name}" for name in self._names)

    @cached_property
    def _share(self) -> PinnLoss:
        """Made when it is measured first: of most windows of time it is not."""
        if self._problem.adapt is None:
            return self._problem.share(*self._holding)
        return self._problem.make_share(self._problem.first_terms, self._holding)

    def measure(self, theta: Tensor) -> dict[str, float]:
        """A number for each of `columns` at θ (n,), equal on all ranks; collective."""
        if not self._names:
            return {}
        leaves = self._share.compute_losses_by_term(theta, self._names)
        sums = self._communicator.sum_leaves(leaves, self._holding.chunks).tolist()
        terms = zip(self.columns, sums, self._problem.first_terms, strict=True)
        return {
            column: total / self._problem.samples / term.weight for column, total, term in terms
        }


def list_measured(problem: ProblemOfTerms) -> list[tuple[int, float]]:
    """The numbers of the terms that are measurements of known noise, each with σ."""
    conditions = problem.equations.named_conditions
    pairs = [(n, conditions.get(term.name)) for n, term in enumerate(problem.first_terms)]
    return [
        (n, float(own.noise)) for n, own in pairs if isinstance(own, Observations) and own.noise
    ]


def describe_overfitted(problem: ProblemOfTerms, losses: Mapping[str, float]) -> list[str]:
    """A line for each measured term that is closer to its data than their noise allows.

    The mean of (r/σ)² over N values is 1 for the true solution, with the standard deviation
    √(2/N); a fit of few degrees of freedom is not far from that, one that follows the noise is.

    Args:
        losses: of the terms, by column.
    """
    found = []
    for number, noise in list_measured(problem):
        term = problem.first_terms[number]
        column = f"{TERM_LOSS}{term.name}"
        if column not in losses:
            continue
        m = problem.count_rows(number)
        count = term.samples * m
        mean = losses[column] / m / noise**2
        if mean < min(OVERFITTED, 1 - DEVIATIONS * (2 / count) ** 0.5):
            found.append(
                f"{term.title}: overfitted, the mean (r/noise)^2 of {count} values is {mean:.2g},"
                " where it is about 1 if they are the solution and noise of that size: give the"
                " equation more weight (write its residual larger), or check noise"
            )
    return found
