"""Every setting of every solver counts: another value changes a run, or is refused.

Many settings count under others only, such as those of a line search under the solver that has one.
`WHERE` says under which; a setting that no job makes count has to go.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from job_texts import write_text
from pydantic import TypeAdapter, ValidationError

from hpctrain.errors import InputError
from hpctrain.job.groups import find_inner_group, list_kinds
from hpctrain.job.settings import parse_job
from hpctrain.options import Options
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.devices import HOST
from hpctrain.run import assemble
from hpctrain.solvers import SOLVERS

JOB = write_text("{problem}", network="{network}", chunks=4)
PINN = 'name = "klein-gordon"\npoints = 60', 'kind = "residual"\ndepth = 4\nwidth = 4'
DIGITS = 'name = "classification"\ndata = "mnist"\ndata_path = "{data}/digits"'
FCNN = DIGITS, 'kind = "fcnn"\nhidden = [6, 5]'
RESNET = DIGITS, 'kind = "dense-resnet"\nwidth = 5\nblocks = 4'
ROWS = 'name = "logistic"\ndata = "{data}/rows.h5"', 'kind = "none"'
STEPS = 6
# What each solver works on here, and settings that let it work hard in few steps.
CASES: dict[str, tuple[tuple[str, str], tuple[str, ...]]] = {
    "lbfgs": (PINN, ()),
    "ssbfgs": (PINN, ()),
    "ssbroyden": (PINN, ()),
    "aspqn": (PINN, ("blocks=2", "local_steps=3")),
    "mspqn": (PINN, ("blocks=2", "local_steps=3")),
    "adam": (FCNN, ()),
    "sgd": (FCNN, ()),
    "torch-lbfgs": (PINN, ()),
    "gauss-newton": (PINN, ()),
    "spring": (PINN, ()),
    "newton-krylov-schwarz": (PINN, ("blocks=2", "sketch=16")),
    "trust-region": (FCNN, ("trust_region.radius=4.0",)),
    "apts-data": (FCNN, ()),
    "apts-parts": (FCNN, ("batch_size=20", "parts=2")),
    "apts-weights": (FCNN, ()),
    "rmtr": (RESNET, ("batch_size=20", "levels=2", "trust_region.radius=4.0")),
    "mlvr": (ROWS, ()),
    "mlvr-krylov": (ROWS, ()),
    "astrom": (ROWS, ("share=0.2", "trust_region.radius=4.0")),
    "svrg": (ROWS, ("inner_steps=5",)),
    "sarah": (ROWS, ("inner_steps=5",)),
    "ssn": (ROWS, ("share=0.2",)),
    "newton": (ROWS, ()),
}


@dataclass(frozen=True)
class Where:
    """Another value of a setting, as a job file has it, and settings under which it counts."""

    value: str
    under: tuple[str, ...] = ()


HESSIAN = ('model="hessian"',)
STEEP = ("line_search.c1=0.6",)
BACKTRACKING = ('control="line-search"', "line_search.c1=0.95")
LOCAL = ('local_solver="trust-region"', "trust_region.radius=0.01")
WIDE_LOCAL = ('local_solver="trust-region"', "trust_region.radius=100.0")
WIDE = ("trust_region.radius=4.0", "trust_region.max_radius=4.0")
WIDE_PARTS = ("trust_region.radius=4.0", "trust_region.max_radius=4.0")
NARROW_PARTS = ("trust_region.radius=0.001",)
FEW = ("trust_region.radius=0.1", "share=0.05")
SAMPLED = ('sampling="hessian"', *HESSIAN, "sample_size=20")
BATCHES = ("trust_region.radius=1.0", "batch_size=10")
DEEP = ("network.blocks=5", "network.time=20.0", 'transfer="linear"')
CASCADE = "cascade=[{level=1, epochs=0.5, batch_size=20, steps=2}]"
# What the first other value that comes to mind does not show: (solver or "*", setting) → where.
WHERE = {
    ("*", "batch_overlap"): Where("0.5", ("batch_size=20",)),
    ("*", "cg_iterations"): Where("1"),
    ("*", "decay"): Where('"linear"', ("decay_steps=6",)),
    ("*", "line_search.c1"): Where("0.45"),
    ("*", "line_search.max_trials"): Where("1"),
    ("*", "trust_region.eta1"): Where("0.7"),
    ("*", "trust_region.max_radius"): Where("0.011", ("trust_region.radius=0.01",)),
    ("*", "trust_region.min_radius"): Where("1.0", ("trust_region.radius=4.0",)),
    ("apts-data", "cg_iterations"): Where("1", HESSIAN),
    ("apts-data", "local_steps"): Where("1"),
    ("apts-parts", "batch_size"): Where("10"),
    ("apts-parts", "trust_region.eta1"): Where("0.7", WIDE_PARTS),
    ("apts-parts", "trust_region.eta2"): Where("0.25", WIDE_PARTS),
    ("apts-parts", "trust_region.grow"): Where("4.0", NARROW_PARTS),
    ("apts-parts", "trust_region.max_radius"): Where("0.005", NARROW_PARTS),
    ("apts-parts", "trust_region.min_radius"): Where("3.0", WIDE_PARTS),
    ("apts-parts", "trust_region.shrink"): Where("0.25", WIDE_PARTS),
    ("apts-weights", "cg_iterations"): Where("1", HESSIAN),
    ("apts-weights", "forced_decrease"): Where("true", WIDE),
    ("apts-weights", "local_steps"): Where("1"),
    ("apts-weights", "trust_region.min_radius"): Where("3.0", WIDE),
    ("apts-weights", "trust_region.shrink"): Where("0.25", WIDE),
    ("apts-weights", "window"): Where("3", WIDE),
    ("aspqn", "local_memory"): Where("1"),
    ("aspqn", "trust_region.max_radius"): Where("0.011", LOCAL),
    ("aspqn", "trust_region.eta1"): Where("0.7", LOCAL),
    ("aspqn", "trust_region.eta2"): Where("0.99", LOCAL),
    ("aspqn", "trust_region.grow"): Where("4.0", LOCAL),
    ("aspqn", "trust_region.min_radius"): Where("50.0", WIDE_LOCAL),
    ("aspqn", "trust_region.norm"): Where('"inf"', WIDE_LOCAL),
    ("aspqn", "trust_region.radius"): Where("0.02", LOCAL),
    ("aspqn", "trust_region.shrink"): Where("0.25", WIDE_LOCAL),
    ("astrom", "trust_region.eta1"): Where("0.7", FEW),
    ("astrom", "trust_region.eta2"): Where("0.999", FEW),
    ("astrom", "trust_region.min_radius"): Where("10.0", ("trust_region.radius=50.0", "share=0.1")),
    ("astrom", "trust_region.grow"): Where("4.0", ("trust_region.radius=0.1",)),
    ("astrom", "model_error"): Where("0.1", ("trust_region.radius=0.1",)),
    ("gauss-newton", "accept"): Where("0.9"),
    ("gauss-newton", "contraction"): Where("0.001"),
    ("gauss-newton", "corrections"): Where("0"),
    ("gauss-newton", "form"): Where('"dual"'),
    ("gauss-newton", "greatest_damping"): Where("1e-9", ("damping=1e-10",)),
    ("gauss-newton", "least_damping"): Where("10.0", ("damping=100.0",)),
    ("mlvr", "coarse_steps"): Where("1"),
    ("mlvr", "control"): Where('"none"', ('smoother="newton"', "learning_rate=1.0")),
    ("mlvr", "cycle"): Where('"F"', ("levels=3",)),
    ("mlvr", "line_search.max_trials"): Where("1", STEEP),
    ("mlvr", "line_search.shrink"): Where("0.25", STEEP),
    ("mlvr-krylov", "cascade_steps"): Where("0"),
    ("mlvr-krylov", "cg_tolerance"): Where("0.9"),
    ("mlvr-krylov", "memory"): Where("1"),
    ("newton", "cg_tolerance"): Where("0.5"),
    ("newton", "line_search.c1"): Where("0.9"),
    ("newton", "line_search.max_trials"): Where("1", STEEP),
    ("newton", "line_search.shrink"): Where("0.25", STEEP),
    ("newton-krylov-schwarz", "accept"): Where("0.9"),
    ("newton-krylov-schwarz", "greatest_damping"): Where("1e-9", ("damping=1e-10",)),
    ("newton-krylov-schwarz", "least_damping"): Where("10.0", ("damping=100.0",)),
    ("newton-krylov-schwarz", "max_products"): Where("1"),
    ("rmtr", "cascade"): Where(CASCADE.removeprefix("cascade=")),
    ("rmtr", "cg_iterations"): Where("1", HESSIAN),
    ("rmtr", "cycle"): Where('"V"', ("levels=3",)),
    ("rmtr", "fit_samples"): Where("0", (CASCADE,)),
    ("rmtr", "kappa"): Where("0.99", DEEP),
    ("rmtr", "line_search.c1"): Where("0.45", BACKTRACKING[:1]),
    ("rmtr", "line_search.max_trials"): Where("1", BACKTRACKING),
    ("rmtr", "line_search.shrink"): Where("0.25", BACKTRACKING),
    ("spring", "longest_step"): Where("1e-3", ("learning_rate=0.5",)),
    ("torch-lbfgs", "history_size"): Where("1"),
    ("trust-region", "cg_iterations"): Where("1", HESSIAN),
    ("trust-region", "memory"): Where("1"),
    ("trust-region", "sample_size"): Where(
        "10", ('sampling="hessian"', *HESSIAN, "sample_size=20")
    ),
    ("trust-region", "trust_region.eta2"): Where(
        "0.9", ("trust_region.radius=1.0", "batch_size=10")
    ),
    ("trust-region", "trust_region.min_radius"): Where("50.0", ("trust_region.radius=100.0",)),
    ("trust-region", "window"): Where("3"),
}
WHERE |= {("mspqn", key): where for (solver, key), where in WHERE.items() if solver == "aspqn"}
# Settings that change no run by design, and why they are there.
WITHOUT_EFFECT = {
    "debug": "asserts that every step keeps its bounds",
}


def list_settings(group: type[Options], place: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted keys of a group's settings but for its name, and what they are."""
    for name, field in group.model_fields.items():
        inner = find_inner_group(field)
        if inner is not None and get_origin(field.annotation) is not list:
            yield from list_settings(inner, f"{place}{name}.")
        elif f"{place}{name}" != "name":
            yield f"{place}{name}", field


