"""The parts of a checkpoint: an HDF5 file for each rank, and a table of what lies in which.

Tensors are data sets, named by their path in the state. Single values stand in the table itself.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from hpctrain.store import attributes, files
from hpctrain.store.guarded import open_to_read
from hpctrain.store.space import Sink
from hpctrain.store.state import Leaf, Ownership, RowBlock, flatten

PIECE_BYTES = 16 * 2**20
CACHE_LINE = 64


@dataclass(frozen=True)
class Piece:
    """The rows `first_row` … `first_row + rows - 1` of a tensor, which lie in one part."""

    part: str
    first_row: int
    rows: int


@dataclass(frozen=True)
class Layout:
    """The order in which a tensor's numbers lie in memory.

    The bits of a product depend on it: a matrix stored by rows gives others than one by columns.

    Attributes:
        order: the dimensions of the tensor, that with the longest stride first.
        shift: how many bytes its first number lies behind the begin of a cache line.
    """

    order: tuple[int, ...]
    shift: int

    @staticmethod
    def of(tensor: Tensor) -> "Layout":
        """Finds the layout of a tensor."""
        strides = tensor.stride()
        order = sorted(range(tensor.ndim), key=lambda axis: -strides[axis])
        return Layout(tuple(order), tensor.data_ptr() % CACHE_LINE)

    @staticmethod
    def from_json(content: Mapping[str, Any] | None) -> "Layout | None":
        """Makes a layout from what `dataclasses.asdict` wrote to JSON."""
        return None if content is None else Layout(tuple(content["order"]), content["shift"])

    def lay_out(self, tensor: Tensor) -> Tensor:
        """Copies a tensor into memory of this layout."""
        shape = [tensor.shape[axis] for axis in self.order]
        memory = tensor.new_empty(tensor.numel() + CACHE_LINE)
        first = ((self.shift - memory.data_ptr()) % CACHE_LINE) // tensor.element_size()
        laid = memory[first : first + tensor.numel()].view(shape)
        back = [self.order.index(axis) for axis in range(tensor.ndim)]
        return laid.permute(back).copy_(tensor)


@dataclass(frozen=True)
class StoredLeaf:
    """Where a value of the state is stored: in the table, or as a tensor in one or several parts.

    Attributes:
        ownership: which ranks held it.
        value: the value, where it is no tensor.
        dtype: the type of a tensor's numbers; None for a single value.
        pieces: the parts of a tensor.
        layout: how a tensor in one piece lay in memory.
    """

    ownership: str
    value: bool | int | float | str | None = None
    dtype: str | None = None
    shape: tuple[int, ...] = ()
    pieces: tuple[Piece, ...] = ()
    layout: "Layout | None" = None

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> "StoredLeaf":
        """Makes one from what `dataclasses.asdict` wrote to JSON."""
        pieces = tuple(Piece(**piece) for piece in content["pieces"])
        layout = Layout.from_json(content["layout"])
        shape = tuple(content["shape"])
        return StoredLeaf(**{**content, "shape": shape, "pieces": pieces, "layout": layout})


@dataclass(frozen=True)
class Origin:
    """Which checkpoint a part belongs to. The table and every part name it.

    Attributes:
        run: the identity of the run that wrote it.
        iteration: of that run.
        written: a random name, drawn for this checkpoint.
        ranks: the number of parts.
    """

    run: str
    iteration: int
    written: str
    ranks: int


@dataclass(frozen=True)
class Part:
    """One rank's file, its size and digest, and the values that it holds."""

    name: str
    size: int
    sha256: str
    leaves: Mapping[str, StoredLeaf]

    def verify(self, directory: Path, origin: Origin) -> None:
        """Compares the file in a directory with its size, digest and origin.

        Raises:
            ValueError: it is missing, damaged, or a part of another checkpoint.
        """
        path = directory / self.name
        if not path.exists():
            raise ValueError(f"{self.name} is missing")
        if path.stat().st_size != self.size:
            raise ValueError(f"{self.name} has {path.stat().st_size} bytes, not {self.size}")
        if compute_digest(path) != self.sha256:
            raise ValueError(f"{self.name} does not match its digest")
        with open_to_read(path) as file:
            named = attributes.read(file)
        for what, expected in {**asdict(origin), "part": self.name}.items():
            if named.get(what) != expected:
                raise ValueError(f"{self.name} is of {what} {named.get(what)}, not {expected}")


