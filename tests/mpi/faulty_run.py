"""`hpctrain` where one rank fails: faulty_run.py FAULT RANK PHASE COUNT ARGUMENT…

The rank fails when it enters a phase of the run for the COUNTth time. With the fault "nan" its
evaluations are NaN from then on.
"""

import os
import signal
import sys
import time

from hpctrain import __main__
from hpctrain.parallel.phases import PhaseTimer
from hpctrain.problems.equations.loss import PinnLoss

LAUNCHERS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")

FAULT, RANK, PHASE, COUNT = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])

entered = 0
spoilt = False


def rank() -> int:
    return int(next((os.environ[name] for name in LAUNCHERS if name in os.environ), 0))


def entering(phase):
    def enter(self, name):
        global entered
        entered += name == PHASE and rank() == RANK
        if name == PHASE and entered == COUNT and rank() == RANK:
            fail()
        return phase(self, name)

    return enter


def fail() -> None:
    global entered, spoilt
    entered += 1  # what the fault itself enters is no second one
    print(f"rank {RANK} fails at", time.time(), flush=True)
    time.sleep(0.5)  # mpirun may drop what it has not read when a rank is gone
    if FAULT == "exception":
        raise ArithmeticError(f"a fault of rank {RANK}")
    if FAULT == "sys-exit":
        sys.exit(3)
    if FAULT == "os-exit":
        os._exit(4)
    if FAULT == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if FAULT == "abort":
        os.abort()
    spoilt = True


def evaluating(evaluate):
    def spoil(self, theta):
        values = evaluate(self, theta)
        return values * float("nan") if spoilt else values

    return spoil


if __name__ == "__main__":
    # Tests time the end of the other ranks: one that waits for a busy disk cannot be killed.
    os.fsync = lambda descriptor: None
    PhaseTimer.phase = entering(PhaseTimer.phase)
    PinnLoss.sum_losses = evaluating(PinnLoss.sum_losses)
    PinnLoss.sum_losses_and_gradients = evaluating(PinnLoss.sum_losses_and_gradients)
    sys.argv[1:] = sys.argv[5:]
    __main__.main()
