"""Predictions that ranks share."""

import numpy as np

from hpctrain.job.settings import load_job
from hpctrain.results import predict as prediction
from hpctrain.run.train import run

SETTINGS = (
    "problem.points=60",
    "network.depth=2",
    "network.width=4",
    "parallel.chunks=4",
    "parallel.threads=1",
    "stop.max_iterations=1",
)


def test_any_number_of_ranks_writes_the_same_bytes(comm, folder, monkeypatch):
    monkeypatch.setattr(prediction, "BLOCK", 5)
    path = str(folder / "run.h5")
    run(load_job("jobs/burgers.toml", SETTINGS), comm, output=path)
    words = (path, "t=0:1:4,x=-1:1:8")
    prediction.predict(*words, str(folder / "all.npy"), "u,u.x", 1, communicator=comm)
    if comm.is_root:
        prediction.predict(*words, str(folder / "one.npy"), "u,u.x", 1)
        assert (folder / "all.npy").read_bytes() == (folder / "one.npy").read_bytes()
        assert np.isfinite(np.load(folder / "all.npy")["u"]).all()
    comm.barrier()
