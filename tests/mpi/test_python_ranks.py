"""Training from Python on the ranks of one program."""

import numpy as np
import pytest
import torch

import hpctrain
from hpctrain import Equations, Initial, InputError, Interval
from hpctrain.job.settings import make_job


class Decay(Equations):
    """u' = -u, u(0) = 1."""

    geometry = Interval(t=(0, 1))
    conditions = (Initial({"u": 1.0}, exact=True),)

    def residuals(self, at, u):
        return u.t + u

    def reference(self, at):
        return torch.exp(-at.t)


TABLES = {
    "problem": {"name": Decay, "points": 40},
    "network": {"kind": "mlp", "depth": 2, "width": 5, "activation": "tanh"},
    "solver": {"name": "ssbroyden"},
    "parallel": {"chunks": 8, "threads": 1},
    "stop": {"max_iterations": 6},
}


def test_a_class_from_python_has_the_bits_of_one_rank_and_goes_on(comm, run_alone):
    expected = run_alone(make_job(TABLES, "a test"))

    def stop_on_last_rank(record):
        return comm.rank == comm.size - 1 and record["iteration"] == 3

    part = hpctrain.train(TABLES, callbacks=stop_on_last_rank, progress=False)
    assert part.reason == "stopped by a callback" and part.history["iteration"][-1] == 3
    whole = hpctrain.resume(part, progress=False)
    assert np.array_equal(whole.theta, expected.parameters)
    assert np.array_equal(whole.history["loss"], expected.history["loss"])
    predicted = whole.predict({"t": 0.5})["u"]
    assert len({float(each) for each in comm.allgather(predicted)}) == 1


def test_bad_input_is_raised_by_all_ranks_which_go_on(comm):
    with pytest.raises(InputError, match=r"problem\.points = 0 is not allowed"):
        hpctrain.train(TABLES, set={"problem.points": 0})
    if comm.size > 1:
        with pytest.raises(InputError, match="rank 1 was given another job than rank 0"):
            hpctrain.train(TABLES, set={"seed": comm.rank})
    comm.barrier()
