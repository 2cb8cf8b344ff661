"""Which settings a run keeps when it goes on: all that its numbers depend on."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from hpctrain.job.overrides import Override
from hpctrain.job.own_code import is_given_again
from hpctrain.job.settings import Job

CHANGEABLE = ("stop.", "output.", "parallel.threads", "parallel.transport")
FIXED = ("output.path",)
ALLOWED = "stop.…, output.… (but not output.path), parallel.threads and parallel.transport"


def is_allowed(job: str, override: Override) -> bool:
    """Whether an override may change the job of a run that goes on.

    Args:
        job: the text of the job in the run file.
        override: a setting; a class that Python gave to the job must be given again.
    """
    is_changeable = override.key.startswith(CHANGEABLE) and override.key not in FIXED
    return is_changeable or is_given_again(job, override)


def list_kept(job: Job) -> dict[str, Any]:
    """Lists the settings that cannot change when a run goes on, by their keys; values are JSON."""
    leaves = _list_leaves(job.model_dump(mode="json"), "")
    return {key: value for key, value in leaves if not key.startswith(CHANGEABLE)}


def list_changes(kept: Mapping[str, Any], job: Job) -> list[str]:
    """What a job has otherwise than the run that it goes on with, a phrase each.

    Args:
        kept: the `list_kept` of the run.
    """
    now = list_kept(job)
    changed = [key for key in kept if key not in now or now[key] != kept[key]]
    return [f"{key} = {_show(now, key)}, not {_show(kept, key)}" for key in changed]


def list_added(kept: Mapping[str, Any], job: Job) -> list[str]:
    """Settings that the hpctrain which began the run did not have yet, with their defaults."""
    now = list_kept(job)
    return [f"{key} = {_show(now, key)}" for key in now if key not in kept]


def _list_leaves(content: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Settings by their keys; tables in lists by the names of the lists and their numbers."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _list_leaves(value, f"{key}.{name}" if key else name)
    elif isinstance(content, list) and any(isinstance(each, dict) for each in content):
        for number, value in enumerate(content):
            yield from _list_leaves(value, f"{key}.{number}")
    else:
        yield key, content


def _show(settings: Mapping[str, Any], key: str) -> str:
    return json.dumps(settings[key]) if key in settings else "nothing"
