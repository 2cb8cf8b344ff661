"""Replacing files and directories so that a kill or a crash at any instant loses nothing."""

import os
import shutil
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a directory's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Move within one file system, in one step, and make the new name durable."""
    os.replace(source, target)
    sync(target.parent)


def make_temporary_name(path: Path) -> Path:
    """Where the successor of `path` is built: beside it, so that `rename` is one step."""
    return path.with_name(f"{path.name}.tmp")


def remove_tree(path: Path, aside: Path) -> None:
    """Remove a directory; it leaves its name in one step, so nobody meets it half removed."""
    os.replace(path, aside)
    shutil.rmtree(aside)
