"""Opens HDF5 files that others may have made, and refuses those that could harm the reader.

HDF5 follows links into any other file, allocates memory of any size that a file declares, and
descends into groups of any depth. So a file is inspected before anything of it is read.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

DEEPEST = 32
MOST_OBJECTS = 100_000
# What may be declared beyond the bytes that are there: rows not yet written, small fill values.
SLACK_BYTES = 2**26
# The most that deflate can shrink.
LARGEST_RATIO = 1032


class HarmfulFileError(OSError):
    """A file declares sizes or depths, or has links, that are not accepted."""


@contextmanager
def open_to_read(path: Path, content: Any = None) -> Iterator[h5py.File]:
    """Inspects a file and opens it for reading.

    Args:
        path: of the file.
        content: a Python file object with the bytes to be read as those of the file; by default
            those of the file itself.

    Raises:
        HarmfulFileError: it links to other folders, or declares sizes or depths beyond its own.
        OSError: it cannot be read.
    """
    with h5py.File(content or path, "r", libver="latest") as file:
        _Inspection(path, set()).check(file)
        yield file


class _Inspection:
    """Inspects one file, and those beside it that it links to.

    Args:
        path: of the file.
        seen: the files that have been inspected already; this one is added.
    """

    def __init__(self, path: Path, seen: set[Path]) -> None:
        self._folder = Path(path).resolve().parent
        self._size = Path(path).stat().st_size
        self._seen = seen
        seen.add(Path(path).resolve())

    def check(self, file: h5py.File) -> None:
        """Raises a HarmfulFileError for the first thing in the file that is not accepted."""
        _check_attributes(file, "/")
        for each in self._list_objects(file):
            _check_attributes(each, each.name)
            if isinstance(each, h5py.Dataset):
                self._check_size(each, self._find_backing(each))

    def _list_objects(self, file: h5py.File) -> Iterator[h5py.HLObject]:
        """Yields the objects of the file, each once, unless they are too many or too deep."""
        waiting: list[tuple[h5py.Group, int]] = [(file["/"], 0)]
        known = set[int]()
        while waiting:
            group, depth = waiting.pop()
            if depth > DEEPEST:
                raise HarmfulFileError(f"groups lie more than {DEEPEST} deep")
            for name in group:
                inner = self._follow(group, name)
                if inner is None or (address := h5py.h5o.get_info(inner.id).addr) in known:
                    continue
                known.add(address)
                if len(known) > MOST_OBJECTS:
                    raise HarmfulFileError(f"it holds more than {MOST_OBJECTS} objects")
                yield inner
                if isinstance(inner, h5py.Group):
                    waiting.append((inner, depth + 1))

    def _follow(self, group: h5py.Group, name: str) -> h5py.HLObject | None:
        """Returns the object of a name in a group; None for a link, inspected as a file."""
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            self._check_file(link.filename, f"{group.name.rstrip('/')}/{name}")
        return group[name] if isinstance(link, h5py.HardLink) else None

    def _find_backing(self, dataset: h5py.Dataset) -> int:
        """Returns how many bytes in files there are for a data set's numbers."""
        raw = [self._check_place(name, dataset.name) for name, _, _ in dataset.external or ()]
        sources = (
            {each.file_name for each in dataset.virtual_sources()} if dataset.is_virtual else ()
        )
        linked = [self._check_file(name, dataset.name) for name in sources if name != "."]
        return self._size + sum(path.stat().st_size for path in (*raw, *linked) if path.is_file())

    def _check_size(self, dataset: h5py.Dataset, backing: int) -> None:
        filtered = dataset.is_virtual or dataset.id.get_create_plist().get_nfilters() > 0
        most = backing * (LARGEST_RATIO if filtered else 1) + SLACK_BYTES
        item = dataset.dtype.itemsize
        for what, shape in (("", dataset.shape or ()), ("a chunk of ", dataset.chunks or ())):
            declared = math.prod(shape) * item
            if declared > most:
                raise HarmfulFileError(
                    f"{what}{dataset.name} is declared to have {declared} bytes, where the file has"
                    f" {backing}"
                )

    def _check_file(self, name: str, where: str) -> Path:
        """Inspects a file that is linked to, if it exists."""
        path = self._check_place(name, where)
        if path not in self._seen and path.is_file():
            with h5py.File(path, "r") as file:
                _Inspection(path, self._seen).check(file)
        return path

    def _check_place(self, name: str, where: str) -> Path:
        path = (self._folder / name).resolve()
        if path.parent != self._folder or "%" in name:
            raise HarmfulFileError(f"{where} is in {name}, which is not in the file's folder")
        return path


def _check_attributes(target: h5py.HLObject, where: str) -> None:
    for name in target.attrs:
        attribute = target.attrs.get_id(name)
        declared = math.prod(attribute.shape or ()) * attribute.get_type().get_size()
        if declared > SLACK_BYTES:
            raise HarmfulFileError(
                f"attribute {name} of {where} is declared to have {declared} bytes"
            )
