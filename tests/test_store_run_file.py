"""The run file: readable at every instant, complete at the end, clear when it is not what it is."""

import contextlib
import math
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from hpctrain.store.run_file import Entry, RunFileError, RunWriter, read_run

COLUMNS = {"loss": "f8", "iteration": "i8", "error": "f8"}
PHASES = ("local", "global")
JOB = '[problem]\nname = "burgers"\n'


def writer(path, **changes):
    settings = {
        "job": JOB,
        "environment": {"ranks": 2, "host": "node1", "gpu": False},
        "columns": COLUMNS,
        "phases": PHASES,
        "ranks": 2,
    }
    return RunWriter(path, **(settings | changes))


def row(iteration):
    return {"iteration": iteration, "loss": 1.0 / (1 + iteration), "error": math.nan}


def times(iteration, ranks=2):
    return np.full((ranks, 2, 2), float(iteration))


def test_finished_run_reads_back(tmp_path):
    path = tmp_path / "runs" / "a.h5"
    run = writer(path, iterate_size=3)
    for i in range(5):
        run.append(row(i), times(i) if i else None)
    run.append_iterate(3, np.arange(3.0))
    x, t = np.linspace(0, 1, 4), np.linspace(0, 1, 2)
    field = np.ones((4, 2))
    run.finish("error reached", {"prediction": field, "reference": 2 * field, "x": x, "t": t})

    back = read_run(path)
    assert (back.stop_reason, back.job, back.phase_names) == ("error reached", JOB, PHASES)
    assert back.attributes["ranks"] == 2 and back.attributes["gpu"] is False
    assert back.attributes["format"] == "hpctrain-run/1"
    assert back.history["iteration"].tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(back.history["error"]).all()
    assert np.isnan(back.phases[0]).all() and (back.phases[4] == 4).all()
    assert back.iterates.iteration.tolist() == [3]
    assert back.iterates.theta.tolist() == [[0, 1, 2]]
    assert list(back.solution) == ["prediction", "reference", "x", "t"]
    assert np.array_equal(back.solution["t"], t)
    assert [file.name for file in path.parent.iterdir()] == ["a.h5"]


def test_each_record_can_be_read_while_the_run_goes_on(tmp_path):
    path = tmp_path / "a.h5"
    with writer(path) as run:
        for i in range(3):
            run.append(row(i), times(i))
            seen = read_run(path)
            assert seen.history["iteration"].tolist() == list(range(i + 1))
            assert len(seen.phases) == len(seen.history["loss"]) == i + 1
            assert seen.stop_reason == "running"


def test_records_written_together_read_as_those_written_one_by_one(tmp_path):
    entries = [Entry(row(i), times(i) if i % 3 else None, None) for i in range(2500)]
    runs = []
    for name, size in (("together", 1100), ("single", 1)):
        path = tmp_path / f"{name}.h5"
        with writer(path) as run:
            for start in range(0, len(entries), size):
                run.extend(entries[start : start + size])
            runs += [read_run(path)]
            run.finish("done")
        runs += [read_run(path)]
    for run in runs[1:]:
        for name, values in runs[0].history.items():
            assert values.tobytes() == run.history[name].tobytes()
        assert np.array_equal(runs[0].phases, run.phases, equal_nan=True)
    assert len(runs[0].history["iteration"]) == len(runs[0].phases) == len(entries)
    assert np.isnan(runs[0].phases[::3]).all() and (runs[0].phases[2::3] > 0).all()


@pytest.mark.parametrize("is_known", [False, True])
def test_the_last_record_gets_the_times_up_to_the_end_if_it_has_none(tmp_path, is_known):
    run = writer(tmp_path / "a.h5")
    run.append(row(0), times(1))
    run.append(row(1), times(2) if is_known else None)
    run.finish("over", phases=times(7), traffic=np.full((2, 2), 5.0))
    back = read_run(tmp_path / "a.h5")
    assert (back.phases[0] == 1).all() and (back.phases[1] == (2 if is_known else 7)).all()
    assert np.isnan(back.traffic[0]).all() and (back.traffic[1] == 5).all()


