"""Starting the commands that are killed: in a fork that has everything imported, or from nothing.

A process spends more seconds on imports than on what a kill costs, so most are forks of this one,
which itself never trains and has no threads.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_POLL_S = 0.005


@dataclass
class Started:
    """A process that was started.

    Args:
        pid: Its number, which is also that of its group.
        exit_code: Once it has ended; negative after a signal.
        used_s: Seconds of processor time that it had used in all, once it has ended.
    """

    pid: int
    exit_code: int | None = None
    used_s: float = 0.0

    def cpu_s(self) -> float:
        """Seconds of processor time that it has used, whatever else the machine does."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return self.used_s
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def ended(self) -> bool:
        """Whether it has ended; its exit code is known then."""
        if self.exit_code is None:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
                self.used_s = used.ru_utime + used.ru_stime
        return self.exit_code is not None

    def wait(self, *, seconds: float, cpu_s: float = float("inf")) -> bool:
        """Wait until it ends or has used ``cpu_s``; ``False`` if it did neither in ``seconds``."""
        deadline = time.monotonic() + seconds
        while not (self.ended() or self.cpu_s() >= cpu_s):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and to all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def limit_memory(self, more_bytes: int) -> None:
        """Let it have no more than so many bytes on top of what it has."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + more_bytes
        resource.prlimit(self.pid, resource.RLIMIT_AS, (limit, limit))

    def kill(self) -> None:
        """End it and all that it started, also where it has ended itself."""
        self.signal(signal.SIGKILL)
        while not self.ended():
            time.sleep(_POLL_S)


@contextlib.contextmanager
def running(started: Started) -> Iterator[Started]:
    """The process, which does not outlive the block, nor does what it started."""
    try:
        yield started
    finally:
        started.kill()


def fork(work: Callable[[], int], *, folder: Path, log: Path) -> Started:
    """Do ``work`` in a fork of this process, in ``folder``; what it prints goes to ``log``."""
    pid = os.fork()
    if pid:
        return Started(pid)
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        with log.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        torch.set_num_threads(1)
        code = work()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def fresh(arguments: Sequence[str], *, folder: Path, log: Path) -> Started:
    """Start Python with ``arguments`` in a process of its own."""
    with log.open("ab") as file:
        started = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
    started.returncode = 0  # waited for by its number, here
    return Started(started.pid)
