"""Why a run ends: one table of criteria and of what else ends a run, by weight.

From the row of a criterion follow its setting in `[stop]` and in a stage's `stop`, the reason that
a run file gives, the problems that it is refused for (those whose monitor has no such column), and
the marks of tables and figures. To add a criterion is to add its row; to measure what no problem
measures yet, a column of a problem's monitor too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model

from hpctrain.options import Options

# The exit status of a run that was stopped before its end, with a checkpoint written.
TO_BE_RESUMED = 75
FAILED = 1
POSITIVE: Mapping[str, Any] = {"gt": 0, "allow_inf_nan": False}
DECADES = tuple(10.0**-power for power in range(1, 9))
SHARES = (0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99)


@dataclass(frozen=True)
class Reason:
    """A cause that ends a run, other than the job's criteria.

    Attributes:
        text: the reason in words.
        status: the exit status.
    """

    text: str
    status: int = 0


@dataclass(frozen=True)
class Shown:
    """How tables and figures show a measure of θ.

    Attributes:
        name: in tables.
        axis: on an axis.
        marks: values for which tables say when they were reached, besides those of the job.
    """

    name: str
    axis: str
    marks: tuple[float, ...]


@dataclass(frozen=True)
class Criterion:
    """Ends a run when a quantity is as good as the job asks for.

    Attributes:
        key: the setting in `[stop]`.
        about: what it is, for users.
        quantity: a number that the loop counts, or a column of a problem's monitor.
        check: which values are allowed, as arguments of pydantic's `Field`.
        kind: the type of the setting.
        default: the value where the job says nothing; None for no such criterion.
        rises: whether it is met at and above the setting, rather than at and below.
        shown: how tables and figures show it, if it measures θ.
        status: the exit status.
    """

    key: str
    about: str
    quantity: str
    check: Mapping[str, Any] = field(default_factory=lambda: POSITIVE)
    kind: type = float
    default: int | None = None
    rises: bool = False
    shown: Shown | None = None
    status: int = 0

    @property
    def text(self) -> str:
        """The reason in words."""
        return f"stop.{self.key} reached"

    @property
    def out_of_reach(self) -> float:
        """An allowed value that hardly any run reaches."""
        if self.rises:
            return self.kind(self.check.get("le", 1e15))
        return self.check.get("ge", 1e-300)

    def is_met(self, asked: float, value: float) -> bool:
        """Whether a value is as good as `asked`, or better; NaN is not."""
        return value >= asked if self.rises else value <= asked


RUNNING = Reason("running")
STALLED = Reason("the solver has nothing left to try")
ZERO_GRADIENT = Reason("the gradient is zero")
CALLBACK = Reason("stopped by a callback")
SIGNAL = Reason("stopped by a signal", TO_BE_RESUMED)
NON_FINITE = Reason("the loss is not finite", FAILED)
OUTPUT_FAILED = Reason("the run file cannot be written", FAILED)

# By weight: where ranks or criteria differ, the last wins.
REASONS: tuple[Reason | Criterion, ...] = (
    RUNNING,
    Criterion(
        "max_iterations",
        "outer iterations",
        "iteration",
        {"ge": 1},
        kind=int,
        default=1000,
        rises=True,
    ),
    Criterion(
        "max_gradient_evaluations",
        "true gradient evaluations, in units of the full network on all samples",
        "gradient_evaluations",
        rises=True,
    ),
    Criterion(
        "stagnation",
        "iterations of a stage, one after the other, in which its loss has not been halved",
        "stagnant_iterations",
        {"ge": 1},
        kind=int,
        rises=True,
    ),
    STALLED,
    Criterion(
        "gradient_norm",
        "Euclidean norm of the loss's gradient",
        "gradient_norm",
        {"ge": 0, "allow_inf_nan": False},
    ),
    ZERO_GRADIENT,
    Criterion("loss", "the loss, of all samples", "loss"),
    Criterion(
        "error",
        "relative error against the reference",
        "error",
        shown=Shown("error", "relative error", DECADES),
    ),
    Criterion(
        "test_accuracy",
        "share of the test samples that are classified rightly",
        "test_accuracy",
        {"gt": 0, "le": 1},
        rises=True,
        shown=Shown("test accuracy", "test accuracy", SHARES),
    ),
    Criterion(
        "suboptimality",
        "L - L* of logistic regression",
        "suboptimality",
        shown=Shown("suboptimality", "L - L*", DECADES),
    ),
    CALLBACK,
    Criterion(
        "max_seconds",
        "wall-clock time since the run was started or resumed, in seconds",
        "elapsed_seconds",
        rises=True,
        status=TO_BE_RESUMED,
    ),
    SIGNAL,
    NON_FINITE,
    OUTPUT_FAILED,
)


def list_criteria() -> list[Criterion]:
    """Lists the criteria of the table, the weightiest first."""
    return [each for each in REASONS if isinstance(each, Criterion)]


def find_criterion(key: str) -> Criterion:
    """Finds the criterion of a key."""
    return next(each for each in list_criteria() if each.key == key)


def list_measures(columns: Iterable[str]) -> list[Criterion]:
    """Lists the criteria whose quantity is one of these columns of a monitor."""
    known = set(columns)
    return [each for each in list_criteria() if each.shown and each.quantity in known]


# A criterion, and the value that a job gives it.
Asked = tuple[Criterion, float]


def list_asked(stop: Any) -> list[Asked]:
    """Lists the criteria that the `stop` of a job or a stage sets, with their values."""
    if stop is None:
        return []
    settings = ((each, getattr(stop, each.key)) for each in list_criteria())
    return [(each, value) for each, value in settings if value is not None]


def make_options(name: str, about: str, defaults: bool) -> type[Options]:
    """Makes a group of settings with one for each criterion of the table.

    Args:
        name: of the group.
        about: what it is, for users.
        defaults: whether criteria have defaults where the job says nothing.
    """
    fields: dict[str, Any] = {}
    for each in list_criteria():
        default = each.default if defaults else None
        kind = each.kind if default is not None else each.kind | None
        fields[each.key] = (kind, Field(default, description=each.about, **each.check))
    return create_model(name, __base__=Options, __doc__=about, **fields)


if TYPE_CHECKING:
    StopOptions = Any
    StageStopOptions = Any
else:
    StopOptions = make_options(
        "StopOptions", "When a run ends: at the first criterion that is met.", defaults=True
    )
    StageStopOptions = make_options(
        "StageStopOptions", "When a stage ends: at the first criterion that is met.", defaults=False
    )
