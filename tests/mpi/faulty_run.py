"""`hpctrain run` where rank 1's evaluations fail from the 10th on: faulty_run.py FAULT ARGUMENT…"""

import os
import signal
import sys
import time

from hpctrain import cli
from hpctrain.problems.pinn.problem import PinnLoss

FAULT = sys.argv[1]
HEALTHY_CALLS = 9

calls = 0


def failing(evaluate):
    return lambda self, theta: spoilt(evaluate(self, theta))


def spoilt(losses):
    global calls
    calls += 1
    if calls <= HEALTHY_CALLS or int(os.environ.get("PMI_RANK", "0")) != 1:
        return losses
    if calls == HEALTHY_CALLS + 1:
        print("rank 1 fails at", time.time(), flush=True)
        time.sleep(0.5)  # mpirun may drop what it has not read when a rank is gone
    if FAULT == "exception":
        raise ArithmeticError("a fault of rank 1")
    if FAULT == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return losses * float("nan")


PinnLoss.losses = failing(PinnLoss.losses)
PinnLoss.losses_and_gradients = failing(PinnLoss.losses_and_gradients)
sys.exit(cli.main(sys.argv[2:]))
