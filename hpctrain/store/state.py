"""Takes a solver's state apart into named values, which files can hold, and builds it again.

A state is a dataclass. Its fields may be tensors, numbers, bools, strings, None, members of
enumerations (stored by name), lists and tuples of these, and further dataclasses. Two containers
say how a value is divided among the ranks: `BlockStates` (some blocks on each rank) and `RowBlock`
(some rows of a matrix on each rank, in the state of a block on each of the block's ranks). All
other values must be equal on all ranks.
"""

import numbers
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from typing import Any, Generic, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from hpctrain.errors import HpctrainError

TENSOR_TYPES = (torch.float32, torch.float64, torch.int64, torch.bool)

BlockState = TypeVar("BlockState")


class StateError(HpctrainError, TypeError):
    """A state holds something that cannot be stored, or stored values do not fit a state."""


class BlockStates(dict[int, BlockState], Generic[BlockState]):
    """The states of the blocks of θ that this rank works on, by the number of the block."""


@dataclass(frozen=True)
class RowBlock:
    """This rank's rows of a matrix whose rows are divided among the ranks.

    Args:
        rows: (r, n), the rows `first_row` … `first_row + r - 1` of the matrix.
        first_row: the number of the first of these rows.
        total_rows: the number of rows of the whole matrix.

    Raises:
        StateError: `rows` is no matrix, or goes beyond the whole one.
    """

    rows: Tensor
    first_row: int
    total_rows: int

    def __post_init__(self) -> None:
        if self.rows.ndim != 2:
            raise StateError(f"rows must be a matrix (r, n), not of shape {tuple(self.rows.shape)}")
        if not 0 <= self.first_row <= self.last_row <= self.total_rows:
            raise StateError(f"rows {self.first_row}:{self.last_row} lie outside {self.total_rows}")

    @property
    def last_row(self) -> int:
        """One past the last row that this rank holds."""
        return self.first_row + self.rows.shape[0]


class Ownership(Enum):
    """Who holds a value: all ranks, the owner of its block, or each rank some of its rows."""

    REPLICATED = "replicated"
    BLOCK = "block"
    ROWS = "rows"


class Leaf(NamedTuple):
    """A single value of a state.

    Attributes:
        path: where it stands in the state: names of fields and indices, joined by "/". A sequence
            has one more leaf, "<path>/#", with its length.
        value: the value; the name of a member of an enumeration.
        ownership: which ranks hold it.
    """

    path: str
    value: Tensor | RowBlock | bool | int | float | str | None
    ownership: Ownership


def flatten(state: Any, blocks: Collection[int] | None = None) -> Iterator[Leaf]:
    """Yields the leaves of a state in the order of its fields.

    Args:
        state: a dataclass.
        blocks: the blocks whose states are wanted; by default all. Of the others only rows that are
            divided among a block's ranks are, since each has its own.

    Raises:
        StateError: a value is of a type that a state may not hold.
    """
    return _walk(state, "", Ownership.REPLICATED, blocks)


def _walk(
    value: Any, path: str, ownership: Ownership, blocks: Collection[int] | None
) -> Iterator[Leaf]:
    """Yields the leaves of one value, which stands at a path."""
    match value:
        case RowBlock():
            _check_tensor(value.rows, path)
            yield Leaf(path, value, Ownership.ROWS)
        case BlockStates():
            for block in sorted(value):
                leaves = _walk(value[block], _join(path, block), Ownership.BLOCK, None)
                is_wanted = blocks is None or block in blocks
                yield from leaves if is_wanted else filter(_has_some_rows, leaves)
        case list() | tuple() if type(value) in (list, tuple):
            yield Leaf(_join(path, "#"), len(value), ownership)
            for index, item in enumerate(value):
                yield from _walk(item, _join(path, index), ownership, blocks)
        case _ if is_dataclass(value) and not isinstance(value, type):
            for name, inner in _list_fields(value, path):
                yield from _walk(inner, _join(path, name), ownership, blocks)
        case _:
            yield Leaf(path, _plain(value, path), ownership)


