"""Ranks of mpirun as forks of this process, which has imported everything: they start at once.

mpirun starts small programs, which hand their environment and their line to mpirun (PMI_FD, as of
MPICH) to a server. The server forks a rank for each, which runs the command line of hpctrain. A
small program passes signals on to its rank, ends as the rank does, and a rank ends when its program
is killed. So the seconds that an import of torch takes are spent once, not in every rank of a run.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from hpctrain import cli
from hpctrain.parallel.launch import leave

MPIRUN = Path(sys.executable).parent / "mpirun"
LONGEST_MESSAGE = 1 << 20
PASSED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
PROGRAM = """
import json, os, signal, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[1])
message = json.dumps([dict(os.environ), os.getcwd(), sys.argv[3:]]).encode()
own = [1, 2, *([int(os.environ["PMI_FD"])] if "PMI_FD" in os.environ else [])]
socket.send_fds(line, [len(message).to_bytes(8, "little")], own)
line.sendall(message)
rank = int.from_bytes(line.recv(8), "little")
for number in map(int, sys.argv[2].split(",")):
    signal.signal(number, lambda number, frame: os.kill(rank, number))
status = int.from_bytes(line.recv(8), "little", signed=True)
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if status != -9 else None
    os.kill(os.getpid(), -status)
os._exit(status)
"""


class Server:
    """Forks ranks; `command` is what to start instead of hpctrain under mpirun."""

    def __init__(self, folder: Path) -> None:
        self._address, self._ranks = folder / "server", folder / "ranks"
        self._ranks.mkdir()

    def command(self, words: Sequence[object], ranks: int) -> list[str]:
        """mpirun with so many ranks of hpctrain's command line."""
        passed = ",".join(str(int(number)) for number in PASSED)
        stub = [sys.executable, "-S", "-E", "-c", PROGRAM, self._address, passed, *words]
        return [str(word) for word in (MPIRUN, "-n", ranks, *stub)]

    def list_ranks(self) -> list[int]:
        """The processes of the ranks that are there; others may have their numbers by now."""
        begun = {path.name: path.read_text() for path in self._ranks.iterdir()}
        return sorted(int(pid) for pid, since in begun.items() if since == _find_start(pid))

    def wait(
        self, process: subprocess.Popen[bytes], before: set[int], seconds: float
    ) -> int | None:
        """The status of an mpirun whose ranks are gone too; None where they outlive these seconds.

        Args:
            before: ranks that are not its own.
        """
        deadline = time.monotonic() + seconds
        while process.poll() is None or set(self.list_ranks()) - before:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.005)
        return process.returncode

    def serve(self) -> None:
        """Takes one program after the other, each in a process of its own."""
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        with socket.socket(socket.AF_UNIX) as asked:
            asked.bind(str(self._address))
            asked.listen(64)
            while True:
                line, _ = asked.accept()
                if os.fork() == 0:
                    asked.close()
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    with contextlib.suppress(OSError):
                        self._start(line)
                    os._exit(0)
                line.close()

    def _start(self, line: socket.socket) -> None:
        length, files, _, _ = socket.recv_fds(line, 8, 3)
        message = b""
        while len(message) < int.from_bytes(length, "little"):
            message += line.recv(LONGEST_MESSAGE)
        environment, folder, words = json.loads(message)
        rank = os.fork()
        if rank == 0:
            line.close()
            _run(environment, folder, words, files, self._ranks)
        try:
            line.sendall(rank.to_bytes(8, "little"))
        except OSError:  # its program is gone
            os.kill(rank, signal.SIGKILL)
            raise
        line.sendall(_await(rank, line).to_bytes(8, "little", signed=True))


def _run(
    environment: dict[str, str], folder: str, words: list[str], files: list[int], ranks: Path
) -> None:
    """This process as a rank; does not return."""
    status = 1
    try:
        (ranks / str(os.getpid())).write_text(_find_start("self"))
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        for source, target in zip(files, (1, 2, int(environment.get("PMI_FD", 0))), strict=False):
            os.dup2(source, target)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        status = cli.main(words)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    leave(status)


def _find_start(pid: str) -> str:
    """When a process began, in ticks of the system's clock; empty where it has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else fields[18]


def _await(rank: int, line: socket.socket) -> int:
    """The status of a rank, negative for a signal; it is killed when its program is gone."""
    with selectors.DefaultSelector() as selector:
        selector.register(line, selectors.EVENT_READ)
        while True:
            pid, status = os.waitpid(rank, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if selector.select(0.01):
                os.kill(rank, signal.SIGKILL)
                selector.unregister(line)
                os.waitpid(rank, 0)
                return -signal.SIGKILL


def is_mpich() -> bool:
    """Whether mpirun is MPICH's, from whose environment a rank can be started elsewhere."""
    version = subprocess.run([MPIRUN, "--version"], capture_output=True, text=True)
    return "HYDRA" in version.stdout.upper()


@contextlib.contextmanager
def forking_server(folder: Path) -> Iterator[Server]:
    """A server that ends with the block."""
    if not is_mpich():
        sys.exit("this study needs the mpirun of MPICH")
    server = Server(folder)
    pid = os.fork()
    if pid == 0:
        try:
            server.serve()
        finally:
            os._exit(1)
    try:
        while not (folder / "server").exists():
            time.sleep(0.01)
        yield server
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
