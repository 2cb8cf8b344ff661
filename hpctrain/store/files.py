"""Replaces files and directories so that nothing is lost if the process or the machine stops."""

import os
import shutil
from pathlib import Path


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
