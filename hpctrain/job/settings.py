"""The job file: every setting of a run, its default, its meaning and its check.

A job is a TOML file, or its tables in Python. `load_job` reads one, applies overrides such as
`solver.blocks=4` and checks everything, as `make_job` does with tables; whatever is wrong ends in a
`JobError` of one line. `write_toml` writes a job back, defaults included.
"""

import os
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import tomli_w
from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from hpctrain.errors import JobError
from hpctrain.job.groups import (
    describe_allowed,
    describe_choice,
    describe_names,
    find_chosen_name,
    find_deciding_key,
    find_inner_group,
    is_choice,
    list_named_groups,
    list_variants,
    show,
)
from hpctrain.job.overrides import Overrides, apply_overrides, read_overrides
from hpctrain.job.plain import make_plain
from hpctrain.job.stages import StageOptions, list_tables, name_stages
from hpctrain.job.stop import StopOptions, list_asked, list_measures
from hpctrain.networks.kinds import NETWORKS, NetworkOptions
from hpctrain.networks.kinds.dense import DenseOptions
from hpctrain.networks.kinds.none import NoNetworkOptions
from hpctrain.networks.kinds.own import OwnNetworkOptions
from hpctrain.options import Options, suggest
from hpctrain.parallel.threads import MOST_THREADS
from hpctrain.parallel.transports.choice import OFFERS
from hpctrain.problems.base import FamilyOptions
from hpctrain.problems.options import PROBLEMS, ProblemOptions
from hpctrain.solvers import SOLVERS

LARGEST_SEED = 2**63 - 1

if TYPE_CHECKING:
    TransportName = str
else:
    TransportName = Literal["auto", *OFFERS]


class ParallelOptions(Options):
    """How ranks and threads share the work; only chunks and device affect the numbers."""

    transport: TransportName = Field("auto", description="what carries tensors from rank to rank")
    threads: int | None = Field(
        None,
        ge=1,
        le=MOST_THREADS,
        description="threads of a rank; by default cores / ranks, both of the node",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where tensors live: the CPU, or a GPU for each rank"
    )
    chunks: int = Field(
        64,
        ge=1,
        description="chunks of samples, at most as many as samples: the leaves of the fixed"
        " summation tree",
    )

    @field_validator("chunks")
    @classmethod
    def _is_a_power_of_two(cls, chunks: int) -> int:
        if chunks & (chunks - 1):
            raise ValueError("a power of two")
        return chunks


class OutputOptions(Options):
    """What a run writes, and how often."""

    path: str | None = Field(None, min_length=1, description="the run file (HDF5)")
    checkpoint_every: int = Field(
        500, ge=0, description="iterations between checkpoints; 0 writes one at the end only"
    )
    error_every: int = Field(
        10, ge=1, description="iterations between evaluations of the error or the test accuracy"
    )
    iterates_every: int = Field(
        0, ge=0, description="iterations between stored copies of the parameters; 0 stores none"
    )
    tensorboard: str | None = Field(
        None,
        min_length=1,
        description="a folder for event files of TensorBoard, in which each run has one of its own",
    )


