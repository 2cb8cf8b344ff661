"""What solvers say of themselves by their settings, before anything is made."""

import pytest

from hpctrain.solvers import SOLVERS


def list_with(key):
    """The solvers that have a setting of this name."""
    return sorted(name for name, each in SOLVERS.items() if key in each.Options.model_fields)


@pytest.mark.parametrize("name", list_with("batch_size"))
def test_a_solver_on_mini_batches_says_that_it_counts_epochs(name):
    method = SOLVERS[name]
    assert method.takes_batches(method.Options(name=name, batch_size=8))


@pytest.mark.parametrize("name", sorted(set(SOLVERS) - {"rmtr", "apts-parts"}))
def test_a_solver_on_all_samples_counts_no_epochs(name):
    method = SOLVERS[name]
    rate = method.Options.model_fields.get("learning_rate")
    needed = {"learning_rate": 0.1} if rate is not None and rate.is_required() else {}
    assert not method.takes_batches(method.Options(name=name, **needed))


@pytest.mark.parametrize("name", list_with("blocks"))
def test_a_solver_in_blocks_says_which_of_them_are_too_many_for_a_network(name):
    method = SOLVERS[name]
    fits, exceeds = (method.Options(name=name, blocks=blocks) for blocks in (4, 5))
    assert method.find_excess(fits, 4) is None
    found = method.find_excess(exceeds, 4)
    assert (found.key, found.given) == ("blocks", 5) and "at most 4" in found.allowed


def test_an_overlap_beyond_all_layers_and_tensors_in_place_of_layers_are_told_apart():
    aspqn, weights = SOLVERS["aspqn"], SOLVERS["apts-weights"]
    assert aspqn.find_excess(aspqn.Options(blocks=2, overlap=4), 4).key == "overlap"
    assert weights.find_excess(weights.Options(blocks=6, pieces="tensors"), 4) is None
