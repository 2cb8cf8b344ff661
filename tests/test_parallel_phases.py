"""Phase times: exclusive, complete, wall and CPU."""

import time

import numpy as np
import pytest

from hpctrain.parallel import phases
from hpctrain.parallel.phases import PHASES, PhaseTimer


class Clocks:
    """Stands in for the time module: a test moves both clocks."""

    def __init__(self):
        self.wall = self.cpu = 100.0

    def perf_counter(self):
        return self.wall

    def process_time(self):
        return self.cpu

    def advance(self, wall, cpu=0.0):
        self.wall += wall
        self.cpu += cpu


@pytest.fixture
def clocks(monkeypatch):
    clocks = Clocks()
    monkeypatch.setattr(phases, "time", clocks)
    return clocks


def by_phase(timer):
    return dict(zip(PHASES, timer.snapshot().tolist(), strict=True))


def test_nested_phase_is_taken_from_the_outer_one(clocks):
    timer = PhaseTimer()
    clocks.advance(1)
    with timer.phase("global"):
        clocks.advance(2, 4)
        with timer.phase("communication"):
            clocks.advance(8, 16)
        clocks.advance(32, 64)
    clocks.advance(128)
    seconds = by_phase(timer)
    assert seconds["global"] == [34, 68]
    assert seconds["communication"] == [8, 16]
    assert timer.snapshot().sum() == 34 + 68 + 8 + 16


def test_phase_can_be_entered_again_and_within_itself(clocks):
    timer = PhaseTimer()
    for _ in range(3):
        with timer.phase("local"), timer.phase("local"):
            clocks.advance(1)
    assert by_phase(timer)["local"] == [3, 0]


def test_snapshot_includes_the_running_phase_and_is_a_copy(clocks):
    timer = PhaseTimer()
    with timer.phase("io"):
        clocks.advance(1)
        first = timer.snapshot()
        clocks.advance(1)
    assert first.sum() == 1
    assert by_phase(timer)["io"] == [2, 0]


def test_phase_ends_when_its_body_raises(clocks):
    timer = PhaseTimer()
    with pytest.raises(KeyError), timer.phase("local"):
        clocks.advance(1)
        raise KeyError
    clocks.advance(5)
    assert by_phase(timer)["local"] == [1, 0]


def test_times_of_phases_add_up_to_the_time_passed():
    timer = PhaseTimer()
    start = time.perf_counter()
    with timer.phase("global"):
        for name in PHASES:
            with timer.phase(name):
                time.sleep(0.01)
    passed = time.perf_counter() - start
    wall = timer.snapshot()[:, 0]
    assert np.all(wall >= 0.01)
    assert 0.05 <= wall.sum() <= passed


def test_unknown_phase_is_an_error_that_lists_the_phases():
    with pytest.raises(ValueError, match=r"'lunch' is unknown.*local, global"):
        PhaseTimer().phase("lunch")
