"""What `hpctrain info` prints: versions, processors, device and kernels of this installation.

The libraries that can hang or crash as they start (MPI outside its launcher, HDF5, CUDA) are asked
in processes of their own, so that `info` answers on any machine.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version

from hpctrain.kernels.builds import choose_build, describe_build, load_build
from hpctrain.parallel.gpu_probe import NO_GPU
from hpctrain.parallel.launchers import find_mpirun

ANSWER_SECONDS = 60
LAUNCHER_VARIABLES = ("PMI", "OMPI_COMM_WORLD_", "PRTE_", "HYDRA_", "HYDI_", "SLURM_", "MPI_LOCAL")

ASK_HDF5 = "import h5py; print(h5py.version.hdf5_version)"
ASK_CUDA_DEVICES = """
import torch
names = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
print(", ".join(names) or ("none" if torch.version.cuda else "none (torch is built without CUDA)"))
"""
ASK_MPI = "from mpi4py import MPI; print(MPI.Get_library_version())"
ASK_MPI_CUDA = """
from hpctrain.parallel.cuda_support import describe_cuda_support, find_cuda_support
print(describe_cuda_support(find_cuda_support()))
"""
ASK_TRANSPORTS = """
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.devices import choose_device
from hpctrain.parallel.transports.choice import list_available
print(", ".join(list_available(choose_device("auto", Communicator()))))
"""
PROBE_RANKS = 2


def describe_installation(probe_gpu: bool = False) -> str:
    """The installation as an aligned text table, one property a line.

    Args:
        probe_gpu: try MPI with buffers in GPU memory, in a job of its own.
    """
    questions = (ASK_HDF5, ASK_MPI, ASK_MPI_CUDA, ASK_CUDA_DEVICES, ASK_TRANSPORTS)
    with ThreadPoolExecutor() as pool:  # each imports torch or MPI, which takes seconds
        answers = dict(zip(questions, pool.map(_ask, questions), strict=True))
    rows = {**_list_versions(answers), **_list_hardware(answers)}
    if probe_gpu:
        rows["MPI with GPU buffers"] = NO_GPU if rows["GPUs"].startswith("none") else _probe()
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def _list_versions(answers: Mapping[str, str]) -> dict[str, str]:
    return {
        "hpctrain": _find_version("hpctrain"),
        "Python": platform.python_version(),
        "torch": _find_version("torch"),
        "numpy": _find_version("numpy"),
        "h5py": f"{_find_version('h5py')} (HDF5 {answers[ASK_HDF5]})",
        "mpi4py": _find_version("mpi4py"),
        "MPI": answers[ASK_MPI],
        "MPI takes CUDA buffers": answers[ASK_MPI_CUDA],
    }


def _list_hardware(answers: Mapping[str, str]) -> dict[str, str]:
    cores = len(os.sched_getaffinity(0))
    return {
        "cores visible": str(cores),
        "threads by default": f"{cores} for one rank; cores / ranks of a node for more",
        "GPUs": answers[ASK_CUDA_DEVICES],
        "device": "cuda by default where there are GPUs, else cpu",
        "transports": answers[ASK_TRANSPORTS],
        "kernels": _describe_kernels(),
    }


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _describe_kernels() -> str:
    build = choose_build()
    if build is None:
        return "torch fallback (the native kernels are not built, or turned off)"
    return f"{describe_build()}: {load_build(build).description}"


def _ask(question: str) -> str:
    """The first line that a short Python program prints, run alone: not as a rank of a job."""
    return _read_answer([sys.executable, "-c", question])


def _probe() -> str:
    """What a job of two ranks finds, or how it died."""
    launcher = find_mpirun()
    if launcher is None:
        return "not tried: there is no mpirun"
    probe = [sys.executable, "-m", "hpctrain.parallel.gpu_probe"]
    return _read_answer([launcher, "-n", str(PROBE_RANKS), *probe], "fails")


def _read_answer(command: list[str], failure: str = "does not start") -> str:
    """The first line that a command prints, run without the variables of a launcher."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(LAUNCHER_VARIABLES)
    }
    try:
        answer = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=ANSWER_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {ANSWER_SECONDS} s"
    if answer.returncode != 0:
        fault = answer.stderr.strip().rpartition("\n")[-1]
        return f"{failure} ({fault or f'status {answer.returncode}'})"
    # Open MPI ends its name with NUL.
    first_line = answer.stdout.partition("\n")[0].replace("\0", " ")
    return " ".join(first_line.split())
