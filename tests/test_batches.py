"""Mini-batches partition the samples in every epoch, and are a function of seed and epoch."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpctrain.methods.sampling.epochs import batch, count_batches
from hpctrain.methods.sampling.mini_batches import MiniBatches


@given(samples=st.integers(1, 200), size=st.integers(1, 250), epoch=st.integers(0, 5))
def test_an_epoch_is_a_partition_into_batches_of_nearly_equal_size(samples, size, epoch):
    count = count_batches(samples, size)
    parts = [batch(3, epoch, index, size, samples) for index in range(count)]
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(samples))
    sizes = [len(part) for part in parts]
    assert max(sizes) <= size and max(sizes) - min(sizes) <= 1
    assert all((part.diff() > 0).all() for part in parts)


def test_batches_differ_by_epoch_and_seed_and_come_again():
    first = batch(0, 0, 0, 10, 100)
    assert not torch.equal(first, batch(0, 1, 0, 10, 100))
    assert not torch.equal(first, batch(1, 0, 0, 10, 100))
    assert torch.equal(first, batch(0, 0, 0, 10, 100))


def test_one_batch_holds_all_samples():
    assert torch.equal(batch(0, 0, 0, 100, 100), torch.arange(100))


def test_overlaps_are_drawn_anew_for_each_batch_and_rounded_up():
    overlapping, alone = (MiniBatches(0, (40,), 20, percent) for percent in (12.0, 0.0))
    places = set()
    for iteration in range(6):
        own = alone.choose(iteration).numpy()
        more = np.setdiff1d(overlapping.choose(iteration).numpy(), own)
        assert len(more) == 3  # of 2.4
        others = np.setdiff1d(np.arange(40), own)
        places.add(tuple(np.searchsorted(others, more)))
    assert len(places) > 1
