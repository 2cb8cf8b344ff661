"""Which transport and device a rank gets, and how runs over torch.distributed end."""

import ctypes
import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hpctrain.errors import InputError
from hpctrain.parallel import cuda_support
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.devices import HOST, Device, choose_device, choose_gpu, count_gpus
from hpctrain.parallel.transports import HostMPI, Staged, choice, mpi, torch_distributed

FAULTY = Path(__file__).parent / "mpi" / "faulty_run.py"
GPU = Device(torch.device("cuda", 0), "a GPU")
SHARED = Device(torch.device("cuda", 0), "a GPU", is_shared=True)
JOB = """
[problem]
name = "klein-gordon"
points = 200
[network]
depth = 4
width = 8
[solver]
name = "ssbroyden"
[parallel]
transport = "gloo"
threads = 1
[stop]
max_iterations = {iterations}
"""


def mpich(ask_library, status=0):
    def query(kind, supported):
        assert kind == 0
        ctypes.cast(supported, ctypes.POINTER(ctypes.c_int)).contents.value = ask_library
        return status

    return SimpleNamespace(MPIX_GPU_query_support=query)


@pytest.mark.parametrize(
    "library, version, environ, reported",
    [
        (mpich(1), "MPICH Version: 4.3", {}, True),
        (mpich(0), "MPICH Version: 4.3", {}, False),
        (mpich(1, status=1), "MPICH Version: 4.3", {}, False),
        (mpich(1), "MPI VERSION : CRAY MPICH version 8.1", {}, False),
        (mpich(1), "CRAY MPICH", {"MPICH_GPU_SUPPORT_ENABLED": "1"}, True),
        (SimpleNamespace(MPIX_Query_cuda_support=lambda: 1), "Open MPI v5", {}, True),
        (SimpleNamespace(MPIX_Query_cuda_support=lambda: 0), "Open MPI v5", {}, False),
        (SimpleNamespace(), "an MPI without such a question", {}, None),
    ],
)
def test_support_of_gpu_buffers_is_what_the_library_says(library, version, environ, reported):
    assert cuda_support.ask_library(library, version, environ) is reported


@pytest.mark.parametrize(
    "reported, nccl, device, expected",
    [
        (True, True, HOST, "mpi"),
        (True, True, GPU, "mpi-gpu"),
        (False, True, GPU, "nccl"),
        (None, True, GPU, "nccl"),
        (False, True, SHARED, "mpi, staged"),
        (False, False, GPU, "mpi, staged"),
    ],
)
def test_auto_takes_the_best_transport_there_is(monkeypatch, reported, nccl, device, expected):
    monkeypatch.setattr(mpi, "find_cuda_support", lambda: reported)
    monkeypatch.setattr(torch_distributed.dist, "is_nccl_available", lambda: nccl)
    # Groups of nccl need their GPUs: here only which of them would be started.
    started = SimpleNamespace(start=lambda mpi, backend: SimpleNamespace(name=backend))
    monkeypatch.setattr(torch_distributed, "TorchDistributed", started)
    assert choice.choose("auto", device, Communicator())(None).name == expected


@pytest.mark.parametrize(
    "name, device, reason",
    [
        ("nccl", HOST, "tensors are on the cpu"),
        ("mpi-gpu", HOST, "tensors are on the cpu"),
        ("mpi-gpu", GPU, "the MPI library takes CUDA buffers: no"),
        ("nccl", SHARED, "several ranks share a GPU"),
    ],
)
def test_a_transport_that_cannot_be_had_says_why(monkeypatch, name, device, reason):
    monkeypatch.setattr(mpi, "find_cuda_support", lambda: False)
    with pytest.raises(InputError, match=f'transport = "{name}" is not possible: {reason}'):
        choice.choose(name, device, Communicator())


def test_a_transport_in_their_folder_is_found_by_being_there(tmp_path, monkeypatch):
    (tmp_path / "pigeons.py").write_text(
        "from hpctrain.parallel.transports.base import Offer\n"
        "from hpctrain.parallel.transports.mpi import HostMPI\n"
        'OFFERS = (Offer("pigeons", HostMPI, lambda _: None),)\n'
    )
    folder = [*choice.transports.__path__, str(tmp_path)]
    monkeypatch.setattr(choice.transports, "__path__", folder)
    found = [offer.name for offer in choice.find_offers()]
    assert sorted(found) == sorted([*choice.OFFERS, "pigeons"])


def test_staging_keeps_the_shape_and_leaves_the_sent_tensor():
    """One rank's broadcast over a carrier that doubles what it is given."""

    class Doubling(HostMPI):
        def broadcast(self, tensor, root):
            tensor.mul_(2)

    tensor = torch.arange(6.0).view(2, 3).T.contiguous()
    expected = 2 * tensor
    Staged(Doubling(None)).broadcast(tensor, 0)
    assert torch.equal(tensor, expected)


def test_ranks_of_a_node_take_its_gpus_in_turn():
    assert [choose_gpu(local, 4) for local in range(6)] == [0, 1, 2, 3, 0, 1]
    assert [choose_gpu(local, 1) for local in range(3)] == [0, 0, 0]


@pytest.mark.skipif(count_gpus() > 0, reason="there is a GPU")
def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused():
    assert choose_device("auto", Communicator()) == HOST
    with pytest.raises(InputError, match=r'parallel.device = "cuda" is not possible: .* on \S+'):
        choose_device("cuda", Communicator())


@pytest.fixture
def job(write_job):
    return lambda iterations: write_job(JOB.format(iterations=iterations))


def test_a_run_over_gloo_ends_by_itself(mpirun, job):
    ended = mpirun(2, "-m", "hpctrain", "run", job(3), timeout=60)
    assert (ended.returncode, ended.stderr.count("Error")) == (0, 0)
    assert "messages by gloo" in ended.stdout


def test_a_rank_that_is_killed_ends_a_run_over_gloo(mpirun, job):
    place = ("kill", "1", "communication", "60")
    ended = mpirun(2, FAULTY, *place, "run", job(100000), timeout=60)
    finished = time.time()
    (failed,) = re.findall(r"rank 1 fails at ([\d.]+)", ended.stdout)
    assert finished - float(failed) < 6
    assert ended.returncode != 0
