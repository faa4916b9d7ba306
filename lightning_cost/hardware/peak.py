"""What this machine reaches at best, for plans of training on it."""

import time
from collections.abc import Callable

import torch

from lightning_cost.runtime.eager import torch_threads

_SIZE = 768
_DTYPES = {16: torch.bfloat16, 32: torch.float32}


def measured_peak_gmacs(
    *,
    bits: int = 32,
    num_threads: int | None = None,
    seconds: float = 0.2,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """10⁹ multiply-accumulates a second of a large matrix product in PyTorch.

    Args:
        bits: 32 for float32, 16 for bfloat16.
        num_threads: Of PyTorch; ``None`` for as many as it has now.
        seconds: How long to try; the fastest product counts.
        clock: Seconds that never go back.
    """
    matrix = torch.ones(_SIZE, _SIZE, dtype=_DTYPES[bits])
    fastest_s = float("inf")
    with torch_threads(num_threads or torch.get_num_threads()):
        torch.mm(matrix, matrix)
        started_at = before = clock()
        while before - started_at < seconds:
            torch.mm(matrix, matrix)
            after = clock()
            fastest_s = min(fastest_s, after - before)
            before = after
    return _SIZE**3 / fastest_s / 1e9
