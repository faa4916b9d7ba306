"""Commands in processes of their own, to be signalled: forks of a server that has imported them."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
# a start takes tenths of a second in place of seconds
_CONTEXT.set_forkserver_preload(["lightning_cost.cli", "onnxruntime", "torch.onnx", "optuna"])


@dataclass
class Running:
    """A process that was started.

    Args:
        process: The process itself.
        log: Where goes what it prints.
    """

    process: ForkServerProcess
    log: Path

    def is_running(self) -> bool:
        return self.process.is_alive()

    def signal(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def end(self, *, seconds: float) -> tuple[int, str]:
        """Its exit code, negative after a signal, and what it printed."""
        self.process.join(seconds)
        if self.is_running():
            self.process.kill()
            self.process.join()
            raise AssertionError(f"not ended in {seconds} s: {self.log.read_text()}")
        assert self.process.exitcode is not None
        return self.process.exitcode, self.log.read_text()


def start(
    work: Callable[..., int | None],
    *arguments: Any,
    folder: Path,
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Running:
    """Do ``work`` of a module, in ``folder`` and in a process of its own."""
    process = _CONTEXT.Process(
        target=_do, args=(work, arguments, folder, log, dict(environment or {}))
    )
    process.start()
    return Running(process, log)


def _do(
    work: Callable[..., int | None],
    arguments: tuple[Any, ...],
    folder: Path,
    log: Path,
    environment: dict[str, str],
) -> None:
    # where the tests run in the background, a shell has told them to ignore ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environment)
    os.chdir(folder)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(work(*arguments))
