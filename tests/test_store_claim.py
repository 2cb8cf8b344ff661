"""One process at a time writes a run file; its lock ends with it, and no reader meets it."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import pytest

from hpctrain.errors import InputError
from hpctrain.store import claim as claims
from hpctrain.store.claim import Claim, InUseError
from hpctrain.store.run_file import RunWriter, holds_no_record, read_run


def writer(path, **changes):
    columns = {"iteration": "i8", "loss": "f8"}
    settings = {"job": "", "environment": {}, "columns": columns, "phases": ["local"], "ranks": 1}
    return RunWriter(path, **(settings | changes))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.h5"


def test_a_run_file_that_is_being_written_is_in_use_until_its_writer_closes_it(path):
    run = writer(path)
    run.append({"iteration": 0, "loss": 1.0})
    with pytest.raises(InUseError, match=r"a\.h5: another process writes this run file$"):
        Claim(path)
    run.close()
    Claim(path).release()


def test_a_run_that_goes_on_keeps_its_file_through_the_change_of_files(path):
    with writer(path) as run:
        run.append({"iteration": 0, "loss": 1.0})
    resumed = writer(path, past=read_run(path), claim=Claim(path))
    with pytest.raises(InUseError):
        Claim(path)
    resumed.finish("done")
    Claim(path).release()


def test_of_writers_that_start_at_once_one_wins_and_nothing_else_is_left(path):
    def attempt(_):
        try:
            run = writer(path)
        except InputError:  # in use, or there with a record already
            return None
        run.append({"iteration": 0, "loss": 1.0})
        return run

    with ThreadPoolExecutor(4) as pool:
        runs = [run for run in pool.map(attempt, range(4)) if run]
    assert len(runs) == 1
    runs[0].finish("done")
    assert len(read_run(path).history["loss"]) == 1
    assert os.listdir(path.parent) == ["a.h5"]


def test_a_file_that_was_replaced_meanwhile_is_no_place_for_another(path):
    first, second = Claim(path), Claim(path)
    writer(path, claim=first).close()
    with pytest.raises(InUseError):
        second.build()
    assert os.listdir(path.parent) == ["a.h5"]


HOLDER = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_store_claim import writer
run = writer(Path({path!r}))
run.append({{"iteration": 0, "loss": 1.0}})
print("ready", flush=True)
time.sleep(60)
"""


def test_the_lock_of_a_killed_writer_is_gone_and_readers_never_meet_it(path, request, python):
    script = HOLDER.format(tests=str(request.path.parent), path=str(path))
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"ready\n"
        with pytest.raises(InUseError):
            Claim(path)
        assert len(read_run(path).history["loss"]) == 1
        reader = f"import h5py; h5py.File({str(path)!r}, swmr=True)['history/loss'][0]"
        for locking in ("TRUE", "FALSE"):
            assert python("-c", reader, HDF5_USE_FILE_LOCKING=locking).returncode == 0
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    Claim(path).release()
    assert os.listdir(path.parent) == ["a.h5"]


def test_a_file_system_without_locks_locks_nothing_out(path, monkeypatch):
    def refuse(*_):
        raise OSError(claims.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(claims.fcntl, "fcntl", refuse)
    with writer(path) as run:
        run.append({"iteration": 0, "loss": 1.0})
        Claim(path).release()


@pytest.mark.parametrize("records", [0, 1])
def test_a_file_without_a_record_is_replaced_and_no_other(path, records):
    with writer(path) as run:
        for iteration in range(records):
            run.append({"iteration": iteration, "loss": 1.0})
    assert holds_no_record(path) == (records == 0)


def test_what_is_no_run_file_does_not_pass_for_one_without_a_record(path):
    assert not holds_no_record(path)
    path.write_bytes(b"")
    assert not holds_no_record(path)
    with h5py.File(path, "w") as file:
        file["history/iteration"] = []
    assert not holds_no_record(path)


def test_a_file_that_cannot_be_written_leaves_nothing_behind(path):
    with pytest.raises(UnicodeEncodeError):
        writer(path, job="\udcff")
    assert os.listdir(path.parent) == []
    with pytest.raises(OSError, match="No such file"):
        writer(Path("/proc/none/a.h5"))
