"""Settings of trust-region methods without an effect are refused, with the reason."""

import pytest
from pydantic import ValidationError

from hpctrain.solvers import SOLVERS


def options_of(solver, settings):
    """The options of a solver with the settings of dotted names."""
    tables = {}
    for key, value in settings.items():
        *path, name = key.split(".")
        table = tables
        for each in path:
            table = table.setdefault(each, {})
        table[name] = value
    return SOLVERS[solver].Options(**tables)


IDLE = {
    "memory has no effect with model": ("trust-region", {"model": "linear", "memory": 3}),
    'cg_iterations has no effect with model = "lsr1" in the 2-norm': (
        "apts-data", {"cg_iterations": 3},
    ),
    "batch_overlap has no effect without batch_size": ("apts-weights", {"batch_overlap": 3.0}),
    'sample_size has no effect with sampling = "exact"': ("trust-region", {"sample_size": 3}),
    "window has no effect without global_control and global_steps": (
        "apts-weights", {"window": 3, "global_control": False, "global_steps": 0},
    ),
    "sample_overlap has no effect with subdomains = 1": (
        "apts-data", {"subdomains": 1, "sample_overlap": 3.0},
    ),
    "coarse_steps has no effect with share = 1": ("astrom", {"share": 1.0, "coarse_steps": 3}),
    "kappa has no effect with control": ("rmtr", {"control": "line-search", "kappa": 0.2}),
    "line_search has no effect with control": ("rmtr", {"line_search.c1": 0.2}),
    "post_smoothing has no effect with levels = 1": ("rmtr", {"levels": 1, "post_smoothing": 1}),
    "cycle has no effect with levels = 2": ("rmtr", {"levels": 2, "cycle": "V"}),
    "fit_samples has no effect without a coarser level": ("rmtr", {"fit_samples": 3}),
    "Extra inputs are not permitted": ("astrom", {"window": 3}),
    "trust_region.norm": ("rmtr", {"trust_region.norm": 2}),
}  # fmt: skip


@pytest.mark.parametrize("message", IDLE)
def test_a_setting_without_an_effect_is_refused_with_the_reason(message):
    with pytest.raises(ValidationError, match=message):
        options_of(*IDLE[message])


def test_a_setting_at_its_default_is_never_refused():
    """A job that is written back has all of them."""
    solvers = {solver for solver, _ in IDLE.values()}
    for options in (group.Options() for group in map(SOLVERS.get, solvers)):
        assert type(options)(**options.model_dump()) == options
