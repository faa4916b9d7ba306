"""Why a network did not run on an example, said as well as it can be known."""

import re
from collections.abc import Callable, Sequence
from types import TracebackType

from torch import Tensor, nn

_OF_META = re.compile(
    r"^(?!.*expected device).*(meta|data.?dependent|dynamic.?output)", re.IGNORECASE | re.DOTALL
)
_OF_DTYPE = re.compile(r"dtype|scalar type|input type|data type", re.IGNORECASE)
_OF_SHAPE = re.compile(r"shape|size|dimension|channel|\b[1-5]D\b", re.IGNORECASE)


def raise_explained(
    error: Exception,
    network: nn.Module,
    tensors: Sequence[Tensor],
    runs_in_training: Callable[[], bool],
) -> None:
    """Raise what ``error`` comes from, where the example is at fault; else add what was tried.

    Args:
        error: What the network raised.
        network: The network.
        tensors: The tensors of the example.
        runs_in_training: Tries the network in training mode.

    Raises:
        ValueError: If the example is on another device, of another dtype or shape than the network
            takes, or if the network reads values that the meta device does not have.
    """
    where = _module_of(error, network)
    tried = ", ".join(map(describe, tensors)) or "no tensor"
    devices = {tensor.device for tensor in (*network.parameters(), *network.buffers())}
    found = {tensor.device for tensor in tensors}
    reason = f"{str(error).strip().splitlines()[0] if str(error).strip() else repr(error)}{where}"
    if devices and found and devices.isdisjoint(found):
        own = " and ".join(sorted(map(str, devices)))
        raise ValueError(
            f"example must be on the network's device {own}, got {tried}: {reason}; "
            "move one of them with .to(device)"
        ) from error
    if any(device.type == "meta" for device in devices | found) and _OF_META.search(
        f"{type(error).__name__} {error}"
    ):
        raise ValueError(
            "network must not depend on the values of its activations on the meta device, which "
            f"has none, got {reason}; count it on the CPU, with an example there"
        ) from error
    if not network.training and runs_in_training():
        _add_note(
            error,
            f"The network raised this in evaluation mode{where}, and runs in training mode; costs "
            f"are those of evaluation mode: make it run after .eval(). Tried with: {tried}.",
        )
        return
    for pattern, property_ in ((_OF_DTYPE, "dtype"), (_OF_SHAPE, "shape")):
        if tensors and isinstance(error, (RuntimeError, ValueError)) and pattern.search(str(error)):
            raise ValueError(
                f"example must have the {property_} that the network takes, got {tried}: {reason}; "
                "give a batch as in training"
            ) from error
    _add_note(error, f"The network raised this{where}. Tried with: {tried}.")


def describe(tensor: Tensor) -> str:
    """Dtype, shape and device of a tensor.

    >>> import torch
    >>> describe(torch.zeros(1, 3))
    'float32 [1, 3] on cpu'
    """
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)} on {tensor.device}"


def _module_of(error: BaseException, network: nn.Module) -> str:
    """The innermost module of the network that the error came from, as part of a sentence."""
    names = {id(module): name for name, module in network.named_modules()}
    found = ""
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        module = traceback.tb_frame.f_locals.get("self")
        name = names.get(id(module), "")
        if name:
            found = f" in module {name!r} ({type(module).__name__})"
        traceback = traceback.tb_next
    return found


def _add_note(error: Exception, note: str) -> None:
    if hasattr(error, "add_note"):
        error.add_note(note)
    else:  # Python 3.10
        error.args = ("\n".join((*map(str, error.args), note)),)
