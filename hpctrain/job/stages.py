"""The tables of `[solver]` in a job file: the stages of a run, one after the other.

A table has the settings of a solver, and may have a table `stop` of criteria that end its stage. A
job with one stage writes `[solver]`, one with several a list of tables, `[[solver]]`.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Field, create_model

from hpctrain.job.stop import StageStopOptions
from hpctrain.options import Choice, Options
from hpctrain.solvers import CHOICE


@cache
def _add_stop(group: type[Options]) -> type[Options]:
    """Adds to the settings of a solver those of when its stage ends."""
    field = Field(None, description="when its stage ends")
    added: dict[str, Any] = {"stop": (StageStopOptions | None, field)}
    return create_model(group.__name__, __base__=group, __doc__=group.__doc__, **added)


STAGES = Choice(
    key=CHOICE.key,
    groups={name: _add_stop(group) for name, group in CHOICE.groups.items()},
    own=_add_stop(CHOICE.own),
    example=CHOICE.example,
)

# Where pickle looks for a class, as a job goes from rank 0 to the others.
globals().update(STAGES.tags)

# The settings of a stage in a job file: those of the solver with its name, and `stop`.
if TYPE_CHECKING:
    StageOptions = Any
else:
    StageOptions = Annotated[STAGES.union, Discriminator(STAGES.find_tag)]


def list_tables(given: Any) -> Any:
    """Returns what a job has for `solver` as a list; a single table becomes a list of one."""
    if isinstance(given, dict | Options):
        given = [given]
    if not isinstance(given, list):
        return given
    return [each.model_dump() if isinstance(each, Options) else each for each in given]


def name_stages(stages: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Yields each stage with its name in messages, such as "solver" or "solver.2"."""
    for number, stage in enumerate(stages, start=1):
        yield (f"solver.{number}" if len(stages) > 1 else "solver"), stage
