"""`hpctrain predict` of a classifier: the classes of samples, and their probabilities."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.data.tables import ENDS, make_writer
from hpctrain.results.outputs import check_end
from hpctrain.results.samples import Classifier, open_samples
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

    def open_all():
        check_end(target, ENDS)
        check_apart(target, run, samples)
        return open_samples(samples, problem)

    given = ranks.run_on_all(open_all)
    evaluate_probabilities = problem.make_classifier(theta)
    right = 0

    def evaluate(first: int, last: int) -> Mapping[str, np.ndarray]:
        nonlocal right
        rows = given.read(first, last)
        if not np.isfinite(getattr(rows, "data", rows)).all():
            raise InputError(f"{samples}: samples {first} to {last - 1} are not all finite")
        found = evaluate_probabilities(rows)
        predicted = problem.classes[found.argmax(axis=1)]
        columns = {PREDICTED: predicted}
        if given.labels is not None:
            columns[LABEL] = given.labels[first:last].astype(predicted.dtype)
            right += int((columns[LABEL] == predicted).sum())
        return columns | {
            f"{PROBABILITY}_{label:g}": found[:, k] for k, label in enumerate(problem.classes)
        }

    def begin(path: Path, types: Mapping[str, np.dtype]):
        return make_writer(path, types, given.count)

    write_blocks(ranks, given.count, BLOCK, evaluate, target, begin)
    said = f"{output}: classes of {given.count} samples"
    if given.labels is None:
        return said
    total = sum(ranks.allgather(right))
    return f"{said}, {total / max(given.count, 1):.2%} as they are labelled"
