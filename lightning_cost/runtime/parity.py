"""Whether a runtime computes what the PyTorch network computes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from lightning_cost.cost.forward import Example, batch_size_of, observing, run_forward, tensors_of
from lightning_cost.runtime.session import Arrays, Session


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """How far a runtime's outputs lie from those of the PyTorch network.

    Args:
        max_abs_error: Largest absolute difference of any output value.
        output_range: Largest minus smallest value of the PyTorch network's outputs.
        top1_agreement: Share of predictions with the same class, from the first output with
            classes in dim 1; ``None`` where there is no such output.
        num_samples: Samples compared.
        passed: Whether every tolerance was kept.
    """

    max_abs_error: float
    output_range: float
    top1_agreement: float | None
    num_samples: int
    passed: bool


def check_parity(
    network: nn.Module,
    session: Session,
    example: Example,
    *,
    max_error_ratio: float | None = 1e-3,
    min_top1_agreement: float | None = None,
) -> Parity:
    """Compare ``session`` with ``network`` on ``example``, a real batch.

    Args:
        network: The deployed network; left as it was found.
        session: The same network on a runtime.
        example: One batch of real data.
        max_error_ratio: Largest error allowed, relative to the output range; ``None`` for any,
            as for quantised networks, where runtimes round differently.
        min_top1_agreement: Least share of equal predictions; ``None`` for any.

    Raises:
        ValueError: If the outputs differ in number or shape, or agreement is asked for and no
            output has classes.
    """
    with observing(network):
        expected = tuple(
            tensor.float().cpu().numpy() for tensor in tensors_of(run_forward(network, example))
        )
    found = session.run(example)
    _check_shapes(expected, found)
    error = max(
        (_max_abs(ours - theirs) for ours, theirs in zip(expected, found, strict=True)),
        default=0.0,
    )
    values = np.concatenate([array.ravel() for array in expected])
    output_range = float(values.max() - values.min())
    agreement = _top1_agreement(expected, found)
    if agreement is None and min_top1_agreement is not None:
        raise ValueError(
            f"min_top1_agreement must be None for a network without classes in dim 1 of its "
            f"outputs, got {min_top1_agreement}; use max_error_ratio"
        )
    is_close = max_error_ratio is None or error <= max_error_ratio * output_range
    agrees = min_top1_agreement is None or (agreement or 0.0) >= min_top1_agreement
    return Parity(
        max_abs_error=error,
        output_range=output_range,
        top1_agreement=agreement,
        num_samples=batch_size_of(example),
        passed=bool(np.isfinite(error)) and is_close and agrees,
    )


def _max_abs(difference: npt.NDArray[Any]) -> float:
    return float(np.abs(difference).max(initial=0.0))


def _check_shapes(expected: Arrays, found: Arrays) -> None:
    ours, theirs = [a.shape for a in expected], [a.shape for a in found]
    if ours != theirs or not ours:
        raise ValueError(
            f"session must return the network's outputs of shapes {ours}, got {theirs}; "
            "export the same network with the same example"
        )


def _top1_agreement(expected: Arrays, found: Arrays) -> float | None:
    for ours, theirs in zip(expected, found, strict=True):
        if ours.ndim >= 2 and ours.shape[1] > 1:
            return float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean())
    return None