def test_phases_of_many_ranks_take_space_only_where_they_were_measured(tmp_path):
    path = tmp_path / "a.h5"
    with writer(path, ranks=1000) as run:
        run.extend([Entry(row(i), times(i, 1000) if i == 50 else None) for i in range(100)])
        back = read_run(path)
    assert len(back.phases) == 100 and (back.phases[50] == 50).all()
    assert np.isnan(np.delete(back.phases, 50, axis=0)).all()
    assert path.stat().st_blocks * 512 < 10 * times(0, 1000).nbytes


def test_a_column_may_name_hundreds_of_values(tmp_path):
    stages = {f"{number} ssbroyden": number for number in range(1, 301)}
    with writer(tmp_path / "a.h5", columns=COLUMNS | {"stage": stages}) as run:
        for number in (1, 128, 300):
            run.append(row(number) | {"stage": number}, times(number))
        assert read_run(tmp_path / "a.h5").history["stage"].tolist() == [1, 128, 300]


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from test_store_run_file import row, times, writer
run = writer({path!r}, iterate_size=2)
for i in range(10**9):
    run.append(row(i), times(i))
    print(i, flush=True)
"""


@pytest.mark.parametrize("records", [0, 1, 40, 300])
def test_killed_run_keeps_all_its_records(tmp_path, request, records):
    path = tmp_path / "a.h5"
    script = KILLED.format(tests=str(request.path.parent), path=str(path))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if int(line) >= records:
            break
    process.send_signal(signal.SIGKILL)
    printed = [int(line) for line in process.stdout.read().splitlines()[:-1]]
    process.wait()

    back = read_run(path)
    count = len(back.history["iteration"])
    assert count > max([records, *printed])
    assert back.history["iteration"].tolist() == list(range(count))
    assert np.array_equal(back.history["loss"], 1.0 / (1 + np.arange(count)))
    assert (back.phases == np.arange(count)[:, None, None, None]).all()


def test_a_half_written_record_does_not_count(tmp_path):
    path = tmp_path / "a.h5"
    with writer(path) as run:
        run.append(row(0), times(0))
        run._columns["loss"].append(np.array([0.5]))
        assert len(read_run(path).history["loss"]) == 1


FINISHING = """
import sys
sys.path.insert(0, {tests!r})
from test_store_run_file import row, times, writer
import numpy as np
run = writer({path!r})
run.append(row(0), times(0))
print("ready", flush=True)
run.finish("done", {{"prediction": np.ones(2_000_000)}})
"""


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.003, 0.006, 0.01, 0.02])
def test_kill_while_finishing_leaves_a_readable_file(tmp_path, request, delay):
    path = tmp_path / "a.h5"
    script = FINISHING.format(tests=str(request.path.parent), path=str(path))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    process.stdout.readline()
    time.sleep(delay)
    process.kill()
    process.communicate()
    back = read_run(path)
    assert len(back.history["iteration"]) == 1
    assert back.stop_reason in ("running", "done")
    assert (back.solution is not None) == (back.stop_reason == "done")


def test_an_existing_run_is_never_cleared(tmp_path):
    path = tmp_path / "a.h5"
    path.write_text("precious")
    with pytest.raises(RunFileError, match=r"a\.h5: exists already; choose another with -o"):
        writer(path)
    assert path.read_text() == "precious"


def test_resumed_run_goes_on_after_the_kept_records_on_more_ranks(tmp_path):
    path = tmp_path / "a.h5"
    with writer(path, iterate_size=1) as run:
        for i in range(6):
            run.append(row(i), times(i))
            run.append_iterate(i, np.array([float(i)]))
    created = read_run(path).attributes["created"]
    past = read_run(path).keep_until(3)
    with writer(path, ranks=3, environment={"ranks": 3}, iterate_size=1, past=past) as run:
        run.append(row(4), times(4, ranks=3))
    back = read_run(path)
    assert back.history["iteration"].tolist() == [0, 1, 2, 3, 4]
    assert back.iterates.iteration.tolist() == [0, 1, 2, 3]
    assert back.phases.shape == (5, 3, 2, 2)
    assert np.isnan(back.phases[3, 2]).all() and (back.phases[4] == 4).all()
    assert back.attributes["ranks"] == 3 and back.attributes["created"] == created


def test_a_resumed_run_keeps_records_whose_numbers_were_narrower(tmp_path):
    path = tmp_path / "a.h5"
    with writer(path, columns=COLUMNS | {"loss": "f4"}) as run:
        for i in range(3):
            run.append(row(i), times(i))
    with writer(path, past=read_run(path)) as run:
        run.append(row(3), times(3))
    back = read_run(path)
    assert back.history["iteration"].tolist() == [0, 1, 2, 3]
    assert back.history["loss"] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4], rel=1e-6)


def test_resuming_into_other_columns_or_another_file_is_refused(tmp_path):
    path, other = tmp_path / "a.h5", tmp_path / "b.h5"
    for name in (path, other):
        with writer(name) as run:
            run.append(row(0))
    with pytest.raises(RunFileError, match="columns"):
        writer(path, columns={"iteration": "i8"}, past=read_run(path))
    with pytest.raises(RunFileError, match="exists already"):
        writer(other, past=read_run(path))


def test_columns_must_be_those_announced(tmp_path):
    with writer(tmp_path / "a.h5") as run:
        with pytest.raises(RunFileError, match=r"unknown \['radius'\], missing \['error'\]"):
            run.append({"iteration": 0, "loss": 1.0, "radius": 2.0})
        with pytest.raises(RunFileError, match="iteration holds int64"):
            run.append(row(0) | {"iteration": 0.5})
        with pytest.raises(RunFileError, match="phases of shape"):
            run.append(row(0), np.zeros((3, 2, 2)))
        with pytest.raises(RunFileError, match="iterate"):
            run.append_iterate(0, np.zeros(2))
        run.append(row(0))
    assert len(read_run(tmp_path / "a.h5").history["loss"]) == 1


def foreign(path, attribute):
    with h5py.File(path, "w") as file:
        if attribute:
            file.attrs["format"] = attribute


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "no such file"),
        (lambda path: path.write_text("loss 1"), "not an HDF5 file"),
        (lambda path: path.write_bytes(b""), "not an HDF5 file"),
        (lambda path: foreign(path, None), "not a run of hpctrain"),
        (lambda path: foreign(path, "other/1"), "not a run of hpctrain"),
        (lambda path: foreign(path, "hpctrain-run/2"), r"newer .*up to hpctrain-run/1"),
        (lambda path: foreign(path, "hpctrain-run/1"), "damaged"),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(tmp_path, make, message):
    path = tmp_path / "a.h5"
    make(path)
    with pytest.raises(RunFileError, match=message) as caught:
        read_run(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_truncated_run_is_refused_in_one_line(tmp_path):
    path = tmp_path / "a.h5"
    with writer(path) as run:
        run.append(row(0), times(0))
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(RunFileError, match="damaged"):
        read_run(path)


def test_a_cut_off_copy_of_a_growing_run_is_refused(tmp_path):
    path, copy = tmp_path / "a.h5", tmp_path / "copy.h5"
    with writer(path) as run:
        for i in range(2000):
            run.append(row(i), times(i))
        content = path.read_bytes()
    copy.write_bytes(content[: len(content) // 4])
    with pytest.raises(RunFileError, match="cut off at"):
        read_run(copy)


def refused(path, copies, monkeypatch):
    """How many of these copies of a run's file are refused, in one line each, at once."""
    monkeypatch.setattr("hpctrain.store.run_file.reader.PAUSES", ())
    count = 0
    for copy in copies:
        path.write_bytes(copy)
        start = time.perf_counter()
        try:
            read = read_run(path)
        except RunFileError as error:
            count += 1
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        else:
            assert np.array_equal(read.history["loss"], 1.0 / (1 + read.history["iteration"]))
        assert time.perf_counter() - start < 1
    return count


