"""Which memory a tensor lies in: views, and parameters in Python's several hands, have one."""

from collections.abc import Hashable

import torch
from torch import Tensor


def storage_of(tensor: Tensor) -> torch.UntypedStorage | Tensor:
    """The memory of ``tensor``; one without a single storage (a sparse one) stands for itself."""
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return tensor


def storage_key(tensor: Tensor) -> Hashable:
    """What is equal for tensors that share memory, while one of them is alive."""
    storage = storage_of(tensor)
    return ("tensor", id(tensor)) if isinstance(storage, Tensor) else int(storage._cdata)


def storage_bytes(storage: torch.UntypedStorage | Tensor) -> int:
    """Bytes of what :func:`storage_of` returned."""
    if isinstance(storage, Tensor):
        return storage.numel() * storage.element_size()
    return storage.nbytes()
