"""The job file: every setting of a run, its default, its meaning and its check.

A job is a TOML file. `load_job` reads one, applies overrides such as `solver.blocks=4` and checks
everything; whatever is wrong ends in a `JobError` of one line. `resolved_toml` writes a job back,
defaults included.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import tomli_w
from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic.types import AllowInfNan
from pydantic_core import ErrorDetails, PydanticCustomError

from hpctrain.errors import InputError
from hpctrain.options import Options
from hpctrain.solvers import SolverOptions

PROBLEMS = ("burgers", "klein-gordon", "allen-cahn", "diffusion-transport")
LARGEST_SEED = 2**63 - 1


class JobError(InputError):
    """A job file, or an override of it, that cannot be run."""


class ProblemOptions(Options):
    """What is to be solved."""

    name: str = Field(description='a shipped problem, such as "burgers", or "my_pde.py:Heat"')
    points: int = Field(10_000, ge=1, description="collocation points, the samples of the loss")
    scale_distance: bool = Field(
        False, description="divide the distance function by its maximum over the domain"
    )

    @field_validator("name")
    @classmethod
    def _is_known_or_a_file(cls, name: str) -> str:
        if name not in PROBLEMS and not re.fullmatch(r".+\.py:[^\W\d]\w*", name):
            raise ValueError(f'{_one_of(PROBLEMS)}, or a class of your own as "my_pde.py:Heat"')
        return name


class NetworkOptions(Options):
    """The dense network that is trained."""

    kind: Literal["mlp", "residual"] = Field(
        "residual", description="plain, or with skip connections y + time_step * tanh(...)"
    )
    depth: int = Field(ge=2, description="number of layers: all linear maps, the output's too")
    width: int = Field(ge=1, description="neurons of a hidden layer")
    activation: Literal["tanh", "adaptive-tanh"] = Field(
        "adaptive-tanh", description="tanh(z), or tanh(10 a z) with one trainable a per layer"
    )
    time_step: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="dt, the weight of a residual layer's update"
    )


class ParallelOptions(Options):
    """How ranks and threads share the work; no setting but chunks affects the numbers."""

    transport: Literal["auto", "mpi"] = Field("auto", description="what carries the messages")
    threads: int | None = Field(
        None, ge=1, description="threads of a rank; by default cores / ranks, both of the node"
    )
    device: Literal["auto", "cpu"] = Field("auto", description="where tensors live")
    chunks: int = Field(
        64, ge=1, description="chunks of samples, the leaves of the fixed summation tree"
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
        10, ge=1, description="iterations between evaluations of the error against the reference"
    )
    iterates_every: int = Field(
        0, ge=0, description="iterations between stored copies of the parameters; 0 stores none"
    )


class StopOptions(Options):
    """When a run ends: at the first criterion that is met."""

    max_iterations: int = Field(1000, ge=1, description="outer iterations")
    max_seconds: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="wall-clock time, in seconds"
    )
    max_gradient_evaluations: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="true gradient evaluations, in units of the full network on all samples",
    )
    error: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="relative error against the reference"
    )
    gradient_norm: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Euclidean norm of the loss's gradient"
    )


class Job(Options):
    """All settings of a run."""

    seed: int = Field(0, ge=0, le=LARGEST_SEED, description="seed of everything that is random")
    precision: Literal["float64", "float32"] = Field("float64", description="of all numbers")
    problem: ProblemOptions = Field(description="what is to be solved")
    network: NetworkOptions = Field(description="the network that is trained")
    solver: SolverOptions = Field(description="the method that trains it, chosen by its name")
    parallel: ParallelOptions = Field(ParallelOptions(), description="how the work is shared")
    output: OutputOptions = Field(OutputOptions(), description="what is written")
    stop: StopOptions = Field(StopOptions(), description="when the run ends")

    @model_validator(mode="after")
    def _groups_agree(self) -> "Job":
        blocks, depth = getattr(self.solver, "blocks", 1), self.network.depth
        if blocks > depth:
            raise _disagreement(
                "solver.blocks", blocks, f"at most {depth}, the number of layers (network.depth)"
            )
        overlap = getattr(self.solver, "overlap", 0)
        if overlap >= depth:
            raise _disagreement(
                "solver.overlap",
                overlap,
                f"at most {depth - 1}, below the number of layers (network.depth)",
            )
        chunks, points = self.parallel.chunks, self.problem.points
        if chunks > points:
            raise _disagreement(
                "parallel.chunks", chunks, f"at most {points}, the number of problem.points"
            )
        return self


def load_job(path: str | PathLike[str], overrides: Sequence[str] = ()) -> Job:
    """Reads and checks a job file.

    Args:
        path: the TOML file.
        overrides: settings that replace the file's, each as "key.of.setting=value"; the value is
            TOML, or a bare word, which is taken as a string.

    Raises:
        JobError: the file cannot be read, or is not a job; the message is one line.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _job_error(f"{path}: cannot read the job file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _job_error(f"{path}: not a text in UTF-8 (byte {error.start})") from error
    return parse_job(text, str(path), overrides)


def parse_job(text: str, source: str, overrides: Sequence[str] = ()) -> Job:
    """Checks the text of a job file; `source` is how messages name it. See `load_job`."""
    try:
        settings = tomllib.loads(text)
    except ValueError as error:
        raise _job_error(f"{source}: not valid TOML: {error}") from error
    overridden = [_override(settings, override) for override in overrides]
    try:
        return Job.model_validate(settings)
    except ValidationError as error:
        # An unknown key first: a misspelt one also leaves the right one missing.
        faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    key, line = _explain(faults[0])
    origin = f"{source} with --set" if key in overridden else source
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    raise _job_error(f"{origin}: {line}{more}")


def resolved_toml(job: Job) -> str:
    """The job as TOML with every default written out; `parse_job` reads it back to an equal job."""
    return tomli_w.dumps(job.model_dump(exclude_none=True))


def _override(settings: dict[str, Any], override: str) -> str:
    """Puts "a.b=value" into nested settings, in place; returns the key, "a.b"."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(re.fullmatch(r"[\w-]+", part) for part in parts):
        raise _job_error(f"--set {override}: expected KEY=VALUE, such as solver.blocks=4")
    for depth, part in enumerate(parts[:-1], start=1):
        settings = settings.setdefault(part, {})
        if not isinstance(settings, dict):
            raise _job_error(f"--set {override}: {'.'.join(parts[:depth])} is not a table")
    settings[parts[-1]] = _toml_value(text.strip())
    return ".".join(parts)


def _toml_value(text: str) -> Any:
    """The value that a TOML text stands for; a text that is not TOML stands for itself."""
    try:
        document = tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    return document["value"] if len(document) == 1 else text


def _explain(fault: ErrorDetails) -> tuple[str, str]:
    """The dotted key at fault, and a line that says what was given and what is allowed."""
    kind, given, context = fault["type"], fault["input"], fault.get("ctx", {})
    if kind == "disagreement":
        return context["key"], fault["msg"]
    keys, group, field = _locate(Job, fault["loc"])
    key = ".".join(keys)
    if field is None:
        return key, _unknown(key, keys[-1], list(group.model_fields))
    allowed = str(context["error"]) if kind == "value_error" else _allowed(field)
    if kind.startswith("union_tag"):
        key, given = f"{key}.{field.discriminator}", given.get(field.discriminator)
        allowed = _one_of(_variants(field))
    if kind in ("missing", "union_tag_not_found"):
        return key, f"{key} is missing: {allowed}"
    if kind == "value_error" and isinstance(given, dict):
        return key, f"{key} is not allowed: {allowed}"
    return key, f"{key} = {_shown(given)} is not allowed: {allowed}"


def _locate(
    group: type[Options], location: Sequence[str | int]
) -> tuple[list[str], type[Options], FieldInfo | None]:
    """Follows the place of a fault from a group inwards.

    Returns:
        the keys that lead to the setting (without the tags of solvers, which pydantic adds), the
        group that it belongs to, and the setting itself, None for one that the group lacks.
    """
    key, *rest = location
    field = group.model_fields.get(str(key))
    if field is not None and rest:
        if field.discriminator:
            inner, rest = _variants(field).get(str(rest[0])), rest[1:]
        else:
            inner = next((kind for kind in _kinds(field) if _is_group(kind)), None)
        if inner is not None and rest:
            keys, owner, setting = _locate(inner, rest)
            return [str(key), *keys], owner, setting
    return [_shown_key(str(key))], group, field


def _unknown(key: str, name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"unknown key {key}; allowed: {', '.join(known)}{hint}"


def _allowed(field: FieldInfo) -> str:
    """What a setting may be, such as "an integer, at least 1"."""
    if field.discriminator:
        return f"a table with {field.discriminator}, {_one_of(_variants(field))}"
    kinds = " or ".join(_described(kind) for kind in _kinds(field))
    bounds = " and ".join(filter(None, map(_bound, field.metadata)))
    return f"{kinds}, {bounds}" if bounds else kinds


def _described(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return _one_of(get_args(kind))
    if _is_group(kind):
        return f"a table with {', '.join(kind.model_fields)}"
    names = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}
    return names.get(kind, str(kind))


def _bound(constraint: Any) -> str:
    match constraint:
        case Ge(ge=bound):
            return f"at least {bound}"
        case Gt(gt=bound):
            return f"above {bound}"
        case Le(le=bound):
            return f"at most {bound}"
        case Lt(lt=bound):
            return f"below {bound}"
        case AllowInfNan(allow_inf_nan=False):
            return "finite"
        case MinLen():
            return "not empty"
    return ""


def _kinds(field: FieldInfo) -> list[Any]:
    """The types that a setting may have; None, which TOML cannot write, left out."""
    annotation = field.annotation
    if get_origin(annotation) is Literal or not get_args(annotation):
        return [annotation]
    return [kind for kind in get_args(annotation) if kind is not NoneType]


def _variants(field: FieldInfo) -> dict[str, type[Options]]:
    """The groups among which a setting chooses by a tag (such as the solvers), by their tags."""
    groups = get_args(field.annotation)
    tags = {group: group.model_fields[field.discriminator].annotation for group in groups}
    return {tag: group for group in groups for tag in get_args(tags[group])}


def _is_group(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Options)


def _one_of(names: Iterable[Any]) -> str:
    return f"one of {', '.join(map(_shown, names))}"


def _shown(value: Any) -> str:
    """A value on one line, much as TOML writes it, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _shown_key(key: str) -> str:
    return key if re.fullmatch(r"[\w-]+", key) else _shown(key)


def _disagreement(key: str, value: int, allowed: str) -> PydanticCustomError:
    message = "{key} = {value} is not allowed: {allowed}"
    return PydanticCustomError(
        "disagreement", message, {"key": key, "value": value, "allowed": allowed}
    )


def _job_error(message: str) -> JobError:
    return JobError(" ".join(message.splitlines()))
