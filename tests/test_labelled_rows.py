"""Readers of labelled rows, LIBSVM, HDF5 and KEEL, and the set that is made."""

import bz2
import gzip
import lzma

import h5py
import numpy as np
import pytest
import torch
from logistic import random_rows
from scipy.sparse import csr_array

from hpctrain.errors import InputError
from hpctrain.problems.data.gisette_like import COLUMNS, ROWS, gisette_like, gisette_of
from hpctrain.problems.data.keel import read_keel
from hpctrain.problems.data.libsvm import read_libsvm, write_libsvm
from hpctrain.problems.data.sets import DataError, Part
from hpctrain.problems.logistic.problem import LabelledRows, LogisticProblem
from hpctrain.store.samples import read_samples, write_samples


def written(tmp_path, text):
    path = tmp_path / "set.libsvm"
    path.write_text(text)
    return path


def test_pairs_and_comments_are_read(tmp_path):
    data = read_libsvm(written(tmp_path, "+1 1:0.5 3:-2 # a comment\n\n-1 2:1e3\n"))
    np.testing.assert_array_equal(data.labels, [1, -1])
    np.testing.assert_array_equal(data.features, [[0.5, 0, -2], [0, 1000, 0]])


def test_few_non_zeros_stay_sparse(tmp_path):
    data = read_libsvm(written(tmp_path, "1 1:1\n2 10:1\n"))
    assert isinstance(data.features, csr_array)
    assert data.features.shape == (2, 10)


def test_more_than_a_quarter_of_non_zeros_is_made_dense(tmp_path):
    quarter = "1 1:1\n2 4:1\n1 2:1\n"
    assert isinstance(read_libsvm(written(tmp_path, quarter)).features, csr_array)
    more = read_libsvm(written(tmp_path, quarter.replace("1 2:1", "1 2:1 3:1")))
    assert isinstance(more.features, np.ndarray)


@pytest.mark.parametrize("features", [2, 3, 5])
def test_there_are_as_many_features_as_expected_or_the_greatest_index_is_refused(
    tmp_path, features
):
    path = written(tmp_path, "1 1:1\n2 3:1\n")
    if features >= 3:
        assert read_libsvm(path, features).features.shape == (2, features)
        return
    with pytest.raises(InputError, match="a feature has index 3; at most 2 are expected"):
        read_libsvm(path, features)


def test_zeros_are_not_written(tmp_path):
    rows = csr_array((np.array([2.0, 0.0]), np.array([0, 1]), np.array([0, 2])), shape=(1, 2))
    write_libsvm(tmp_path / "x", LabelledRows(rows, np.array([1.0])))
    assert (tmp_path / "x").read_text() == "+1 1:2.0\n"


@pytest.mark.parametrize("sparse", [False, True])
def test_written_rows_are_read_back_to_the_bit(tmp_path, sparse):
    data = random_rows(sparse=sparse)
    write_libsvm(tmp_path / "x", data)
    write_samples(tmp_path / "x.h5", data.features, data.labels)
    for found in (read_libsvm(tmp_path / "x"), LabelledRows(*read_samples(tmp_path / "x.h5"))):
        np.testing.assert_array_equal(csr_array(found.features).toarray(),
                                      csr_array(data.features).toarray())  # fmt: skip
        np.testing.assert_array_equal(found.labels, data.labels)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1 1:1\none 1:1\n", "line 2: the label, 'one', is not a finite number"),
        ("1 1:1\n-1 1:1 2\n", "line 2: '2' is not index:value"),
        ("1 a:1\n", "line 1: 'a:1' is not index:value"),
        ("1 0:1\n", "line 1: index 0 follows 0; indices start at 1 and ascend"),
        ("1 2:1 2:3\n", "line 1: index 2 follows 2"),
        ("1 3:nan\n", "line 1: the value of feature 3, 'nan', is not a finite number"),
        ("# nothing\n", "there are no samples"),
        (
            "1 1:1\n1 1000000000000:1\n",
            "line 2: index '1000000000000' is not allowed, at most 100000",
        ),
        (f"1 {10**20}:1\n", "line 1: index '100000000000000000000' is not allowed"),
        (f"1 {'9' * 5000}:1\n", "is not allowed, at most 100000000: there is a parameter for each"),
        ("1 \u0661:1\n", "line 1: '\u0661:1' is not index:value"),
        ("1 1:1_0\n", "the value of feature 1, '1_0', is not a finite number"),
        ("1 qid:3 1:1\n", "line 1: 'qid:3' is not index:value"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, text, fault):
    path = written(tmp_path, text)
    with pytest.raises(InputError) as error:
        read_libsvm(path)
    assert str(path) in str(error.value) and fault in str(error.value)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_files_are_read_whatever_their_name_and_damaged_ones_are_named(
    tmp_path, compress
):
    path, whole = tmp_path / "set.libsvm", compress(b"+1 1:0.5 3:-2\n-1 2:1e3\n" * 99)
    path.write_bytes(whole)
    assert read_libsvm(path).features.shape == (198, 3)
    middle = len(whole) // 2
    for damaged in (whole[:-9], whole[:7], whole[:middle] + b"\0\xff\0" + whole[middle + 3 :]):
        path.write_bytes(damaged)
        with pytest.raises(InputError) as error:
            read_libsvm(path)
        assert str(error.value).startswith(f"{path}: cannot read the samples: damaged: ")


