"""The model of scaling: its formulas, by hand."""

import math

import numpy as np
import pytest

from hpctrain.results.summary import StudyError
from hpctrain.store.run_file import RunWriter, read_run
from hpctrain.study import projection
from hpctrain.study.projection import NETWORKS, Network
from hpctrain.study.stretch import Stretch

PHASES = ("local", "global", "communication", "validation", "io")
NETWORK = Network("a", latency=0.5, bandwidth=100.0)


def test_a_message_takes_the_latency_and_its_bytes_over_the_bandwidth():
    assert NETWORK.predict_seconds(messages=3, sent=50) == 3 * 0.5 + 0.5
    hdr = NETWORKS["infiniband-hdr"]
    assert hdr.predict_seconds(1, 0) == 1e-6 and hdr.predict_seconds(0, 200e9 / 8) == 1.0


def test_calls_that_cost_time_of_their_own_add_up_with_the_network():
    both = NETWORK.add_calls(Network("calls", 0.25, 300.0))
    assert both.predict_seconds(1, 0) == 0.75
    assert both.predict_seconds(0, 300) == pytest.approx(3 + 1)


def test_the_fit_of_calls_that_follow_the_model_is_exact():
    messages, sent = np.array([1, 1, 2, 2, 3]), np.array([8, 1e5, 16, 1e6, 1e4])
    seconds = 2e-6 * messages + sent / 5e9
    found = projection.fit_network("here", messages, sent, seconds)
    assert found.latency == pytest.approx(2e-6) and found.bandwidth == pytest.approx(5e9)


def test_the_fit_has_no_negative_latency_or_bandwidth():
    growing = projection.fit_network("here", [1, 1], [1e3, 1e6], [1e-6, 2e-3])
    assert growing.latency >= 0 and growing.bandwidth > 0
    falling = projection.fit_network("here", [1, 1], [1e3, 1e6], [2e-3, 1e-3])
    assert falling.bandwidth == math.inf and 1e-3 < falling.latency < 2e-3


@pytest.mark.parametrize("seconds", [4e-6, 0.25e-6])
def test_a_model_that_is_too_fast_is_as_wrong_as_one_that_is_too_slow(seconds):
    network = Network("a", latency=1e-6, bandwidth=1e9)
    assert projection.find_worst_ratio(network, [1], [0], [seconds]) == pytest.approx(4)


def test_speed_up_and_efficiency_of_strong_and_of_weak_scaling():
    ranks, seconds = [1, 2, 4], [8.0, 5.0, 4.0]
    assert projection.compute_speed_ups(ranks, seconds, weak=False) == [1, 1.6, 2]
    assert projection.compute_efficiencies(ranks, seconds, weak=False) == [1, 0.8, 0.5]
    assert projection.compute_efficiencies(ranks, seconds, weak=True) == [1, 1.6, 2]
    assert projection.compute_speed_ups(ranks, seconds, weak=True) == [1, 3.2, 8]
    # From two ranks on: they count as twice as fast as one.
    assert projection.compute_speed_ups([2, 4], [6.0, 3.0], weak=False) == [2, 4]


@pytest.mark.parametrize(
    "seconds, weak, useful",
    [
        ([8.0, 4.5, 3.0, 2.9], False, 4),  # then below one half
        ([8.0, 4.5, 4.5, 1.0], False, 2),  # then the time no longer falls
        ([8.0, 8.0, 8.0, 8.0], False, 1),
        ([8.0, 9.0, 10.0, 15.0], True, 8),
        ([8.0, 9.0, 17.0, 15.0], True, 2),
    ],
)
def test_the_largest_useful_number_of_ranks(seconds, weak, useful):
    assert projection.find_largest_useful([1, 2, 4, 8], seconds, weak) == useful


def test_an_unknown_network_is_refused_with_those_that_are_known():
    with pytest.raises(StudyError, match=r"--network token-ring: allowed are .*ethernet-10g"):
        projection.find_network("token-ring")


@pytest.fixture
def stretch(tmp_path):
    """Two ranks; iterations 0 and 1 warm up, 2 and 3 are timed; [rank][phase] = (wall, cpu)."""
    columns = {"iteration": "i8", "seconds": "f8", "gradient_evaluations": "f8"}
    path = tmp_path / "run.h5"
    run = RunWriter(path, job="", environment={}, columns=columns, phases=PHASES, ranks=2)
    nothing = [(9, 9)] * 2
    seconds = [
        np.full((2, 5, 2), 7.0),
        np.full((2, 5, 2), 7.0),
        np.array([[(2, 1), (4, 3), (1, 1), *nothing], [(2, 2), (4, 2), (3, 3), *nothing]]),
        np.array([[(1, 1), (1, 1), (5, 1), *nothing], [(1, 1), (3, 3), (2, 2), *nothing]]),
    ]
    traffic = np.array([[4.0, 100.0], [6.0, 80.0]])
    for i, spent in enumerate(seconds):
        row = {"iteration": i, "seconds": 10.0 * i, "gradient_evaluations": 3.0 * i}
        run.append(row, spent, traffic)
    run.finish("stop.max_iterations reached")
    return Stretch(read_run(path))


def test_a_stretch_begins_after_the_warm_up(stretch):
    assert (stretch.iterations, stretch.seconds, stretch.gradient_evaluations) == (2, 20, 6)
    assert stretch.traffic == (12, 200)
    assert stretch.computed.tolist() == [6, 8]
    assert stretch.imbalance == 8 / 7
    assert stretch.wall_per_cpu == 18 / 14


def test_what_a_rank_communicates_longer_than_another_it_waits(stretch):
    shares = stretch.measure_shares()
    assert shares == {"local": 3, "global": 6, "communication": 1 + 2, "wait": (6 + 5) / 2 - 3}


def test_a_projection_is_the_slowest_rank_of_each_phase_and_the_network(stretch):
    shares = stretch.project_shares(NETWORK, wall_per_cpu=1.0)
    assert (shares["local"], shares["global"]) == (2.5, 4.5)
    assert shares["communication"] == 12 * 0.5 + 200 / 100
    assert sum(shares.values()) == (2 + 1) + (3 + 3) + 8
    halved = stretch.project_shares(NETWORK, wall_per_cpu=0.5)
    assert sum(halved.values()) == 9 / 2 + 8


def test_a_run_too_short_to_be_timed_is_named(stretch):
    short = Stretch(stretch.run.keep_until(1))
    with pytest.raises(StudyError, match="too few to be timed"):
        _ = short.seconds
