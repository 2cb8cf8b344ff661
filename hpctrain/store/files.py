"""Names files, and replaces them so that nothing is lost if the process or the machine stops."""

import os
import shutil
from pathlib import Path

from hpctrain.errors import InputError


def check_path(given: object, name: str, allowed: str = "a path") -> Path:
    """Returns what a program gave as the path of a file.

    Args:
        name: of the argument, for messages.
        allowed: what it may be, for messages.

    Raises:
        InputError: it is no path.
    """
    path = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(path, str) or "\0" in path:
        raise InputError(f"{name} = {given!r} is not allowed: {allowed}")
    return Path(path)


def sync(path: Path) -> None:
    """Waits until the bytes of a file, or the entries of a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Renames a file or directory within one file system in one step, and waits for the disk."""
    os.replace(source, target)
    sync(target.parent)


def make_temporary_name(path: Path) -> Path:
    """Returns the path beside `path` under which its successor is written, before `rename`."""
    return path.with_name(f"{path.name}.tmp")


def remove_tree(path: Path, aside: Path) -> None:
    """Removes a directory. It is renamed to `aside` first, so that nobody sees a part of it."""
    os.replace(path, aside)
    shutil.rmtree(aside)


def name_checkpoint_folder(run_file: Path) -> Path:
    """Returns the folder of a run's checkpoints, which lies beside its file."""
    return run_file.with_suffix(".ckpt")