class Job(Options):
    """All settings of a run."""

    seed: int = Field(0, ge=0, le=LARGEST_SEED, description="seed of everything that is random")
    precision: Literal["float64", "float32"] = Field("float64", description="of all numbers")
    start: str | None = Field(
        None, min_length=1, description="a run file whose final parameters this run begins from"
    )
    problem: ProblemOptions = Field(description="what is to be solved")
    network: NetworkOptions = Field(NoNetworkOptions(), description="what is trained")
    solver: list[StageOptions] = Field(
        min_length=1, description="the methods that train it, each chosen by its name: the stages"
    )
    parallel: ParallelOptions = Field(ParallelOptions(), description="how the work is shared")
    output: OutputOptions = Field(OutputOptions(), description="what is written")
    stop: StopOptions = Field(StopOptions(), description="when the run ends")

    @property
    def device(self) -> str:
        """Its `parallel.device`, where "auto" becomes "cpu" for a loss that has no other place."""
        if self.parallel.device == "auto" and self.problem.evaluates_on_cpu:
            return "cpu"
        return self.parallel.device

    @property
    def solver_name(self) -> str:
        """The names of its solvers, such as "adam + lbfgs"."""
        return " + ".join(stage.name for stage in self.solver)

    @field_validator("solver", mode="before")
    @classmethod
    def _list_stages(cls, given: Any) -> Any:
        return list_tables(given)

    @field_serializer("solver", mode="wrap")
    def _write_single_stage(self, stages: Any, write: SerializerFunctionWrapHandler) -> Any:
        written = write(stages)
        return written[0] if len(written) == 1 else written

    @model_validator(mode="before")
    @classmethod
    def _takes_kind(cls, given: Any) -> Any:
        """Refuses a kind of network that the problem does not take, whatever else it lacks."""
        match given:
            case {"problem": {"name": str(name)} as problem, "network": dict(network)}:
                family = PROBLEMS.tags.get(PROBLEMS.find_tag(problem) or "", Options)
                group = NETWORKS.tags.get(NETWORKS.find_tag(network) or "", NoNetworkOptions)
                if issubclass(family, FamilyOptions) and group is not NoNetworkOptions:
                    _check_kind(family.networks, group, network.get("kind"), name)
        return given

    @model_validator(mode="after")
    def _groups_agree(self) -> "Job":
        self._check_network()
        self._check_measures("stop", self.stop)
        for key, stage in name_stages(self.solver):
            self._check_measures(f"{key}.stop", stage.stop)
            if isinstance(self.network, DenseOptions):
                self._check_blocks(key, stage, self.network.depth)
        self._check_windows()
        return self

    def _check_windows(self) -> None:
        (key, last), windows = [*name_stages(self.solver)][-1], self.problem.windows
        if windows > 1 and not list_asked(last.stop):
            raise _make_missing(f"{key}.stop", f"when each of the {windows} windows ends")

    def _check_network(self) -> None:
        kinds = self.problem.networks
        if isinstance(self.network, NoNetworkOptions) and NoNetworkOptions not in kinds:
            raise _make_missing("network", f"a table with kind, {_describe_networks(kinds)}")
        _check_kind(kinds, type(self.network), self.network.kind, self.problem.name)

    def _check_measures(self, place: str, stop: Any) -> None:
        measured = list_measures(self.problem.columns)
        for criterion, value in list_asked(stop):
            if criterion.shown and criterion not in measured:
                known = " or ".join(f"{place}.{each.key}" for each in measured)
                name = show(self.problem.name)
                allowed = f"not measured for problem.name = {name}, which has {known or 'none'}"
                raise _make_disagreement(f"{place}.{criterion.key}", value, allowed)

    def _check_blocks(self, place: str, stage: Any, layers: int) -> None:
        shipped = SOLVERS.get(stage.name)
        excess = shipped.find_excess(stage, layers) if shipped else None
        if excess is not None:
            raise _make_disagreement(f"{place}.{excess.key}", excess.given, excess.allowed)


def load_job(path: str | PathLike[str], overrides: Overrides = ()) -> Job:
    """Reads and checks a job file.

    Args:
        path: the TOML file.
        overrides: settings that replace the file's, see `overrides.Overrides`.

    Raises:
        JobError: the file cannot be read, or is not a job; the message is one line.
    """
    return parse_job(read_text(path), str(path), overrides)


