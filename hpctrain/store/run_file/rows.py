"""A data set of a run file to which rows are appended."""

import h5py
import numpy as np
from h5py import h5s, h5t

from hpctrain.store.run_file.contents import NO_ITERATION

CHUNK_BYTES = 8192


class Rows:
    """A data set that grows along its first dimension.

    It uses h5py's low-level calls, which take a third of the time of the others, and keeps what
    they would make anew each time, type and data spaces, which takes as long again.

    Args:
        group: the group in which it is made.
        name: its name there.
        dtype: the type of its numbers.
        row_shape: the shape of one row.
        past: the rows that it begins with, (rows, *row_shape). Each extent may be smaller; what
            lacks is filled.
    """

    def __init__(
        self,
        group: h5py.Group,
        name: str,
        dtype: np.dtype,
        row_shape: tuple[int, ...] = (),
        past: np.ndarray | None = None,
    ) -> None:
        self.shape, self.dtype = row_shape, dtype
        self._length = 0 if past is None else len(past)
        row_bytes = dtype.itemsize * int(np.prod(row_shape))
        dataset = group.create_dataset(
            name,
            shape=(self._length, *row_shape),
            maxshape=(None, *row_shape),
            chunks=(max(1, CHUNK_BYTES // row_bytes), *row_shape),
            dtype=dtype,
            fillvalue=np.nan if dtype.kind == "f" else NO_ITERATION,
        )
        if past is not None:
            dataset[tuple(slice(extent) for extent in past.shape)] = past
        self._id = dataset.id
        self._type = h5t.py_create(dtype)
        self._memory = h5s.create_simple((1, *row_shape))
        self._space = h5s.create_simple((1, *row_shape), (h5s.UNLIMITED, *row_shape))

    def append(self, rows: np.ndarray) -> None:
        """Appends rows (k, *row_shape) and hands them to the operating system."""
        values = np.ascontiguousarray(rows, self.dtype)
        self._memory.set_extent_simple(values.shape)
        start = (self._length, *(0 for _ in self.shape))
        extent = self._grow(len(values))
        self._space.set_extent_simple(extent, (h5s.UNLIMITED, *self.shape))
        self._space.select_hyperslab(start, values.shape)
        self._id.write(self._memory, self._space, values, self._type)
        self._id.flush()

    def skip(self, count: int) -> None:
        """Appends rows that are not known: they read as filled, and take no space by themselves."""
        self._grow(count)
        self._id.flush()

    def _grow(self, count: int) -> tuple[int, ...]:
        """Makes the data set longer; its new extent."""
        self._length += count
        extent = (self._length, *self.shape)
        self._id.set_extent(extent)
        return extent
