"""A job in which rank 1 fails in a given way while the others compute: faulty.py FAULT."""

import os
import signal
import sys
import threading
import time

import torch

from hpctrain.parallel import finish, start
from hpctrain.parallel.tree import reduce_leaves, share_chunks

CHUNKS = 64


def fail(fault: str) -> None:
    if fault == "exception":
        raise ArithmeticError("a fault of rank 1")
    if fault == "thread-exception":
        threading.Thread(target=fail, args=("exception",), daemon=True).start()
    elif fault == "sys-exit":
        sys.exit(3)
    elif fault == "os-exit":
        os._exit(4)
    elif fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


def main(fault: str) -> int:
    communicator = start()
    first, last = share_chunks(CHUNKS, communicator.size)[communicator.rank]
    nodes = reduce_leaves(torch.ones(last - first, 100), first)
    iteration = 0
    while iteration < 6 or fault != "none":
        if communicator.rank == 1 and iteration == 3 and fault != "none":
            print("rank 1 fails at", time.time(), flush=True)
            time.sleep(0.5)  # mpirun may drop what it has not read when a rank is gone
            fail(fault)
        communicator.sum_by_tree(nodes, CHUNKS)
        iteration += 1
    return finish(communicator, communicator.rank)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
