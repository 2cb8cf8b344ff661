"""Python files of the user that a job names as "file.py:Class", whose code hpctrain runs.

A run file has their digests. When a run is resumed or evaluated, hpctrain says which files it will
run, and refuses one that has changed, unless the user asks for it. A digest is of the named file
only, not of what it imports. A class that was given in Python has no digest, only its name.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpctrain.errors import InputError
from hpctrain.job.overrides import Override, find_setting
from hpctrain.job.settings import Job
from hpctrain.job.stages import name_stages
from hpctrain.options import OWN_CLASS, GivenClass

# Letters of a digest that messages show.
SHOWN = 12
ALLOW = "--changed-code"
ANNOUNCED = "runs code of"


@dataclass(frozen=True)
class OwnFile:
    """A Python file that a job names.

    Attributes:
        key: the setting that names it.
        name: as the job has it.
        sha256: the digest of its bytes; None where it cannot be read.
    """

    key: str
    name: str
    sha256: str | None


def list_own_files(job: Job) -> list[OwnFile]:
    """Lists the files that a job names, each once, without importing them."""
    found = dict[str, OwnFile]()
    for key, value in _list_choices(job):
        if re.fullmatch(OWN_CLASS, value):
            name = value.rpartition(":")[0]
            found.setdefault(name, OwnFile(key, name, _compute_digest(Path(name))))
    return list(found.values())


def list_given_classes(job: Job) -> dict[str, type]:
    """Lists the classes that Python gave to a job, by the settings that name them."""
    return {key: name.given for key, name in _list_choices(job) if isinstance(name, GivenClass)}


def is_given_again(job: str, override: Override) -> bool:
    """Whether an override gives again the class that Python gave to a job.

    Args:
        job: its text in a run file, which has the name of the class only.
        override: a setting.
    """
    if not isinstance(override.value, GivenClass):
        return False
    return find_setting(tomllib.loads(job), override.key) == override.value


def write_digests(files: Sequence[OwnFile]) -> str:
    """Writes the digests by name as a text, which a run file keeps."""
    return json.dumps({file.name: file.sha256 for file in files})


def check_unchanged(files: Sequence[OwnFile], kept: str, run_file: Path) -> None:
    """Checks that files are the same as when a run was made.

    Args:
        files: as they are now.
        kept: the digests in the run file, as `write_digests` wrote them.
        run_file: its path, for messages.

    Raises:
        InputError: a file differs, is not there, or cannot be read.
    """
    known = _read_digests(kept)
    for file in files:
        before, now = known.get(file.name), file.sha256
        if now is None:
            why = "cannot be read" if Path(file.name).exists() else "is not there"
            raise InputError(
                f"{run_file}: {file.key} names {file.name}, which {why}: put the file back that the"
                " run was made with"
            )
        if before is None or before != now:
            raise InputError(
                f"{run_file}: {file.key} names {file.name}, which is not the file that the run was"
                f" made with (SHA-256 {now[:SHOWN]}, then {_show(before)}): put that one back, or"
                f" say {ALLOW}"
            )


def announce(files: Sequence[OwnFile]) -> None:
    """Prints a line for each file before it is run, unless the output goes nowhere."""
    with suppress(OSError):
        for file in files:
            if file.sha256 is not None:
                print(f"{ANNOUNCED} {Path(file.name).resolve()} ({file.key})", flush=True)


def _list_choices(job: Job) -> Iterator[tuple[str, str]]:
    yield "problem.name", job.problem.name
    yield "network.kind", job.network.kind
    for key, stage in name_stages(job.solver):
        yield f"{key}.name", stage.name


def _compute_digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _read_digests(kept: str) -> dict[str, str]:
    """Reads the digests; none where the text is not what `write_digests` wrote."""
    try:
        known = json.loads(kept)
    except ValueError:
        return {}
    return known if isinstance(known, dict) else {}


def _show(digest: object) -> str:
    return str(digest)[:SHOWN] if digest else "unknown"