def test_a_growing_run_cut_off_anywhere_never_holds_its_reader_up(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    with writer(path) as run:
        for i in range(100):
            run.append(row(i), times(i))
        content = path.read_bytes()
    cuts = range(0, len(content.rstrip(b"\0")), 101)
    copies = (content[:cut] for cut in cuts)
    assert 0.25 * len(cuts) < refused(tmp_path / "copy.h5", copies, monkeypatch)


def test_a_growing_run_cut_off_anywhere_has_all_its_rows_or_is_refused(tmp_path, monkeypatch):
    """Of snapshots too, whose numbers read as if none were written where they are cut off."""
    monkeypatch.setattr("hpctrain.store.run_file.reader.PAUSES", ())
    path, copy = tmp_path / "a.h5", tmp_path / "copy.h5"
    with writer(path, iterate_size=3) as run:
        for i in range(20):
            run.append(row(i), times(i))
            run.append_iterate(i, np.full(3, float(i)))
        content = path.read_bytes().rstrip(b"\0")
    found = []
    for cut in range(0, len(content), 101):
        copy.write_bytes(content[:cut])
        with contextlib.suppress(RunFileError):
            read = read_run(copy)
            found.append((len(read.history["loss"]), len(read.iterates.iteration)))
    copy.write_bytes(content)
    assert read_run(copy).iterates.iteration.tolist() == list(range(20))
    assert set(found) <= {(20, 20)}


def test_a_flipped_bit_in_a_finished_run_is_found_wherever_it_matters(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    run = writer(path)
    for i in range(3):
        run.append(row(i), times(i))
    run.finish("done", {"prediction": np.ones(4), "x": np.ones(4)})
    content, records = path.read_bytes(), np.array([1.0, 1 / 2, 1 / 3]).tobytes()
    places = [content.index(b"burgers"), content.index(b"iteration"), content.index(records) + 9]
    flipped = [content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :] for at in places]
    assert refused(tmp_path / "copy.h5", flipped, monkeypatch) == len(places)


@pytest.mark.parametrize("name", ["history/loss", "history/iteration"])
def test_records_from_a_damaged_one_on_are_left_out_of_a_growing_run(tmp_path, name):
    path, copy = tmp_path / "a.h5", tmp_path / "copy.h5"
    with writer(path) as run:
        for i in range(5):
            run.append(row(i), times(i))
        content = path.read_bytes()
    numbers = read_run(path).history[name.removeprefix("history/")]
    at = content.index(numbers.tobytes()) + 3 * 8 + 1
    copy.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
    message = "damaged, /iteration number 4 and those after it are left out: 2 of 5"
    with pytest.warns(UserWarning, match=message):
        assert read_run(copy).history["iteration"].tolist() == [0, 1, 2]


def test_snapshots_from_a_damaged_one_on_are_left_out_of_a_growing_run(tmp_path):
    path, copy = tmp_path / "a.h5", tmp_path / "copy.h5"
    with writer(path, iterate_size=3) as run:
        for i in range(3):
            run.append(row(i), times(i))
            run.append_iterate(i, np.full(3, 7.25 + i))
        content = path.read_bytes()
    at = content.index(np.full(3, 8.25).tobytes())
    copy.write_bytes(content[:at] + b"\1" + content[at + 1 :])
    with pytest.warns(UserWarning, match="/iterates/iteration number 2 and those after it"):
        assert read_run(copy).iterates.iteration.tolist() == [0]