def write_part(
    directory: Path,
    rank: int,
    state: Any,
    origin: Origin,
    blocks: Collection[int] | None = None,
) -> Part:
    """Writes this rank's blocks and rows, and on rank 0 also what all ranks hold alike.

    Args:
        directory: of the checkpoint.
        rank: of this process.
        state: the state.
        origin: the checkpoint; equal on all ranks.
        blocks: the blocks in the state that are to be written; by default all.

    Returns:
        The part; its digest is of the bytes as they were read back.

    Raises:
        StateError: the state holds something that cannot be stored.
    """
    path = directory / name_part(rank)
    with Sink(path) as sink, h5py.File(sink, "w", libver="latest") as file:
        attributes.write(file, {**asdict(origin), "part": path.name})
        leaves = {
            leaf.path: _write_leaf(file, path.name, leaf)
            for leaf in flatten(state, blocks)
            if rank == 0 or leaf.ownership is not Ownership.REPLICATED
        }
    sink.check()
    with ThreadPoolExecutor(1) as pool:  # what is read back waits for no disk
        syncing = pool.submit(files.sync, path)
        sha256 = compute_digest(path)
        syncing.result()
    return Part(path.name, path.stat().st_size, sha256, leaves)


def name_part(rank: int) -> str:
    """Returns the name of a rank's file."""
    return f"part-{rank}.h5"


def _write_leaf(file: h5py.File, part: str, leaf: Leaf) -> StoredLeaf:
    owner, value = leaf.ownership.value, leaf.value
    if isinstance(value, RowBlock):
        _write_tensor(file, leaf.path, value.rows)
        shape = (value.total_rows, value.rows.shape[1])
        piece = Piece(part, value.first_row, value.rows.shape[0])
        return StoredLeaf(owner, None, _type_name(value.rows), shape, (piece,))
    if isinstance(value, Tensor):
        _write_tensor(file, leaf.path, value)
        pieces = (Piece(part, 0, value.shape[0] if value.ndim else 1),)
        whole = tuple(value.shape)
        return StoredLeaf(owner, None, _type_name(value), whole, pieces, Layout.of(value))
    return StoredLeaf(owner, value)


