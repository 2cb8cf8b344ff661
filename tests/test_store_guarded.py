"""Crafted HDF5 files are refused in one line, before anything of them is read."""

import shutil

import h5py
import numpy as np
import pytest

from hpctrain.errors import InputError
from hpctrain.job.settings import load_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.train import run as train
from hpctrain.store import guarded
from hpctrain.store.columns import open_columns
from hpctrain.store.data_sets import DataFileError, read_data_set
from hpctrain.store.guarded import HarmfulFileError, open_to_read
from hpctrain.store.table_file import read_table, write_table

SHORT = ("problem.points=64", "network.depth=3", "network.width=4", "stop.max_iterations=1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run.h5"
    job = load_job("jobs/burgers-lbfgs.toml", (*SHORT, "parallel.threads=1", "parallel.chunks=4"))
    train(job, Communicator(), str(path))
    return path


@pytest.fixture
def run(trained, tmp_path):
    """A run file in a folder `own`, and a file of the right columns outside it."""
    folder = tmp_path / "own"
    folder.mkdir()
    shutil.copy(trained, tmp_path / "outside.h5")
    return shutil.copy(trained, folder / "run.h5")


def link_outside(file):
    del file["history/loss"]
    file["history/loss"] = h5py.ExternalLink("../outside.h5", "history/loss")


def link_by_an_absolute_path(file):
    del file["history/loss"]
    file["history/loss"] = h5py.ExternalLink("/etc/passwd", "loss")


def link_through_another_file(file):
    with h5py.File(file.filename.replace("run.h5", "beside.h5"), "w") as beside:
        beside["loss"] = h5py.ExternalLink("../outside.h5", "history/loss")
    del file["history/loss"]
    file["history/loss"] = h5py.ExternalLink("beside.h5", "loss")


def take_virtual_rows_outside(file):
    shape = file["history/loss"].shape
    layout = h5py.VirtualLayout(shape, "f8")
    layout[:] = h5py.VirtualSource("../outside.h5", "history/loss", shape)
    del file["history/loss"]
    file.create_virtual_dataset("history/loss", layout)


def take_raw_bytes_outside(file):
    del file["history/loss"]
    external = [("/etc/passwd", 0, 16)]
    file.create_dataset("history/loss", (2,), "f8", external=external)


def declare_a_huge_size(file):
    del file["history/loss"]
    file.create_dataset("history/loss", (10**13,), "f8")


def declare_a_huge_chunk(file):
    del file["history/loss"]
    file.create_dataset("history/loss", (2,), "f8", chunks=(2**28,), maxshape=(None,))


def nest_groups(file):
    group = file
    for _ in range(800):
        group = group.create_group("g")


CRAFTED = {
    link_outside: r"/history/loss is in ../outside.h5, which is not in the file's folder",
    link_by_an_absolute_path: r"/history/loss is in /etc/passwd, which is not in the file's folder",
    link_through_another_file: r"/loss is in ../outside.h5, which is not in the file's folder",
    take_virtual_rows_outside: r"/history/loss is in ../outside.h5, which is not",
    take_raw_bytes_outside: r"/history/loss is in /etc/passwd, which is not in the file's folder",
    declare_a_huge_size: r"/history/loss is declared to have 80000000000000 bytes, where the file",
    declare_a_huge_chunk: r"a chunk of /history/loss is declared to have 2147483648 bytes",
    nest_groups: r"groups lie more than 32 deep",
}


@pytest.mark.parametrize("craft", CRAFTED, ids=lambda craft: craft.__name__)
@pytest.mark.parametrize("command", ["report", "resume"])
def test_a_crafted_run_file_is_refused_in_one_line(craft, command, run, refusal):
    with h5py.File(run, "r+") as file:
        craft(file)
    assert CRAFTED[craft] in refusal(command, run)


def test_crafted_tables_columns_and_data_sets_are_refused(tmp_path):
    table, columns, data = (tmp_path / name for name in ("table.h5", "columns.h5", "data.h5"))
    write_table(table, {"a": [1.0]}, {})
    with h5py.File(columns, "w") as file:
        file["a"] = np.ones(1)
    with h5py.File(data, "w") as file:
        for name in ("train/inputs", "test/inputs"):
            file[name] = np.ones((2, 3))
        file["train/labels"] = file["test/labels"] = np.array([0, 1])
    for path in (table, columns, data):
        with h5py.File(path, "r+") as file:
            file["b"] = h5py.ExternalLink("/etc/passwd", "b")
    with pytest.raises(InputError, match="not a table that can be read: /b is in /etc/passwd"):
        read_table(table)
    with pytest.raises(HarmfulFileError, match="/b is in /etc/passwd"):
        open_columns(columns)
    with pytest.raises(DataFileError, match="damaged, or not HDF5: /b is in /etc/passwd"):
        read_data_set(data)


def test_files_of_one_folder_may_share_data_and_groups_may_meet_again(tmp_path):
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["x"] = np.arange(3.0)
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file["linked"] = h5py.ExternalLink("part.h5", "x")
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource("part.h5", "x", (3,))
        file.create_virtual_dataset("virtual", layout)
        file["group/again"] = file["/"]
        file.create_dataset("zipped", (10**6,), "f8", compression="gzip", fillvalue=0)
    with open_to_read(tmp_path / "whole.h5") as file:
        assert file["linked"][2] == file["virtual"][2] == 2.0


def test_large_attributes_and_many_objects_are_refused(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "file.h5", "w") as file:
        for name in "abcd":
            file.create_group(name)
        file["d"].attrs["long"] = np.zeros(100)
    monkeypatch.setattr(guarded, "MOST_OBJECTS", 3)
    with pytest.raises(HarmfulFileError, match="it holds more than 3 objects"):
        next(iter(list_names(tmp_path / "file.h5")))
    monkeypatch.setattr(guarded, "MOST_OBJECTS", 4)
    monkeypatch.setattr(guarded, "SLACK_BYTES", 799)
    with pytest.raises(HarmfulFileError, match="attribute long of /d is declared to have 800"):
        next(iter(list_names(tmp_path / "file.h5")))


def list_names(path):
    with open_to_read(path) as file:
        return list(file)
