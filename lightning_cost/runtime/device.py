"""The devices that PyTorch sees: their names, and waiting for them."""

import torch

from lightning_cost.cost.forward import Example, tensors_of
from lightning_cost.runtime.standalone import cpu_name


def device_of(example: Example) -> torch.device:
    """The device of the first tensor of ``example``; the CPU if there is none."""
    tensors = tensors_of(example)
    return tensors[0].device if tensors else torch.device("cpu")


def synchronize(device: torch.device) -> None:
    """Wait until ``device`` has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def device_name(device: torch.device) -> str:
    """The model name of ``device``, such as ``"Intel(R) Xeon(R) Processor"``."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    if device.type == "cpu":
        return cpu_name()
    return device.type
