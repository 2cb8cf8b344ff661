"""What a state may hold, and that its leaves give it back."""

from dataclasses import dataclass, field, fields
from enum import Enum, auto
from typing import Any

import pytest
import torch
from torch import Tensor

from hpctrain.store.state import (
    BlockStates,
    Ownership,
    RowBlock,
    Share,
    StateError,
    flatten,
    unflatten,
)


class Phase(Enum):
    LOCAL = auto()
    GLOBAL = auto()


@dataclass
class Memory:
    pairs: list[tuple[Tensor, Tensor]]
    scale: float | None = None


@dataclass
class Block:
    theta: Tensor
    memory: Memory
    failures: int = 0


@dataclass
class State:
    theta: Tensor
    radius: float
    iteration: int
    accepted: bool
    name: str
    phase: Phase
    last: Phase | None
    blocks: BlockStates[Block]
    inverse_hessian: RowBlock
    radii: list[float] = field(default_factory=list)
    shape: tuple[int, str] = (1, "a")


def pair() -> tuple[Tensor, Tensor]:
    return torch.randn(3, dtype=torch.float64), torch.randn(3, dtype=torch.float32)


def example() -> State:
    long = Block(torch.arange(3), Memory([pair(), pair()], 0.5), failures=2)
    short = Block(torch.ones(2) > 0, Memory([]))
    return State(
        theta=torch.randn(5, dtype=torch.float64),
        radius=float("inf"),
        iteration=2**70,
        accepted=True,
        name="sr1",
        phase=Phase.GLOBAL,
        last=None,
        blocks=BlockStates({4: long, 1: short}),
        inverse_hessian=RowBlock(torch.randn(6, 6), 0, 6),
        radii=[0.1, 0.2],
    )


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "__dataclass_fields__"):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return one == other


def leaves_of(state: Any) -> dict[str, Any]:
    return {leaf.path: leaf.value for leaf in flatten(state)}


@pytest.mark.parametrize("from_class", [True, False])
def test_leaves_give_the_state_back(from_class):
    state = example()
    assert same(unflatten(State if from_class else state, leaves_of(state)), state)


def test_ownership_follows_the_containers():
    owners = {leaf.path: leaf.ownership for leaf in flatten(example())}
    assert owners["theta"] is owners["radii/1"] is Ownership.REPLICATED
    assert owners["blocks/4/memory/pairs/1/0"] is owners["blocks/1/failures"] is Ownership.BLOCK
    assert owners["inverse_hessian"] is Ownership.ROWS


def test_a_share_selects_blocks_and_rows():
    state = example()
    leaves = leaves_of(state) | {"inverse_hessian": state.inverse_hessian.rows}
    restored = unflatten(State, leaves, Share(blocks=[1, 2], rows=lambda total, _: (3, total - 1)))
    assert list(restored.blocks) == [1]
    assert restored.inverse_hessian.first_row == 3
    assert torch.equal(restored.inverse_hessian.rows, state.inverse_hessian.rows[3:5])


def test_the_blocks_to_flatten_can_be_chosen():
    paths = [leaf.path for leaf in flatten(example(), blocks=[4, 7])]
    assert "blocks/4/failures" in paths and "blocks/1/failures" not in paths


@dataclass
class Learnt:
    H: RowBlock
    updates: int


@dataclass
class Divided:
    blocks: BlockStates[Learnt]


def test_rows_of_a_block_are_those_of_each_of_its_ranks():
    H = torch.arange(36.0).view(6, 6)
    some, whole = RowBlock(H[2:4], 2, 6), RowBlock(H, 0, 6)
    state = Divided(BlockStates({0: Learnt(some, 5), 1: Learnt(some, 5), 2: Learnt(whole, 5)}))
    leaves = list(flatten(state, blocks=[0]))
    # Of the blocks that others write, only rows that they do not have.
    assert [leaf.path for leaf in leaves] == ["blocks/0/H", "blocks/0/updates", "blocks/1/H"]
    assert [leaf.ownership for leaf in leaves[::2]] == [Ownership.ROWS] * 2
    stored = {f"blocks/{b}/{name}": value for b in range(3) for name, value in
              (("H", H), ("updates", 5))}  # fmt: skip
    found = unflatten(Divided, stored, Share(range(3), rows=lambda total, b: (b, total - b)))
    assert all(torch.equal(found.blocks[b].H.rows, H[b : 6 - b]) for b in range(3))
    assert [found.blocks[b].H.first_row for b in range(3)] == [0, 1, 2]


def test_memory_of_another_length_than_the_examples_is_restored():
    state, fresh = example(), example()
    fresh.blocks.clear()
    fresh.inverse_hessian = None
    fresh.radii.clear()
    assert same(unflatten(fresh, leaves_of(state)), state)


@dataclass
class Undeclared:
    search: Any


def test_the_example_tells_the_class_of_an_open_field():
    state = Undeclared(search=Memory([pair()], 2.0))
    assert same(unflatten(state, leaves_of(state)), state)
    with pytest.raises(StateError, match="search"):
        unflatten(Undeclared, leaves_of(state))


@pytest.mark.parametrize(
    "value",
    [{"a": 1}, {1, 2}, object(), b"x", torch.ones(2, dtype=torch.bfloat16), 1j, Memory],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_stored_is_refused_by_path(value):
    with pytest.raises(StateError, match=r"search/0"):
        list(flatten(Undeclared(search=[value])))


def test_a_missing_leaf_is_named():
    leaves = leaves_of(example())
    del leaves["blocks/4/memory/scale"]
    with pytest.raises(StateError, match="blocks/4/memory/scale"):
        unflatten(State, leaves)


def test_rows_must_lie_in_the_matrix():
    with pytest.raises(StateError, match="5:7"):
        RowBlock(torch.zeros(2, 6), 5, 6)
