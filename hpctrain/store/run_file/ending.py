"""Completes the run file of a run that has ended: adds the solution and a checksum of all data."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from hpctrain.store import attributes, files
from hpctrain.store.attributes import Scalar
from hpctrain.store.run_file.contents import compute_checksum
from hpctrain.store.space import Sink


def replace_by_finished(
    path: Path,
    ending: Mapping[str, Scalar | Sequence[str]],
    solution: Mapping[str, np.ndarray] | None,
    parameters: np.ndarray | None,
    last: Mapping[str, np.ndarray],
) -> None:
    """Replaces a file that has grown, and that nobody writes any more, by a complete one.

    Args:
        path: of the run file.
        ending: root attributes that are known at the end only.
        solution, parameters: as for `RunWriter.finish`.
        last: the rows of data sets for the last record, where they were not known when it came.
    """
    temporary = files.make_temporary_name(path.with_name(f"{path.name}.end"))
    try:
        _write(temporary, path, ending, solution, parameters, last)
        files.sync(temporary)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    files.rename(temporary, path)


def _write(
    temporary: Path,
    path: Path,
    ending: Mapping[str, Scalar | Sequence[str]],
    solution: Mapping[str, np.ndarray] | None,
    parameters: np.ndarray | None,
    last: Mapping[str, np.ndarray],
) -> None:
    with (
        h5py.File(path, "r") as grown,
        Sink(temporary) as sink,
        h5py.File(sink, "w", libver="latest") as new,
    ):
        for name in grown:
            grown.copy(name, new)
        for name, row in last.items():
            if len(new[name]) and np.isnan(new[name][-1]).all():
                new[name][-1] = row
        attributes.write(new, {**attributes.read(grown), **ending})
        if solution is not None:
            _write_solution(new, solution)
        if parameters is not None:
            new["parameters"] = parameters
        attributes.write(new, {"crc32": compute_checksum(new)})
    sink.check()


def _write_solution(file: h5py.File, solution: Mapping[str, np.ndarray]) -> None:
    group = file.create_group("solution")
    for name, values in solution.items():
        group[name] = values
    attributes.write(group, {"order": list(solution)})
