"""The data sets that a job can name, and where their files are looked for."""

from collections.abc import Sequence
from pathlib import Path

from hpctrain.problems.data.idx import read_cifar, read_idx
from hpctrain.problems.data.sets import DataError, DataSet
from hpctrain.problems.data.svhn import read_svhn

DATA_SETS = ("fashion-mnist", "mnist", "cifar-10", "svhn")
CLASSES = 10
IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
CIFAR_FILES = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}
SVHN_FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}
# Where else than in data/NAME: Debian's package dataset-fashion-mnist installs it there.
SYSTEM_FOLDERS = {"fashion-mnist": (Path("/usr/share/datasets/fashion-mnist"),)}
# The folder inside the archive that CIFAR-10 is published as.
CIFAR_FOLDER = "cifar-10-batches-bin"
REMEDIES = {
    "fashion-mnist": "run `make data`, or install Debian's package dataset-fashion-mnist",
    "mnist": "run `make data` for a seventh of it, or put its four IDX files there",
    "cifar-10": "put the files of its binary version there",
    "svhn": "put the files of its cropped digits (format 2) there",
}


def load(name: str, folder: str | None) -> DataSet:
    """A shipped data set, from a folder or from where it usually lies.

    Raises:
        DataError: a file is missing or damaged.
    """
    if name == "cifar-10":
        return _cifar(folder)
    if name == "svhn":
        return _svhn(folder)
    return _mnist(name, folder)


def _mnist(name: str, folder: str | None) -> DataSet:
    folders = _folders(name, folder)
    parts = {
        part: read_idx(*(_find(name, folders, (file, f"{file}.gz")) for file in files))
        for part, files in IDX_FILES.items()
    }
    return DataSet(name, parts["train"], parts["test"], CLASSES)


def _cifar(folder: str | None) -> DataSet:
    folders = [
        each / inner for each in _folders("cifar-10", folder) for inner in ("", CIFAR_FOLDER)
    ]
    parts = {
        part: read_cifar([_find("cifar-10", folders, (file,)) for file in files])
        for part, files in CIFAR_FILES.items()
    }
    return DataSet("cifar-10", parts["train"], parts["test"], CLASSES)


def _svhn(folder: str | None) -> DataSet:
    folders = _folders("svhn", folder)
    parts = {part: read_svhn(_find("svhn", folders, (file,))) for part, file in SVHN_FILES.items()}
    return DataSet("svhn", parts["train"], parts["test"], CLASSES)


def _folders(name: str, folder: str | None) -> list[Path]:
    if folder is not None:
        return [Path(folder)]
    return [Path("data") / name, *SYSTEM_FOLDERS.get(name, ())]


def _find(name: str, folders: Sequence[Path], names: Sequence[str]) -> Path:
    """The first of these files that is there."""
    for folder in folders:
        for file in names:
            if (folder / file).is_file():
                return folder / file
    raise DataError(
        f'problem.data = "{name}": there is no {" or ".join(names)} in'
        f" {' or '.join(map(str, folders))}: {REMEDIES[name]}, or set problem.data_path"
    )