def _has_some_rows(leaf: Leaf) -> bool:
    """Whether a leaf is a matrix of which other ranks have rows too."""
    return isinstance(leaf.value, RowBlock) and len(leaf.value.rows) < leaf.value.total_rows


def _list_fields(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The fields of a dataclass; a StateError for one that no argument gives."""
    for field in fields(value):
        if not field.init:
            raise StateError(f"{_join(path, field.name)}: not an argument of its class")
        yield field.name, getattr(value, field.name)


def _plain(value: Any, path: str) -> Tensor | bool | int | float | str | None:
    """Returns a single value as it is stored.

    Raises:
        StateError: it is of a type that a state may not hold.
    """
    match value:
        case Tensor():
            _check_tensor(value, path)
            return value.detach()
        case Enum():
            return value.name
        case None | bool() | str():
            return value
        case numbers.Integral():
            return int(value)
        case numbers.Real():
            return float(value)
    raise StateError(
        f"{path}: a state cannot hold a {type(value).__name__}; allowed are tensors, numbers, "
        "bools, strings, None, enums, lists, tuples, dataclasses, BlockStates and RowBlock"
    )


def _check_tensor(tensor: Tensor, path: str) -> None:
    """Raises a StateError for a tensor of a type that cannot be stored."""
    if tensor.dtype not in TENSOR_TYPES:
        allowed = ", ".join(str(dtype) for dtype in TENSOR_TYPES)
        raise StateError(f"{path}: a tensor of {tensor.dtype}; allowed are {allowed}")


def _join(path: str, part: str | int) -> str:
    """Appends the name of a field or an index to a path."""
    return f"{path}/{part}" if path else str(part)


@dataclass(frozen=True)
class Share:
    """Which part of a stored state one rank takes.

    Args:
        blocks: the numbers of its blocks. None for those of the example given to `unflatten`.
        rows: for a matrix of so many rows, and the block whose state it is in, if it is in one,
            returns the first row of this rank and one past its last.
        device: where tensors go that have no counterpart in the example.
    """

    blocks: Collection[int] | None
    rows: Callable[[int, int | None], tuple[int, int]]
    device: str | torch.device = "cpu"


def unflatten(template: Any, leaves: Mapping[str, Any], share: Share | None = None) -> Any:
    """Builds a state from its leaves; the inverse of `flatten`.

    Args:
        template: the class of the state, or a state as an example. Only an example can say on which
            device a tensor goes, and of which class a field is where its type hint does not say.
        leaves: values by path. A matrix that is divided among ranks is a `RowBlock`, the whole
            matrix, or anything whose rows can be read by `value[first:last]`.
        share: which blocks and rows to take; by default all.

    Returns:
        A new state. It holds the values themselves, not copies, where they need no conversion.

    Raises:
        StateError: a leaf is missing, or the template does not say what to build.
    """
    builder = _Builder(leaves, share)
    if isinstance(template, type):
        return builder.build(template, None, "")
    return builder.build(type(template), template, "")


@dataclass(frozen=True)
class _Builder:
    """Builds values from their type hints, their leaves, and an example where there is one.

    Attributes:
        leaves, share: as for `unflatten`.
        block: whose state is built, if it is that of one.
    """

    leaves: Mapping[str, Any]
    share: Share | None
    block: int | None = None

    def build(self, hint: Any, example: Any, path: str) -> Any:
        """Builds the value at a path.

        Args:
            hint: its type hint.
            example: a value that stands there in the example, or None.
        """
        if path in self.leaves:
            return self._build_leaf(hint, example, path)
        if _join(path, "#") in self.leaves:
            return self._build_sequence(hint, example, path)
        kind = _find_class(hint, example, path)
        if kind is BlockStates:
            return self._build_blocks(hint, example, path)
        hints = get_type_hints(kind)
        values = {}
        for field in fields(kind):
            inner, inner_path = getattr(example, field.name, None), _join(path, field.name)
            values[field.name] = self.build(hints[field.name], inner, inner_path)
        return kind(**values)

    def _build_leaf(self, hint: Any, example: Any, path: str) -> Any:
        value, options = self.leaves[path], (type(example), *_options(hint))
        if RowBlock in options and value is not None:
            return self._build_row_block(value)
        if isinstance(value, Tensor):
            return self._place(value, example)
        enums = [o for o in options if isinstance(o, type) and issubclass(o, Enum)]
        if enums and isinstance(value, str):
            if value not in enums[0].__members__:
                raise StateError(f"{path}: {enums[0].__name__} has no member {value!r}")
            return enums[0][value]
        return value

    def _place(self, tensor: Tensor, example: Any) -> Tensor:
        """Moves a tensor to the device of its example, or to that of the share."""
        if isinstance(example, Tensor):
            return tensor.to(example.device)
        return tensor.to(self.share.device) if self.share else tensor

    def _build_row_block(self, value: Any) -> RowBlock:
        if isinstance(value, RowBlock):
            return value
        total = value.shape[0]
        first, last = self.share.rows(total, self.block) if self.share else (0, total)
        return RowBlock(self._place(value[first:last], None), first, total)

    def _build_sequence(self, hint: Any, example: Any, path: str) -> list | tuple:
        length = self.leaves[_join(path, "#")]
        options = [o for o in _options(hint) if (get_origin(o) or o) in (list, tuple)]
        declared = options[0] if options else type(example) if example is not None else list
        hints = _find_item_hints(declared, length)
        examples = list(example) if isinstance(example, list | tuple) else []
        items = []
        for index in range(length):
            item_example = examples[min(index, len(examples) - 1)] if examples else None
            items.append(self.build(hints[index], item_example, _join(path, index)))
        return (get_origin(declared) or declared)(items)

    def _build_blocks(self, hint: Any, example: Any, path: str) -> BlockStates:
        options = [o for o in _options(hint) if get_origin(o) is BlockStates]
        inner = get_args(options[0])[0] if options else Any
        prefix = _join(path, "")
        stored = (key.removeprefix(prefix) for key in self.leaves if key.startswith(prefix))
        blocks = {int(key.split("/")[0]) for key in stored}
        examples = example or {}
        if self.share:
            own = examples if self.share.blocks is None else self.share.blocks
            blocks = blocks.intersection(own)
        return BlockStates(
            {
                b: replace(self, block=b).build(inner, examples.get(b), _join(path, b))
                for b in sorted(blocks)
            }
        )


def _find_class(hint: Any, example: Any, path: str) -> Any:
    """Finds the dataclass, or BlockStates, that stands at a path.

    Raises:
        StateError: there is no value there, or its class cannot be told.
    """
    if isinstance(example, BlockStates):
        return BlockStates
    if is_dataclass(example) and not isinstance(example, RowBlock):
        return type(example)
    options = {get_origin(option) or option for option in _options(hint)}
    found = [o for o in options if o is BlockStates or (is_dataclass(o) and o is not RowBlock)]
    if len(found) == 1:
        return found[0]
    if found:
        raise StateError(f"{path}: could be any of {found}; an example of the state must tell")
    raise StateError(f"{path}: no such value is stored")


def _options(hint: Any) -> tuple[Any, ...]:
    """Lists the members of a union; any other type is its own only member."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _find_item_hints(declared: Any, length: int) -> list[Any]:
    """Lists the type hints of the items of a `list[T]`, a `tuple[T, ...]` or a `tuple[T, U]`."""
    arguments = get_args(declared)
    if get_origin(declared) is tuple and Ellipsis not in arguments and len(arguments) == length:
        return list(arguments)
    return [arguments[0] if arguments else Any] * length
