"""Which range of activations is worth its 256 levels."""

import math

import torch
from torch import Tensor

OBSERVERS = ("moving_average", "min_max", "percentile", "mse", "learned")
"""How ranges are found, by name.

``moving_average``: the mean of the batches' extremes, a moving one after 100. ``min_max``: the
extremes of all batches. ``percentile``: as the first, of the values within which all but one in
10,000 at either end lie. ``mse``: as the first, of the share of the extremes with the least squared
error. ``learned``: as the first while calibrating; from then on trained.
"""

_TAIL = 1e-4
_SHARES = tuple(1 - 0.05 * step for step in range(15))
# enough to tell a range by, and no more work than a convolution
_MOST_SAMPLES = 2**16


def require_observer(name: str) -> str:
    """``name``, if it is one of :data:`OBSERVERS`.

    Raises:
        ValueError: If it is not.
    """
    if name not in OBSERVERS:
        known = ", ".join(repr(known) for known in OBSERVERS)
        raise ValueError(f"observer must be one of {known}, got {name!r}; choose one of these")
    return name


@torch.no_grad()
def range_of(x: Tensor, observer: str, *, num_levels: int) -> tuple[Tensor, Tensor]:
    """The lowest and the highest value of ``x`` that its range should hold, as float32.

    Values that are not finite make a range that is not.

    Args:
        x: Of any shape, not empty.
        observer: One of :data:`OBSERVERS`.
        num_levels: Of the grid.
    """
    x = x.detach().float()
    low, high = torch.aminmax(x)
    if observer not in ("percentile", "mse") or not (low.isfinite() and high.isfinite()):
        return low, high
    samples = _samples(x.flatten())
    if observer == "percentile":
        tails = torch.tensor([_TAIL, 1 - _TAIL], device=x.device)
        found = torch.quantile(samples, tails)
        return found[0], found[1]
    return _least_error(samples, low, high, num_levels)


def _samples(flat: Tensor) -> Tensor:
    """Evenly spread over ``flat``, and over the rows, columns and channels that it was made of."""
    stride = -(-len(flat) // _MOST_SAMPLES)
    # a stride that divides the length of a row meets the same few columns again and again
    while math.gcd(stride, len(flat)) > 1:
        stride += 1
    return flat[::stride]


def _least_error(x: Tensor, low: Tensor, high: Tensor, num_levels: int) -> tuple[Tensor, Tensor]:
    errors = torch.stack(
        [_squared_error(x, low * share, high * share, num_levels) for share in _SHARES]
    )
    share = torch.tensor(_SHARES, device=x.device)[errors.argmin()]
    return low * share, high * share


def _squared_error(x: Tensor, low: Tensor, high: Tensor, num_levels: int) -> Tensor:
    scale, zero_point = affine_grid(low, high, num_levels=num_levels)
    limits = (0, num_levels - 1)
    return (torch.fake_quantize_per_tensor_affine(x, scale, zero_point, *limits) - x).square().sum()


def affine_grid(low: Tensor, high: Tensor, *, num_levels: int) -> tuple[Tensor, Tensor]:
    """Scale (float32) and zero point (int32) of levels between two values; 0.0 is always one.

    >>> affine_grid(torch.tensor(-1.0), torch.tensor(1.0), num_levels=5)
    (tensor(0.5000), tensor(2, dtype=torch.int32))
    """
    low, high = low.clamp_max(0.0), high.clamp_min(0.0)
    scale = ((high - low) / (num_levels - 1)).clamp_min(torch.finfo(torch.float32).eps)
    zero_point = (-low / scale).round().clamp(0, num_levels - 1)
    return scale, zero_point.to(torch.int32)
