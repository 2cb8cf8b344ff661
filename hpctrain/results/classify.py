"""`hpctrain predict` of a classifier: the classes of samples, and their probabilities."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.data.tables import ENDS, make_writer
from hpctrain.results.outputs import check_end
from hpctrain.results.samples import Classifier, Samples, open_samples
from hpctrain.results.writing import check_apart, write_blocks

# Samples that are evaluated at a time.
BLOCK = 1 << 10
LABEL, PREDICTED, PROBABILITY = "label", "predicted", "p"


def classify(
    run: str,
    problem: Classifier,
    theta: Tensor,
    samples: str,
    output: str,
    ranks: Communicator,
) -> str:
    """Writes a table with a row a sample; says what was done; collective.

    Its columns are `predicted`, the label of the most likely class, `p_0`, `p_1`, … the
    probabilities of all labels, and `label`, where the samples' own are known.

    Args:
        run: its file, for messages.
        problem: the run's.
        theta: its parameters (n,).
        samples: a file, or "test".
        output: the table.

    Raises:
        InputError: something is not as it must be; nothing is written then.
    """
    target = Path(output)
    given = ranks.run_on_all(lambda: _open(target, run, samples, problem))
    labelling = _Labelling(problem, theta, given, samples)

    def begin(path: Path, types: Mapping[str, np.dtype]):
        return make_writer(path, types, given.count)

    write_blocks(ranks, given.count, BLOCK, labelling.evaluate, target, begin)
    said = f"{output}: classes of {given.count} samples"
    if given.labels is None:
        return said
    total = sum(ranks.allgather(labelling.right))
    return f"{said}, {total / max(given.count, 1):.2%} as they are labelled"


def _open(target: Path, run: str, samples: str, problem: Classifier) -> Samples:
    check_end(target, ENDS)
    check_apart(target, run, samples)
    return open_samples(samples, problem)


class _Labelling:
    """Labels samples block by block.

    Attributes:
        right: how many of them are labelled as they are known to be.
    """

    def __init__(self, problem: Classifier, theta: Tensor, given: Samples, name: str) -> None:
        self._classes, self._given, self._name = problem.classes, given, name
        self._evaluate_probabilities = problem.make_classifier(theta)
        self.right = 0

    def evaluate(self, first: int, last: int) -> Mapping[str, np.ndarray]:
        """The columns of samples first … last - 1."""
        rows = self._given.read(first, last)
        if not np.isfinite(getattr(rows, "data", rows)).all():
            raise InputError(f"{self._name}: samples {first} to {last - 1} are not all finite")
        found = self._evaluate_probabilities(rows)
        predicted = self._classes[found.argmax(axis=1)]
        columns = {PREDICTED: predicted}
        if self._given.labels is not None:
            columns[LABEL] = self._given.labels[first:last].astype(predicted.dtype)
            self.right += int((columns[LABEL] == predicted).sum())
        return columns | {
            f"{PROBABILITY}_{label:g}": found[:, k] for k, label in enumerate(self._classes)
        }
