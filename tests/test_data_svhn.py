"""SVHN's MATLAB files: read as images by channels, damaged ones named in one line."""

import numpy as np
import pytest
from scipy import io

from hpctrain.errors import InputError
from hpctrain.problems.data import shipped


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32)).astype(np.uint8)


def write(folder, images, labels, name="train"):
    X = images.transpose(2, 3, 1, 0)
    io.savemat(folder / f"{name}_32x32.mat", {"X": X, "y": labels[:, None]}, do_compression=True)


def load(folder, images, labels):
    write(folder, images, labels)
    write(folder, images[:4], labels[:4], "test")
    return shipped.load("svhn", str(folder))


def test_the_label_ten_is_the_digit_zero_and_channels_come_first(tmp_path, images):
    labels = np.arange(12) % 10 + 1
    data = load(tmp_path, images, labels)
    assert (data.train.shape, data.classes, data.test.count) == ((3, 32, 32), 10, 4)
    assert data.train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]
    assert np.array_equal(data.train.rows(np.array([7, 2])), images[[7, 2]])


def test_files_that_are_not_svhns_are_named(tmp_path, images):
    labels = np.arange(12) % 10 + 1
    with pytest.raises(InputError, match=r"train_32x32.mat is damaged \(y holds other labels"):
        load(tmp_path, images, labels - 1)
    with pytest.raises(InputError, match=r"X holds uint8 of shape \(32, 32, 3, 12\), expected are"):
        load(tmp_path, images, labels[:5])
    io.savemat(tmp_path / "train_32x32.mat", {"y": labels})
    with pytest.raises(InputError, match=r"train_32x32.mat is damaged \(it has no X\)"):
        shipped.load("svhn", str(tmp_path))
    (tmp_path / "train_32x32.mat").write_bytes(b"no MATLAB file" * 40)
    with pytest.raises(InputError, match=r"train_32x32.mat is damaged \(\w+: "):
        shipped.load("svhn", str(tmp_path))
    (tmp_path / "train_32x32.mat").unlink()
    with pytest.raises(InputError, match=r"there is no train_32x32.mat in .*: put the files of"):
        shipped.load("svhn", str(tmp_path))
