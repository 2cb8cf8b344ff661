"""Where a run is written: over nothing that exists, and over no other run."""

import itertools
import secrets
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hpctrain.errors import InputError
from hpctrain.parallel.communicator import Communicator
from hpctrain.store.claim import Claim, InUseError
from hpctrain.store.files import name_checkpoint_folder
from hpctrain.store.run_file import holds_no_record

ENDING = ".h5"


class TakenError(InputError):
    """Something stands where a run would write."""


@dataclass(frozen=True)
class Output:
    """Where a run is written: its file, None for none, and on rank 0 the lock to write it with.

    Attributes:
        identity: tells the run from all others, on all ranks; that of one that goes on is in its
            file.
    """

    path: Path | None
    claim: Claim | None
    identity: str


@contextmanager
def hold_claim(
    communicator: Communicator, claim_file: Callable[[], Claim | None]
) -> Iterator[Output]:
    """Holds the run file that `claim_file` locks on rank 0 until the end; collective.

    Raises:
        InputError: the run file is in use, exists, or cannot be made.
    """
    held: list[Claim] = []

    def find() -> tuple[Path | None, str]:
        claim = claim_file()
        if claim is not None:
            held.append(claim)
        return claim.path if claim else None, secrets.token_hex(16)

    path, identity = communicator.run_on_root(find)
    try:
        yield Output(path, held[0] if held else None, identity)
    finally:
        for claim in held:
            claim.release()


def claim_new_file(default: str | None, output: str | None) -> Claim | None:
    """Locks the run file of a new run; None where none is written.

    Args:
        default: the job's `output.path`, which is numbered if it exists.
        output: the file that is asked for instead, if any.

    Raises:
        InputError: the file is in use, exists, cannot be made, or has another ending.
    """
    if output is not None and output != default:
        return _claim(Path(output), f"-o {output}")
    if default is None:
        return None
    path = Path(default)
    if not path.name:
        raise InputError(f'output.path = "{path}" is not allowed: the name of a file')
    numbered = (path.with_stem(f"{path.stem}-{k}") for k in itertools.count(2))
    for candidate in itertools.chain([path], numbered):
        with suppress(TakenError, InUseError):
            return _claim(candidate, f"output.path = {str(candidate)!r}")
    raise AssertionError("there is always another number")


def _claim(path: Path, asked: str) -> Claim:
    """A place for a new run file; `asked` is how messages name it."""
    if path.suffix != ENDING:
        # Files that differ behind the last point of their names would share checkpoints and logs.
        raise InputError(f"{asked} is not allowed: the name of a run file ends in {ENDING}")
    try:
        claim = Claim(path)
        try:
            unused = holds_no_record(path)
            _check_free(
                (name_checkpoint_folder(path),) if unused else (path, name_checkpoint_folder(path))
            )
            claim.build()
        except BaseException:
            claim.release()
            raise
    except InUseError as error:
        raise InUseError(f"{asked}: another process writes this run file; name another") from error
    except TakenError as error:
        raise TakenError(f"{asked}: {error} exists already: name another, or remove it") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{asked}: the run file cannot be made: {reason}") from error
    if unused:
        warnings.warn(f"{path}: replaced, as it holds no record", stacklevel=2)
    return claim


def _check_free(places: Iterable[Path]) -> None:
    for place in places:
        if place.exists():
            raise TakenError(place)