def _write_tensor(file: h5py.File, path: str, tensor: Tensor) -> None:
    """Writes a tensor in pieces, so that a large matrix needs no second copy in memory."""
    tensor = tensor.detach()
    dtype = np.dtype(_type_name(tensor))
    dataset = file.create_dataset(path, shape=tuple(tensor.shape), dtype=dtype)
    if tensor.ndim == 0:
        dataset[()] = tensor.cpu().numpy()
        return
    row_bytes = dtype.itemsize * max(1, tensor[:1].numel())
    step = max(1, PIECE_BYTES // row_bytes)
    for first in range(0, tensor.shape[0], step):
        dataset[first : first + step] = tensor[first : first + step].cpu().numpy()


def _type_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def compute_digest(path: Path) -> str:
    """Computes the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def merge_leaves(parts: Iterable[Part]) -> dict[str, StoredLeaf]:
    """Joins the tables of all parts to one.

    Raises:
        ValueError: a block's value is in two parts, or rows of a matrix are missing or in two.
    """
    merged: dict[str, StoredLeaf] = {}
    for part in parts:
        for path, leaf in part.leaves.items():
            merged[path] = _join(path, merged[path], leaf) if path in merged else leaf
    for path, leaf in merged.items():
        if leaf.ownership == Ownership.ROWS.value:
            _check_rows(path, leaf)
    return merged


def _join(path: str, one: StoredLeaf, other: StoredLeaf) -> StoredLeaf:
    if one.ownership != Ownership.ROWS.value:
        raise ValueError(f"{path}: two ranks store it, only one may")
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        raise ValueError(f"{path}: ranks disagree on its size or type")
    return StoredLeaf(one.ownership, None, one.dtype, one.shape, one.pieces + other.pieces)


def _check_rows(path: str, leaf: StoredLeaf) -> None:
    end = 0
    for piece in sorted(leaf.pieces, key=lambda piece: (piece.first_row, piece.rows)):
        if piece.rows and piece.first_row != end:
            raise ValueError(f"{path}: rows {piece.first_row} and {end} should be neighbours")
        end += piece.rows
    if end != leaf.shape[0]:
        raise ValueError(f"{path}: {end} rows are stored of {leaf.shape[0]}")


def verify_leaves(
    directory: Path, parts: Collection[str], leaves: Mapping[str, StoredLeaf]
) -> None:
    """Compares the tensors in the parts with those that a table names.

    Raises:
        ValueError: a part does not hold a tensor, or another one than the table says.
    """
    for part, held in _divide_by_part(parts, leaves).items():
        with h5py.File(directory / part, "r") as file:
            for path, leaf, piece in held:
                shape = (piece.rows, *leaf.shape[1:]) if leaf.shape else ()
                found = file[path]
                if (found.shape, str(found.dtype)) != (shape, leaf.dtype):
                    raise ValueError(
                        f"{path} in {part} is {found.dtype} {found.shape}, not {leaf.dtype} {shape}"
                    )


def _divide_by_part(
    parts: Collection[str], leaves: Mapping[str, StoredLeaf]
) -> dict[str, list[tuple[str, StoredLeaf, Piece]]]:
    """The pieces that each part is to hold, with the paths of their values."""
    by_part: dict[str, list[tuple[str, StoredLeaf, Piece]]] = {name: [] for name in parts}
    for path, leaf in leaves.items():
        for piece in leaf.pieces:
            if piece.part not in by_part:
                raise ValueError(f"{path} is in {piece.part}, which is no part")
            by_part[piece.part].append((path, leaf, piece))
        rows = leaf.shape[0] if leaf.shape else 1
        if leaf.dtype is not None and sum(piece.rows for piece in leaf.pieces) != rows:
            raise ValueError(f"{path}: not all rows of {leaf.shape} are stored")
    return by_part


@dataclass(frozen=True)
class StoredRows:
    """A matrix on disk that was divided among ranks; `matrix[first:last]` reads some rows of it."""

    directory: Path
    path: str
    leaf: StoredLeaf

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows and of columns of the whole matrix."""
        return self.leaf.shape

    def __getitem__(self, rows: slice) -> Tensor:
        first, last, _ = rows.indices(self.shape[0])
        shape = last - first, self.shape[1]
        matrix = torch.empty(shape, dtype=getattr(torch, self._type()), device="cpu")
        for piece in self.leaf.pieces:
            begin = max(first, piece.first_row)
            end = min(last, piece.first_row + piece.rows)
            if begin < end:
                with h5py.File(self.directory / piece.part, "r") as file:
                    file[self.path].read_direct(
                        matrix.numpy(),
                        np.s_[begin - piece.first_row : end - piece.first_row],
                        np.s_[begin - first : end - first],
                    )
        return matrix

    def _type(self) -> str:
        return str(self.leaf.dtype)


@dataclass(frozen=True)
class StoredLeaves(Mapping[str, Any]):
    """The values of a checkpoint by path. Each is read when it is asked for."""

    directory: Path
    table: Mapping[str, StoredLeaf]

    def __getitem__(self, path: str) -> Any:
        leaf = self.table[path]
        if leaf.dtype is None:
            return leaf.value
        if leaf.ownership == Ownership.ROWS.value:
            return StoredRows(self.directory, path, leaf)
        with h5py.File(self.directory / leaf.pieces[0].part, "r") as file:
            tensor = torch.from_numpy(np.asarray(file[path][()]))
        return leaf.layout.lay_out(tensor) if leaf.layout else tensor

    def __contains__(self, path: object) -> bool:
        return path in self.table

    def __iter__(self) -> Iterator[str]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)


def to_json(leaves: Mapping[str, StoredLeaf]) -> dict[str, Any]:
    """Makes the table of values for the manifest."""
    return {path: asdict(leaf) for path, leaf in leaves.items()}
