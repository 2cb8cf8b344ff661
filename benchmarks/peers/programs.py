"""The programs that are timed, and the environments in which they run."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from hpctrain.errors import RunError

WORKERS = Path(__file__).parent / "workers"
TORCH = "torch==2.13.0"


class UnavailableError(RunError):
    """An environment cannot be made; the message says why."""


@dataclass(frozen=True)
class Program:
    """A program with a method.

    Attributes:
        script: in `workers/`.
        packages: what pip installs into its environment; none for hpctrain's own environment.
        variant: what the script is told beside the start.
        note: what a reader of the table has to know.
    """

    script: str
    packages: tuple[str, ...] = ()
    variant: str = ""
    note: str = ""

    def find_python(self, folder: Path) -> str:
        """Returns the Python of its environment, which is made below `folder` if need be.

        Raises:
            UnavailableError: pip cannot install it.
        """
        if not self.packages:
            return sys.executable
        place = folder / "environments" / self.packages[0].partition("==")[0]
        python, stamp = place / "bin" / "python", place / "installed.txt"
        wanted = "\n".join(self.packages)
        if not (stamp.is_file() and stamp.read_text() == wanted):
            _run([sys.executable, "-m", "venv", str(place)])
            _run([str(python), "-m", "pip", "install", "--quiet", *self.packages])
            stamp.write_text(wanted)
        return str(python)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UnavailableError(f"cannot be installed: {said}")


PROGRAMS = {
    "hpctrain ssbroyden": Program("hpctrain_run.py", variant='{name="ssbroyden"}'),
    "hpctrain gauss-newton": Program(
        "hpctrain_run.py",
        variant='{name="gauss-newton",damping=1e3,greatest_damping=1e12}',
        note="Levenberg-Marquardt",
    ),
    "hpctrain torch-lbfgs": Program(
        "hpctrain_run.py",
        variant='{name="torch-lbfgs",history_size=100}',
        note="torch.optim.LBFGS on hpctrain's loss",
    ),
    "torch L-BFGS": Program(
        "torch_lbfgs.py", (TORCH, "numpy"), note="nested autograd, memory 100, strong Wolfe"
    ),
    "torch L-BFGS compiled": Program(
        "torch_lbfgs.py",
        (TORCH, "numpy"),
        "compiled",
        "forward mode of torch.func, torch.compile; its compilation counts",
    ),
    "DeepXDE": Program(
        "deepxde_lbfgs.py",
        ("deepxde==1.15.0", TORCH),
        note="PyTorch backend; 1,000 iterations of Adam (1e-3), then L-BFGS, memory 100",
    ),
    "jinns SSBroyden": Program(
        "jinns_ssbroyden.py",
        ("jinns==1.10.2", "jax==0.10.2", "optax==0.2.8", "equinox==0.13.8"),
        note="JAX; zoom line search; its compilation counts",
    ),
    "PINA": Program(
        "pina_lbfgs.py",
        ("pina-mathlab==0.3.2.post2610", TORCH),
        note="torch.optim.LBFGS, memory 100, strong Wolfe",
    ),
}
