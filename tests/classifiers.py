"""A tiny classification problem, and its files in the formats that readers know."""

import gzip
import struct
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import nn

from hpctrain.networks.classifiers import make_fcnn
from hpctrain.networks.module import ModuleNetwork
from hpctrain.objective import Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.classification.problem import ClassificationProblem
from hpctrain.problems.data.sets import DataSet, Part

CLASSES = 10


def images(count, shape=(1, 6, 6), seed=0):
    """Bytes with labels: a pattern for each class, under noise that differs by the seed."""
    patterns = np.random.default_rng(7).integers(0, 128, (CLASSES, *shape))
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    values = patterns[labels] + random.integers(0, 128, (count, *shape))
    return values.astype(np.uint8), labels.astype(np.uint8)


def part(count, shape=(1, 6, 6), seed=0):
    values, labels = images(count, shape, seed)
    # Two blocks, the second of which is read after the first.
    blocks = [values[: count // 3], values[count // 3 :]]
    return Part("a test", shape, labels, lambda: iter(blocks))


def tiny_problem(train=53, test=20, hidden=(7, 5), dtype=torch.float64, make=None, **options):
    shape = (1, 6, 6)
    make = make or partial(make_fcnn, 36, list(hidden), CLASSES, nn.Tanh)
    data = DataSet("tiny", part(train), part(test, seed=1), CLASSES)
    return ClassificationProblem(data, ModuleNetwork("net", make, shape), dtype=dtype, **options)


def objective_of(problem, chunks=8, threads=1, communicator=None):
    communicator = communicator or Communicator()
    return Objective.of(problem, communicator, chunks, threads)


def write_idx(path: Path, values: np.ndarray) -> Path:
    """An IDX file of bytes, compressed if its name ends so."""
    data = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    data += values.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_mnist(folder: Path, train=64, test=16, side=6, suffix="") -> Path:
    """The four files of MNIST with images side x side."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("train", train, 0), ("t10k", test, 1)):
        values, labels = images(count, (side, side), seed)
        write_idx(folder / f"{name}-images-idx3-ubyte{suffix}", values)
        write_idx(folder / f"{name}-labels-idx1-ubyte{suffix}", labels)
    return folder


def write_cifar(folder: Path, count=4) -> list[np.ndarray]:
    """The six files of CIFAR-10; returns the images of each."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    written = []
    for seed, name in enumerate(names):
        values, labels = images(count, (3, 32, 32), seed)
        records = np.column_stack([labels, values.reshape(count, -1)])
        (folder / name).write_bytes(records.astype(np.uint8).tobytes())
        written.append(values)
    return written


def write_h5(path: Path, train=40, test=12, features=10, classes=3) -> Path:
    """Points about centres of their classes, as a user's own data."""
    random = np.random.default_rng(0)
    centres = 3 * random.standard_normal((classes, features))
    with h5py.File(path, "w") as file:
        for name, count in (("train", train), ("test", test)):
            labels = np.arange(count) % classes
            noise = random.standard_normal((count, features))
            file[f"{name}/inputs"] = (centres[labels] + noise).astype(np.float32)
            file[f"{name}/labels"] = labels
    return path
