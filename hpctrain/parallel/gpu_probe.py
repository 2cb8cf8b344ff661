"""Tries MPI with buffers in GPU memory: mpirun -n 2 python -m hpctrain.parallel.gpu_probe

An MPI library that cannot usually ends with a segmentation fault, so this is a job of its own. It
prints one line with what it found. Its status is 1 if a call did not have the right result.
"""

import sys

import torch

from hpctrain.parallel.devices import choose_device, count_gpus
from hpctrain.parallel.launch import finish, start
from hpctrain.parallel.transports import DeviceMPI

NUMBERS = 1 << 20
NO_GPU = "not tried: torch sees no GPU on this node"


def main() -> int:
    ranks = start()
    if not count_gpus():
        return finish(ranks, _print_on_root(ranks.is_root, NO_GPU, 0))
    from mpi4py import MPI

    device = choose_device("cuda", ranks)
    world, partner = MPI.COMM_WORLD, ranks.size - 1 - ranks.rank
    own = torch.full((NUMBERS,), 1.0 + ranks.rank, dtype=torch.float64, device=device.place)
    received, total = torch.empty_like(own), torch.empty_like(own)
    DeviceMPI(world).exchange(own, received, partner)
    world.Allreduce(own, total)
    size = ranks.size
    wrong = [
        name
        for name, found, expected in (
            ("point-to-point", received, 1.0 + partner),
            ("Allreduce", total, size * (size + 1) / 2),
        )
        if not bool((found == expected).all())
    ]
    found = f"{device.name} on {size} ranks: "
    found += f"wrong numbers from {', '.join(wrong)}" if wrong else "point-to-point and Allreduce"
    return finish(ranks, _print_on_root(ranks.is_root, found, int(bool(wrong))))


def _print_on_root(is_root: bool, line: str, status: int) -> int:
    if is_root:
        print(line, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
