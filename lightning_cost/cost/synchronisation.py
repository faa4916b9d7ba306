"""Batch norms that average over all ranks, kept from it where one rank runs alone."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def unsynchronised() -> Iterator[None]:
    """Every ``nn.SyncBatchNorm`` that runs inside takes the batch of its own rank alone.

    In training mode it would else wait for ranks that do not run the network, or run another one.
    """
    synchronised = nn.SyncBatchNorm.forward
    nn.SyncBatchNorm.forward = _BatchNorm.forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.SyncBatchNorm.forward = synchronised  # type: ignore[method-assign]