def list_others(field: Any) -> Iterator[str]:
    """Other values of a setting than its default that it may have by itself, as a job has them."""
    default = field.default
    candidates: list[Any] = []
    for kind in list_kinds(field):
        if get_origin(kind) is Literal:
            candidates += get_args(kind)
        elif kind is bool:
            candidates += [not default]
        elif kind is int:
            candidates += [3 if default is None else default + 1]
        elif kind is float:
            candidates += [0.5, 0.25] if not default else [default * 0.5, default * 2]
    check = TypeAdapter(Annotated[field.annotation, None, *field.metadata])
    for each in candidates:
        try:
            check.validate_python(each)
        except ValidationError:
            continue
        if each != default:
            yield json.dumps(each)


def case_of(solver: str, key: str, field: Any) -> Where | None:
    """Where another value is tried; None for a setting that has one value only."""
    found = WHERE.get((solver, key)) or WHERE.get(("*", key))
    return found or next((Where(value) for value in list_others(field)), None)


TRIED = {
    (solver, key): where
    for solver, each in SOLVERS.items()
    for key, field in list_settings(each.Options)
    if (where := case_of(solver, key, field)) and key not in WITHOUT_EFFECT
}


def name_fully(setting: str) -> str:
    """A setting of the solver, or one of the network that says so."""
    return setting if setting.startswith("network.") else f"solver.{setting}"


