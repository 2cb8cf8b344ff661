"""How λ is looked for, on losses whose values are given."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError

from hpctrain.methods.least_squares.damping import DampingOptions, DampingSearch, Proposal

THETA = torch.ones(3, dtype=torch.float64)


def search_of(lose, promised, **options):
    """Steps of length √3 λ, each of which promises as much; what losses were evaluated."""
    tried = []

    def evaluate(theta):
        damping = float((theta - THETA)[0])
        tried.append(lose(damping))
        gradient = torch.zeros(3)
        return SimpleNamespace(theta=theta, loss=tried[-1], evaluate_gradient=lambda: gradient)

    point = SimpleNamespace(theta=THETA, loss=1.0)
    propose = lambda damping: Proposal(torch.full_like(THETA, damping), promised)  # noqa: E731
    objective = SimpleNamespace(evaluate=evaluate)
    return DampingSearch(objective, point, DampingOptions(**options), propose), tried


@pytest.mark.parametrize(("promised", "trials"), [(1e-9, 6), (1e-12, 0)])
def test_no_damping_is_looked_for_where_less_is_promised_than_rounding_errors(promised, trials):
    """The loss is 1 + 1e-12 wherever any bit of θ differs: no step lowers it."""
    search, tried = search_of(lambda damping: 1 + 1e-12, promised)
    assert search.find(1.0) is None
    assert len(tried) == trials + 1  # and one at the next number


def test_another_step_with_the_same_matrix_is_not_taken_to_where_the_loss_is_nan():
    """The first step brings the loss down to a hundredth, the next one to NaN."""
    losses = iter([1e-3, math.nan])
    search, tried = search_of(lambda _: next(losses), 1.0)
    search = replace(search, extend=lambda damping, s: s)
    assert search.find(0.1).point.loss == 1e-3
    assert len(tried) == 2


def test_the_next_damping_is_eased_from_that_of_the_last_step_with_the_same_matrix():
    """By a third, as ρ is nearly 1 and the last step hardly lowers the loss."""
    losses = iter([1e-3, 0.9e-3])
    search, _ = search_of(lambda _: next(losses), 1.0)
    search = replace(search, extend=lambda damping, s: s)
    assert search.find(0.1).damping == pytest.approx(0.1 * 1e-3 / 3)


@pytest.mark.parametrize("limits", [{"damping": 1e7}, {"least_damping": 0.1}])
def test_a_damping_beyond_its_limits_is_refused(limits):
    with pytest.raises(ValidationError, match="least_damping <= damping <= greatest_damping"):
        DampingOptions(**limits)


@pytest.mark.parametrize("best", [1e-4, 3e-6, 1e-9])
def test_the_first_damping_is_looked_for_between_too_much_and_too_little(best):
    """The loss falls in proportion to λ down to the best one, and rises faster below it."""

    def lose(damping):
        decades = math.log10(damping / best)
        return 1e-20 * 10 ** max(decades, -5 * decades)

    search, tried = search_of(lose, 1.0, least_damping=1e-13)
    found = search.find_first(0.1)
    assert found.point.loss == min(tried) <= 0.02 * lose(0.1)
    assert len(tried) < 15