@pytest.mark.parametrize("sparse", [False, True])
def test_a_feature_that_is_not_finite_in_the_runs_precision_is_named(sparse):
    data = random_rows(sparse=sparse)
    features = csr_array(data.features).toarray()
    features[2, 1] = 1e39
    features = csr_array(features) if sparse else features
    rows = LabelledRows(features, data.labels)
    LogisticProblem(rows, "a test")
    with pytest.raises(
        InputError, match=r"^a test: a feature of sample 2 is not finite in float32"
    ):
        LogisticProblem(rows, "a test", dtype=torch.float32)


def test_more_features_than_parameters_can_be_are_refused():
    rows = LabelledRows(csr_array((2, 10**9)), np.array([-1.0, 1.0]))
    with pytest.raises(
        InputError, match=r"^a test: 1000000000 features, allowed are 1 to 100000000"
    ):
        LogisticProblem(rows, "a test")


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"nowhere\.libsvm: cannot read the samples"):
        read_libsvm("nowhere.libsvm")
    with pytest.raises(InputError, match=r"nowhere\.h5: not samples in HDF5 format"):
        read_samples("nowhere.h5")


def test_hdf5_parts_that_do_not_fit_are_named(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["labels"], file["features"] = np.ones(3), np.ones((2, 5))
    with pytest.raises(InputError, match=r"features of shape \(2, 5\) and labels of shape \(3,\)"):
        read_samples(tmp_path / "x.h5")
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["labels"] = np.ones(3)
    with pytest.raises(InputError, match=r"y\.h5"):
        read_samples(tmp_path / "y.h5")


def test_a_keel_table_is_scaled_to_its_range(tmp_path):
    path = tmp_path / "table.dat"
    path.write_text("@relation x\n0,5,1,0\n10,5,2,1\n5,5,4,1\n")
    data = read_keel(path)
    np.testing.assert_allclose(data.features, [[-1, 0, -1], [1, 0, -1 / 3], [0, 0, 1]])
    np.testing.assert_array_equal(data.labels, [0, 1, 1])


def test_the_set_that_is_made_has_the_recipes_shape_and_is_the_same_every_time():
    data, again = gisette_like(200, 800, seed=3), gisette_like(200, 800, seed=3)
    assert data.features.shape == (200, 800)
    assert (data.labels == again.labels).all() and (data.features != again.features).nnz == 0
    assert (data.labels == 1).sum() == 100
    assert data.features.min() >= 0 and data.features.max() <= 1
    quantised = data.features.data * 999
    np.testing.assert_allclose(quantised, np.round(quantised), atol=1e-9)


def test_half_of_the_features_that_are_made_say_something_of_the_label():
    """Probes correlate with the label as chance has it, which is |r| ~ 1/√p; real ones do more."""
    data = gisette_like(1000, 800, seed=3)
    columns = data.features.toarray()
    columns = columns[:, columns.std(axis=0) > 0]
    r = np.abs([np.corrcoef(column, data.labels)[0, 1] for column in columns.T])
    assert 0.25 < (r > 4 / np.sqrt(1000)).mean() <= 0.5


def test_the_set_of_digits_has_their_pixels_and_products_and_as_many_fours_as_nines():
    """An image of one pixel has one feature of its own, and products with itself."""
    labels = np.array([4, 9, 1, 4, 9, 4] * 5, np.uint8)
    images = np.zeros((30, 1, 28, 28), np.uint8)
    images[np.arange(30), 0, ROWS.start + 2, COLUMNS.start + np.arange(30) % 16] = 255
    digits = Part("digits", (1, 28, 28), labels, lambda: iter([images]))
    data = gisette_of(digits, samples=20, features=600, seed=1)
    again = gisette_of(digits, samples=20, features=600, seed=1)
    assert data.features.shape == (20, 600) and (data.features != again.features).nnz == 0
    assert sorted(data.labels) == [-1.0] * 10 + [1.0] * 10
    assert set(data.features.data) == {1.0}
    assert 2 * 20 <= data.features.nnz < 6 * 20  # a pixel and its product with itself, twice
    with pytest.raises(DataError, match="10 images of 9, at least 11 are needed"):
        gisette_of(digits, samples=22, features=600)
