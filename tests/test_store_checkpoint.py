"""Checkpoints: whole or not there, verified when read, the same state on any number of ranks."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import pytest
import torch
from torch import Tensor

from hpctrain.store import checkpoint as module
from hpctrain.store.checkpoint import CheckpointError, CheckpointStore
from hpctrain.store.state import BlockStates, RowBlock, Share

N = 7


class Serial:
    rank, size, is_root = 0, 1, True

    def gather(self, value):
        return [value]

    def broadcast(self, value):
        return value

    def run_on_root(self, function):
        return function()


class Threads:
    """One rank of several that are threads of this process."""

    def __init__(self, rank, size, barrier, shared):
        self.rank, self.size, self.is_root = rank, size, rank == 0
        self._barrier, self._shared = barrier, shared

    def gather(self, value):
        self._shared[self.rank] = value
        self._barrier.wait()
        values = list(self._shared)
        self._barrier.wait()
        return values if self.rank == 0 else None

    def broadcast(self, value):
        self._shared[self.rank] = value
        self._barrier.wait()
        value = self._shared[0]
        self._barrier.wait()
        return value

    def run_on_root(self, function):
        result = failure = None
        if self.rank == 0:
            try:
                result = function()
            except Exception as error:
                failure = error
        result, failure = self.broadcast((result, failure))
        if failure is not None:
            raise failure
        return result


def on_ranks(size, function):
    """What `function(communicator)` returns or raises on each of the ranks."""
    barrier, shared = threading.Barrier(size, timeout=30), [None] * size
    outcomes = [None] * size

    def run(rank):
        try:
            outcomes[rank] = function(Threads(rank, size, barrier, shared))
        except Exception as error:
            outcomes[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


@dataclass
class Block:
    memory: list[Tensor]
    radius: float


@dataclass
class State:
    theta: Tensor
    iteration: int
    blocks: BlockStates[Block]
    inverse_hessian: RowBlock


def matrix(iteration):
    return torch.arange(N * N, dtype=torch.float64).reshape(N, N) + iteration


def state(iteration, rank=0, size=1, blocks=4):
    """The share of a rank: blocks in turn, rows in uneven runs."""
    first, last = rank * N // size, (rank + 1) * N // size
    own = {
        b: Block([torch.full((b + 1,), iteration / 3, dtype=torch.float64)] * b, 0.1 * b)
        for b in range(rank, blocks, size)
    }
    rows = RowBlock(matrix(iteration)[first:last], first, N)
    theta = torch.linspace(0, 1, N, dtype=torch.float64) + iteration
    return State(theta, iteration, BlockStates(own), rows)


def share(rank, size):
    return Share(range(rank, 4, size), lambda n, _: (rank * n // size, (rank + 1) * n // size))


def store(path, keep=2):
    return CheckpointStore(path / "run.ckpt", Serial(), keep=keep)


def write_on(size, path, iteration, run="a"):
    def write(comm):
        return CheckpointStore(path / "run.ckpt", comm, run).write(
            iteration, state(iteration, comm.rank, size), {"seconds": 1.5}
        )

    return on_ranks(size, write)


def assert_same(one, other):
    assert torch.equal(one.theta, other.theta) and one.iteration == other.iteration
    assert one.blocks.keys() == other.blocks.keys()
    for block in one.blocks:
        assert one.blocks[block].radius == other.blocks[block].radius
        assert len(one.blocks[block].memory) == len(other.blocks[block].memory)
        assert all(map(torch.equal, one.blocks[block].memory, other.blocks[block].memory))
    assert one.inverse_hessian.first_row == other.inverse_hessian.first_row
    assert torch.equal(one.inverse_hessian.rows, other.inverse_hessian.rows)


@pytest.mark.parametrize("writers", [1, 3])
@pytest.mark.parametrize("readers", [1, 2, 5])
def test_any_number_of_ranks_reads_what_others_wrote(tmp_path, writers, readers):
    write_on(writers, tmp_path, 50)
    latest = store(tmp_path).find_latest()
    assert (latest.iteration, latest.ranks, latest.extra) == (50, writers, {"seconds": 1.5})
    for rank in range(readers):
        assert_same(latest.restore(State, share(rank, readers)), state(50, rank, readers))
    assert_same(latest.restore(State), state(50))


def test_all_ranks_see_the_same_latest(tmp_path):
    paths = write_on(3, tmp_path, 50)
    latest = on_ranks(3, lambda comm: CheckpointStore(tmp_path / "run.ckpt", comm).find_latest())
    assert {found.path for found in latest} == set(paths) == {tmp_path / "run.ckpt" / "00000050"}


def test_rows_are_joined_over_parts(tmp_path):
    write_on(3, tmp_path, 50)
    latest = store(tmp_path).find_latest()
    assert torch.equal(latest.rows("inverse_hessian", 1, 6), matrix(50)[1:6])
    assert torch.equal(latest.load()["inverse_hessian"], matrix(50))


def test_large_rows_are_written_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr("hpctrain.store.parts.PIECE_BYTES", 2 * N * 8)
    store(tmp_path).write(1, state(1))
    assert_same(store(tmp_path).find_latest().restore(State), state(1))


def test_there_is_none_at_first(tmp_path):
    assert store(tmp_path).find_latest() is None


def test_the_newest_two_are_kept(tmp_path):
    for iteration in (10, 20, 30, 40):
        store(tmp_path).write(iteration, state(iteration))
    assert sorted(os.listdir(tmp_path / "run.ckpt")) == ["00000030", "00000040"]
    assert store(tmp_path).find_latest().iteration == 40


def test_the_course_that_was_left_goes_and_the_same_iteration_is_replaced(tmp_path):
    for iteration in (10, 20, 30):
        store(tmp_path, keep=3).write(iteration, state(iteration))
    store(tmp_path).write(20, state(20), {"again": True})
    assert sorted(os.listdir(tmp_path / "run.ckpt")) == ["00000010", "00000020"]
    assert store(tmp_path).find_latest().extra == {"again": True}


def truncate(path):
    path.write_bytes(path.read_bytes()[:-9])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, os.remove])
@pytest.mark.parametrize("name", ["part-0.h5", "part-2.h5", "manifest.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, damage, name):
    write_on(3, tmp_path, 50)
    write_on(3, tmp_path, 100)
    damage(tmp_path / "run.ckpt" / "00000100" / name)
    with pytest.warns(UserWarning, match="00000100: damaged, the one before it is used"):
        latest = store(tmp_path).find_latest()
    assert latest.iteration == 50
    write_on(3, tmp_path, 100)
    assert store(tmp_path).find_latest().iteration == 100


def take_part(target, source):
    """A part of another checkpoint, which the table takes for its own."""
    shutil.copy(source / "part-1.h5", target)
    mend(target)


def mend(target, change=lambda table: None):
    """Writes the digests of the parts as they are into a table, which is changed before."""
    table = json.loads((target / "manifest.json").read_text())["content"]
    for found in target.glob("part-*"):
        digest = hashlib.sha256(found.read_bytes()).hexdigest()
        table["parts"][found.name] = {"size": found.stat().st_size, "sha256": digest}
    change(table)
    digest = hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()
    (target / "manifest.json").write_text(json.dumps({"sha256": digest, "content": table}))


@pytest.mark.parametrize(
    ("other", "iteration", "message"),
    [
        ({}, 50, "part-1.h5 is of iteration 50, not 100"),
        ({"run": "b"}, 100, "part-1.h5 is of run b, not a"),
        ({}, 100, "part-1.h5 is of written "),
        ({"size": 2}, 100, "part-1.h5 is of "),
    ],
)
def test_a_part_of_another_checkpoint_is_damage(tmp_path, other, iteration, message):
    """Also where somebody has put its digest into the table."""
    write_on(**{"size": 3, "path": tmp_path / "other", "iteration": iteration, **other})
    for own in (50, 100):
        write_on(3, tmp_path, own)
    take_part(tmp_path / "run.ckpt/00000100", tmp_path / f"other/run.ckpt/{iteration:08d}")
    with pytest.warns(UserWarning, match=f"00000100: damaged, .*: {message}"):
        assert store(tmp_path).find_latest().iteration == 50


def leave_the_folder(table):
    table["leaves"]["theta"]["pieces"][0]["part"] = "../00000050/part-0.h5"


def enlarge(table):
    table["leaves"]["theta"]["shape"] = [10**13]
    table["leaves"]["theta"]["pieces"][0]["rows"] = 10**13


def claim_rows(table):
    table["leaves"]["inverse_hessian"]["shape"] = [10**13, N]


def name_a_type(table):
    table["leaves"]["theta"]["dtype"] = "float32"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (leave_the_folder, "theta is in ../00000050/part-0.h5, which is no part"),
        (enlarge, r"theta in part-0.h5 is float64 \(7,\), not float64 \(10000000000000,\)"),
        (claim_rows, r"inverse_hessian: not all rows of \(10000000000000, 7\) are stored"),
        (name_a_type, r"theta in part-0.h5 is float64 \(7,\), not float32 \(7,\)"),
    ],
)
def test_a_table_that_does_not_fit_its_parts_is_damage(tmp_path, change, message):
    for iteration in (50, 100):
        write_on(3, tmp_path, iteration)
    mend(tmp_path / "run.ckpt/00000100", change)
    with pytest.warns(UserWarning, match=f"00000100: damaged, .*: {message}"):
        assert store(tmp_path).find_latest().iteration == 50


def test_a_part_that_links_outside_is_damage(tmp_path):
    for iteration in (50, 100):
        write_on(3, tmp_path, iteration)
    with h5py.File(tmp_path / "run.ckpt/00000100/part-0.h5", "r+") as file:
        del file["theta"]
        file["theta"] = h5py.ExternalLink("/etc/passwd", "theta")
    mend(tmp_path / "run.ckpt/00000100")
    with pytest.warns(UserWarning, match="00000100: damaged, .*: /theta is in /etc/passwd, which"):
        assert store(tmp_path).find_latest().iteration == 50


def test_a_checkpoint_under_the_name_of_another_iteration_is_damage(tmp_path):
    write_on(3, tmp_path, 50)
    (tmp_path / "run.ckpt/00000050").rename(tmp_path / "run.ckpt/00000060")
    with pytest.warns(
        UserWarning, match=r"00000060: damaged, .*: manifest.json is of iteration 50"
    ):
        assert store(tmp_path).find_latest() is None


def test_a_checkpoint_of_another_run_is_damage(tmp_path):
    write_on(1, tmp_path, 50, run="b")
    with pytest.warns(UserWarning, match="manifest.json is of another run"):
        assert CheckpointStore(tmp_path / "run.ckpt", Serial(), "a").find_latest() is None
    assert CheckpointStore(tmp_path / "run.ckpt", Serial(), "b").find_latest().iteration == 50


def test_one_failing_rank_fails_all_alike_and_leaves_the_others_checkpoints(tmp_path, monkeypatch):
    write_on(3, tmp_path, 50)
    whole = module.write_part

    def full(directory, rank, *more):
        if rank == 1:
            raise OSError(28, "No space left on device")
        return whole(directory, rank, *more)

    monkeypatch.setattr(module, "write_part", full)
    errors = write_on(3, tmp_path, 100)
    assert all(isinstance(error, CheckpointError) for error in errors)
    assert len({str(error) for error in errors}) == 1
    assert "rank 1: OSError: [Errno 28] No space left on device" in str(errors[0])
    assert os.listdir(tmp_path / "run.ckpt") == ["00000050"]
    assert store(tmp_path).find_latest().iteration == 50


DISK_FULL = """
import resource, sys
sys.path.insert(0, {tests!r})
from test_store_checkpoint import *
folder = Path({path!r})
store(folder).write(1, state(1))
large = state(2)
large.theta = torch.zeros(1_000_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    store(folder).write(2, large)
except CheckpointError as error:
    print(error)
assert store(folder).find_latest().iteration == 1
assert os.listdir(folder / "run.ckpt") == ["00000001"]
store(folder).write(3, state(3))
assert store(folder).find_latest().iteration == 3
"""


def test_a_file_that_cannot_grow_fails_cleanly(tmp_path, request):
    script = DISK_FULL.format(tests=str(request.path.parent), path=str(tmp_path))
    script = "from pathlib import Path\n" + script
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no checkpoint was written" in done.stdout


@pytest.mark.parametrize(
    "shares, message",
    [
        (lambda comm: state(1, 0, 1), "blocks/0/memory/#: two ranks store it"),
        (lambda comm: state(1, comm.rank, 3, blocks=0 if comm.rank else 1), None),
    ],
)
def test_a_block_has_one_owner(tmp_path, shares, message):
    def write(comm):
        return CheckpointStore(tmp_path / "c", comm).write(1, shares(comm))

    outcomes = on_ranks(3, write)
    assert len({str(outcome) for outcome in outcomes}) == 1
    assert message is None or message in str(outcomes[0])


def test_members_of_a_group_let_their_leader_write_the_block(tmp_path):
    def write(comm):
        shared = state(1, comm.rank, 3)
        shared.blocks = state(1).blocks
        led = [0, 1, 2, 3] if comm.rank == 1 else []
        return CheckpointStore(tmp_path / "run.ckpt", comm).write(1, shared, blocks=led)

    on_ranks(3, write)
    assert_same(store(tmp_path).find_latest().restore(State), state(1))


def test_missing_rows_are_found_when_written(tmp_path):
    part = state(1)
    part.inverse_hessian = RowBlock(matrix(1)[2:5], 2, N)
    with pytest.raises(CheckpointError, match="inverse_hessian: rows 2 and 0"):
        store(tmp_path).write(1, part)


def test_what_cannot_be_stored_is_a_checkpoint_error(tmp_path):
    part = state(1)
    part.theta = {"a": 1}
    with pytest.raises(CheckpointError, match="theta: a state cannot hold a dict"):
        store(tmp_path).write(1, part)
    with pytest.raises(CheckpointError, match="JSON"):
        store(tmp_path).write(1, state(1), {"what": object()})
    assert os.listdir(tmp_path / "run.ckpt") == []


def write_for_ever(path, told):
    """What a forked process does: a checkpoint after the other, each told by a byte."""
    try:
        for iteration in range(10**9):
            store(path).write(iteration % 3 + iteration // 2, state(iteration))
            os.write(told, b".")
    finally:
        os._exit(1)


@pytest.mark.parametrize("seed", range(6))
def test_kill_while_writing_leaves_a_whole_checkpoint(tmp_path, seed):
    reading, writing = os.pipe()
    writer = os.fork()  # which has not to import anything
    if writer == 0:
        write_for_ever(tmp_path, writing)
    os.close(writing)
    assert os.read(reading, 1) == b"."
    time.sleep(random.Random(seed).uniform(0, 0.05))
    os.kill(writer, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]) == -signal.SIGKILL
    os.close(reading)
    latest = store(tmp_path).find_latest()
    restored = latest.restore(State)
    assert_same(restored, state(restored.iteration))
    store(tmp_path).write(10**6, state(7))
    assert store(tmp_path).find_latest().iteration == 10**6
    assert not list((tmp_path / "run.ckpt").glob(".tmp*"))


def test_a_replacement_cut_short_falls_back_to_what_it_replaced(tmp_path):
    path = store(tmp_path).write(5, state(5))
    path.rename(path.with_name(path.name + ".replaced"))
    assert store(tmp_path).find_latest().iteration == 5
    store(tmp_path).write(5, state(5))
    assert os.listdir(tmp_path / "run.ckpt") == ["00000005"]


def test_manifest_says_where_each_leaf_is(tmp_path):
    path = write_on(3, tmp_path, 50)[0]
    content = json.loads((path / "manifest.json").read_text())["content"]
    rows = content["leaves"]["inverse_hessian"]
    assert rows["shape"] == [N, N] and len(rows["pieces"]) == 3
    assert content["leaves"]["theta"]["pieces"][0]["part"] == "part-0.h5"
    assert sorted(content["parts"]) == ["part-0.h5", "part-1.h5", "part-2.h5"]


def memory(name):
    """Of this process, in bytes: "VmRSS" now, "VmHWM" at most since `clear_refs` was written."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = (line for line in lines if line.startswith(f"{name}:"))
    return 1024 * int(found.split()[1])


@dataclass
class Matrix:
    H: RowBlock


def test_a_large_matrix_is_written_and_read_without_a_second_copy_in_memory(tmp_path):
    rows = torch.ones(4000, 4000, dtype=torch.float64)
    store = CheckpointStore(tmp_path, Serial())
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("this system does not tell the peak of a part of a process")
    before = memory("VmRSS")
    store.write(1, Matrix(RowBlock(rows, 0, 4000)))
    assert memory("VmHWM") - before < rows.nbytes / 2
    checkpoint = store.find_latest()
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    back = checkpoint.restore(Matrix)
    assert torch.equal(back.H.rows, rows)
    assert memory("VmHWM") - before < 1.5 * rows.nbytes