def walk(solver, settings, data) -> Iterator[str]:
    """What each step of a solver leads to under some settings."""
    (problem, network), base = CASES[solver]
    name = f'name = "{solver}"'
    text = JOB.format(problem=problem.format(data=data), network=network, solver=name)
    job = parse_job(text, "a test", [name_fully(each) for each in (*base, *settings)])
    parts = assemble.make_parts(job, Communicator(), HOST)
    method = parts.stages.make_solver(1)
    state = method.init(parts.problem.make_initial_parameters(job.seed))
    for _ in range(STEPS):
        state, record = method.step(state)
        yield str((record, state.point.theta.tolist()))


class Trace:
    """The same, walked as far as it is asked for, once."""

    def __init__(self, steps: Iterator[str]) -> None:
        self._steps, self._known = steps, list[str]()

    def __iter__(self) -> Iterator[str]:
        for place in range(STEPS):
            if place == len(self._known):
                self._known.append(next(self._steps))
            yield self._known[place]


@pytest.fixture(scope="module")
def trace(data):
    return cache(lambda solver, settings: Trace(walk(solver, settings, data)))


@pytest.mark.parametrize(
    ("solver", "key"), [pytest.param(*case, id=" ".join(case)) for case in TRIED]
)
def test_another_value_changes_a_run_or_is_refused(trace, data, solver, key):
    where = TRIED[solver, key]
    before = trace(solver, where.under)
    try:
        after = walk(solver, (*where.under, f"{key}={where.value}"), data)
        first = next(after)
    except InputError:
        return
    changes = any(one != other for one, other in zip(before, chain([first], after), strict=True))
    assert changes, f"{key}={where.value} counts nowhere under {where.under}"


def test_the_tables_name_settings_that_there_are():
    settings = {
        (solver, key) for solver, each in SOLVERS.items() for key, _ in list_settings(each.Options)
    }
    keys = {key for _, key in settings}
    assert CASES.keys() == SOLVERS.keys()
    assert {(solver, key) for solver, key in WHERE if solver != "*"} <= settings
    assert {key for solver, key in WHERE if solver == "*"} | WITHOUT_EFFECT.keys() <= keys
