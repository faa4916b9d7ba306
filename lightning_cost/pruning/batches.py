"""The data that candidates are judged by, and the loss that judges them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn

from lightning_cost.network.batch import num_samples_of

BatchLoss: TypeAlias = Callable[[nn.Module, Any], Tensor]
"""The mean loss, a scalar, of a network on one batch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchData:
    """What candidates are judged on.

    Args:
        calibration: Training batches, for batch-norm statistics and gradients.
        search: Batches for the loss; held out of training where possible.
    """

    calibration: list[Any]
    search: list[Any]

    @property
    def num_samples(self) -> int:
        """Samples that judging one network takes through it."""
        return sum(num_samples_of(batch) for batch in (*self.calibration, *self.search))

    def to(self, to_device: Callable[[Any], Any]) -> "SearchData":
        """The same data, each batch as ``to_device`` returns it."""
        return SearchData(
            calibration=[to_device(batch) for batch in self.calibration],
            search=[to_device(batch) for batch in self.search],
        )


def classification_loss(network: nn.Module, batch: Any) -> Tensor:
    """Mean cross-entropy of logits (batch, classes, ...) on a batch ``(inputs, labels, ...)``.

    Raises:
        ValueError: If the batch or the output is of another form.
    """
    if not (isinstance(batch, (tuple, list)) and len(batch) >= 2):
        raise ValueError(
            f"loss must be given for batches that are not (inputs, labels), got a batch of type "
            f"{type(batch).__name__}; pass loss=a function of (network, batch)"
        )
    logits, labels = network(batch[0]), batch[1]
    if not isinstance(logits, Tensor) or logits.ndim < 2 or labels.is_floating_point():
        raise ValueError(
            "loss must be given for networks that do not classify, got an output of type "
            f"{type(logits).__name__}; pass loss=a function of (network, batch)"
        )
    return nn.functional.cross_entropy(logits.float(), labels)
