"""Python files of the user's own that a job names as "file.py:Class": code that runs as the user.

A run file keeps their digests. Whoever goes on with a run, or evaluates it, is told which files are
run before they are, and a file that has changed is refused unless that is asked for. A digest is of
the named file alone, not of what it imports.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpctrain.errors import InputError
from hpctrain.job.settings import Job
from hpctrain.job.stages import name_stages
from hpctrain.options import OWN_CLASS

# Letters of a digest that messages show.
SHOWN = 12
ALLOW = "--changed-code"
ANNOUNCED = "runs code of"


@dataclass(frozen=True)
class OwnFile:
    """A file that a job names.

    Attributes:
        key: of the setting that names it.
        name: as the job has it.
        sha256: digest of its bytes; None where it cannot be read.
    """

    key: str
    name: str
    sha256: str | None


def list_own_files(job: Job) -> list[OwnFile]:
    """The files that a job names, each once; imports none of them."""
    found = dict[str, OwnFile]()
    for key, value in _list_choices(job):
        if re.fullmatch(OWN_CLASS, value):
            name = value.rpartition(":")[0]
            found.setdefault(name, OwnFile(key, name, _compute_digest(Path(name))))
    return list(found.values())


def write_digests(files: Sequence[OwnFile]) -> str:
    """The digests by name, as a run file keeps them."""
    return json.dumps({file.name: file.sha256 for file in files})


def check_unchanged(files: Sequence[OwnFile], kept: str, run_file: Path) -> None:
    """Whether files are those that a run was made with.

    Args:
        files: as they are now.
        kept: the digests that the run file has, as `write_digests` gives them.
        run_file: for messages.

    Raises:
        InputError: one is another, or cannot be read.
    """
    known = _read_digests(kept)
    for file in files:
        before, now = known.get(file.name), file.sha256
        if before is None or before != now:
            raise InputError(
                f"{run_file}: {file.key} names {file.name}, which is not the file that the run was"
                f" made with (SHA-256 {_show(now)}, then {_show(before)}): put that one back, or"
                f" say {ALLOW}"
            )


def announce(files: Sequence[OwnFile]) -> None:
    """Prints a line for each file, before it is run; says nothing where nobody reads."""
    with suppress(OSError):
        for file in files:
            if file.sha256 is not None:
                print(f"{ANNOUNCED} {Path(file.name).resolve()} ({file.key})", flush=True)


def _list_choices(job: Job) -> Iterator[tuple[str, str]]:
    yield "problem.name", job.problem.name
    yield "network.kind", str(getattr(job.network, "kind", ""))
    for key, stage in name_stages(job.solver):
        yield f"{key}.name", stage.name


def _compute_digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _read_digests(kept: str) -> dict[str, str]:
    """Nothing is known where the text is not what `write_digests` gives."""
    try:
        known = json.loads(kept)
    except ValueError:
        return {}
    return known if isinstance(known, dict) else {}


def _show(digest: object) -> str:
    return str(digest)[:SHOWN] if digest else "unknown"