def read_text(path: str | PathLike[str]) -> str:
    """Reads the text of a job file.

    Raises:
        JobError: it cannot be read.
    """
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise JobError(f"{path}: cannot read the job file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise JobError(f"{path}: not a text in UTF-8 (byte {error.start})") from error


def parse_job(text: str, source: str, overrides: Overrides = ()) -> Job:
    """Checks the text of a job file; `source` is how messages name it. See `load_job`."""
    try:
        settings = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise JobError(f"{source}: not valid TOML: {error}") from error
    return make_job(settings, source, overrides)


def make_job(tables: Mapping[str, Any], source: str, overrides: Overrides = ()) -> Job:
    """Checks the tables of a job.

    Args:
        tables: as `tomllib` gives them, or in Python's or NumPy's types; left as they are.
        source: how messages name them.
        overrides: see `overrides.Overrides`.

    Raises:
        JobError: they are no job; the message is one line.
    """
    settings = make_plain(tables)
    overridden = apply_overrides(settings, read_overrides(overrides), Job)
    _check_letters(settings, source)
    try:
        return Job.model_validate(settings)
    except ValidationError as error:
        key, line = _find_first_fault(error, Job, "", settings)
    option = "set=" if isinstance(overrides, Mapping) else "--set"
    is_overridden = any(f"{key}.".startswith(f"{each}.") for each in overridden)
    origin = f"{source} with {option}" if is_overridden else source
    raise JobError(f"{origin}: {line}")


def explain_fault(error: ValidationError, group: type[Options], place: str) -> str:
    """Explains the fault of a group in a line: which setting, what was given, and what is allowed.

    Args:
        error: the fault.
        group: the group that was checked.
        place: its name in a job file, such as "solver".
    """
    return _find_first_fault(error, group, place, {})[1]


def _find_first_fault(
    error: ValidationError, group: type[Options], place: str, settings: Mapping[str, Any]
) -> tuple[str, str]:
    """Returns the key of the first fault and the line that explains it.

    Of several faults it is the one that explains the others.
    """
    # An unknown key first: a misspelt one also leaves the right one missing.
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    key, line = _explain(faults[0], group, place, settings)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return key, f"{line}{more}"


def write_toml(job: Job) -> str:
    """Writes the job as TOML with every default; `parse_job` reads it back to an equal job."""
    return tomli_w.dumps(job.model_dump(exclude_none=True))


def _check_letters(value: Any, source: str, key: str = "") -> None:
    """Raises a JobError for a text with letters that names of files cannot have on this system."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_letters(inner, source, f"{key}.{name}" if key else name)
    elif isinstance(value, str):
        try:
            value.encode(), os.fsencode(value)
        except UnicodeEncodeError as error:
            encoding = sys.getfilesystemencoding()
            raise JobError(
                f"{source}: {key} = {value!a} is not allowed: a text in the encoding of file"
                f" names here, {encoding} (LC_ALL=C.UTF-8 makes it utf-8)"
            ) from error


def _explain(
    fault: ErrorDetails, root: type[Options], place: str, settings: Mapping[str, Any]
) -> tuple[str, str]:
    """Returns the key of a fault, and the line that explains it."""
    kind, given, context = fault["type"], fault["input"], fault.get("ctx", {})
    if kind == "disagreement":
        return context["key"], fault["msg"]
    keys, group, field = _locate(root, _leave_out_only_number(fault["loc"], settings))
    keys = [*filter(None, [place]), *keys]
    key = ".".join(keys)
    if field is None:
        return key, _explain_unknown(keys, list(group.model_fields), settings)
    allowed = str(context["error"]) if kind == "value_error" else describe_allowed(field)
    if kind.startswith("union_tag") and isinstance(given, dict):
        name = find_deciding_key(field)
        key, given = f"{key}.{name}", given.get(name)
        allowed = describe_names(field) + suggest(given, list_named_groups(field))
    if kind == "missing" or (kind.startswith("union_tag") and given is None):
        return key, f"{key} is missing: {allowed}"
    if kind == "value_error" and isinstance(given, dict):
        return key, f"{key} is not allowed: {allowed}"
    return key, f"{key} = {show(given)} is not allowed: {allowed}"


def _locate(
    group: type[Options], location: Sequence[str | int]
) -> tuple[list[str], type[Options], FieldInfo | None]:
    """Follows the place of a fault from a group inwards.

    Returns:
        The keys that lead to the setting, without the tags of solvers that pydantic adds; the group
        to which the setting belongs; and the setting, or None where the group does not have it.
    """
    key, *rest = location
    field = group.model_fields.get(str(key))
    if field is not None and rest:
        number, rest = _split_leading_number(rest)
        keys = [str(key), *number]
        if is_choice(field):
            inner, rest = list_variants(field).get(str(rest[0])) if rest else None, rest[1:]
            if not rest:
                return keys, group, field
        else:
            inner = find_inner_group(field)
        if inner is not None and rest:
            inner_keys, owner, setting = _locate(inner, rest)
            return [*keys, *inner_keys], owner, setting
        if rest and get_origin(field.annotation) is dict:
            value = FieldInfo.from_annotation(get_args(field.annotation)[1])
            return [str(key), _show_key(str(rest[0]))], group, value
    return [_show_key(str(key))], group, field


def _leave_out_only_number(
    location: Sequence[str | int], settings: Mapping[str, Any]
) -> Sequence[str | int]:
    """Removes from the place of a fault the number of a single table that stands for a list."""
    first, *rest = location
    is_number = bool(rest) and isinstance(rest[0], int)
    if is_number and not isinstance(settings.get(str(first)), list):
        return [first, *rest[1:]]
    return location


def _split_leading_number(location: list[str | int]) -> tuple[list[str], list[str | int]]:
    """Splits off the number, from 1, with which the place of a fault in a list begins."""
    if location and isinstance(location[0], int):
        return [str(location[0] + 1)], location[1:]
    return [], location


def _explain_unknown(keys: list[str], known: list[str], settings: Mapping[str, Any]) -> str:
    key, allowed = ".".join(keys), f"allowed: {', '.join(known)}{suggest(keys[-1], known)}"
    field, table = Job.model_fields.get(keys[0]), settings.get(keys[0])
    if isinstance(table, list) and len(keys) == 3:
        table, keys = table[int(keys[1]) - 1], [keys[0], keys[2]]
    if field is not None and is_choice(field) and len(keys) == 2 and table is not None:
        groups = list_named_groups(field).items()
        owners = [name for name, group in groups if keys[1] in group.model_fields]
        chosen = find_chosen_name(field, table)
        if owners:
            return f"{key} is a setting of {', '.join(owners)}, not of {chosen}; {allowed}"
    return f"unknown key {key}; {allowed}"


def _show_key(key: str) -> str:
    return key if re.fullmatch(r"[\w-]+", key) else show(key)


def _describe_networks(kinds: tuple[type[Options], ...]) -> str:
    own = f", {NETWORKS.example}" if OwnNetworkOptions in kinds else ""
    return f"{describe_choice(NETWORKS.list_names(kinds))}{own}"


def _check_kind(
    kinds: tuple[type[Options], ...], group: type[Options], kind: str | None, problem: str
) -> None:
    """Refuses a group of networks, chosen by its kind, that is none of a problem's."""
    if group in kinds:
        return
    allowed = f"{_describe_networks(kinds)} for problem.name = {show(problem)}"
    if kind is None:
        raise _make_missing("network.kind", allowed)
    raise _make_disagreement("network.kind", kind, allowed)


def _make_disagreement(key: str, value: Any, allowed: str) -> PydanticCustomError:
    message = "{key} = {value} is not allowed: {allowed}"
    return PydanticCustomError(
        "disagreement", message, {"key": key, "value": show(value), "allowed": allowed}
    )


def _make_missing(key: str, allowed: str) -> PydanticCustomError:
    message = "{key} is missing: {allowed}"
    return PydanticCustomError("disagreement", message, {"key": key, "allowed": allowed})
