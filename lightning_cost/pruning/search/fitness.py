"""How good a network is right after a cut: its loss on data that it was not trained on."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from lightning_cost.cost.duplicate import duplicated
from lightning_cost.cost.forward import map_tensors
from lightning_cost.cost.plain_data import amount, flag
from lightning_cost.cost.synchronisation import unsynchronised
from lightning_cost.network.batch import num_samples_of
from lightning_cost.pruning.batches import BatchLoss, SearchData
from lightning_cost.pruning.reconstruction.least_squares import Reconstruction
from lightning_cost.pruning.reconstruction.recalibration import recalibrate_batch_norm
from lightning_cost.pruning.structure.grouping import Grouping
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.structure.surgery import operated, removal

TUNING_RATE, TUNING_MOMENTUM, TUNING_DECAY = 0.01, 0.9, 5e-4
"""Of the training steps before a candidate is judged; LeGR's own."""
FORWARD_PASSES_OF_A_STEP = 3
"""A training step costs about as much as three forward passes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What judging one network found.

    Args:
        loss: Its mean loss, on the part of the data that was looked at; lower is better.
        glance: Its mean loss on the first part.
        flops: What judging took.
        is_rejected: Whether the rest of the data was not looked at.
    """

    loss: float
    glance: float
    flops: float
    is_rejected: bool = False


def judgement_from(data: Mapping[str, Any]) -> Judgement:
    """A judgement from plain data.

    Raises:
        ValueError: If an entry is of another type than was written.
    """
    found = Judgement(**data)
    for name in ("loss", "glance"):
        loss: Any = getattr(found, name)
        if isinstance(loss, bool) or not isinstance(loss, (int, float)):  # infinite and NaN too
            raise ValueError(f"{name} must be a number, got {loss!r:.60}")
    amount(found.flops, "flops")
    flag(found.is_rejected, "is_rejected")
    return found


class Judge(Protocol):
    """Says how good the network is that a plan makes; the same on every rank."""

    def __call__(self, plan: Plan, *, flops_per_sample: float, limit: float) -> Judgement:
        """Judge ``plan``.

        Args:
            plan: What stays of the dense network.
            flops_per_sample: Of a forward pass of what stays.
            limit: A network whose first glance is worse than this may be rejected; infinity
                where it may not.
        """


class CutJudge:
    """Cuts a copy of a network, puts it in order, and takes its mean loss on held-out batches.

    Nothing is trained unless ``tune_steps`` are given; ``network`` is left as it is. The same plan
    is judged the same, however often and in whatever order.

    Args:
        network: The dense network.
        grouping: Its channel groups.
        data: What it is put in order with, and judged by.
        loss: Mean loss of a network on one batch.
        reconstruction: Fits the layers of a fresh cut; without it they keep their weights.
        tune_steps: SGD steps after that.
        glance_ratio: Share of the batches that the first glance is at; 0 for all of them.
        finish: What becomes of a fitted cut before it is judged, such as rounding.

    Reference:
        New statistics: Li et al., "EagleEye: Fast Sub-net Evaluation for Efficient Neural Network
        Pruning", 2020.
    """

    def __init__(
        self,
        network: nn.Module,
        grouping: Grouping,
        data: SearchData,
        loss: BatchLoss,
        *,
        reconstruction: Reconstruction | None = None,
        tune_steps: int = 0,
        glance_ratio: float = 0.0,
        finish: Callable[[nn.Module], nn.Module] | None = None,
    ) -> None:
        self._network = network
        self._grouping = grouping
        self._data = data
        self._loss = loss
        self._reconstruction = reconstruction
        self._tune_steps = tune_steps
        self._finish = finish
        num_batches = len(data.search)
        self._num_glanced = math.ceil(num_batches * glance_ratio) or num_batches

    def __call__(self, plan: Plan, *, flops_per_sample: float, limit: float) -> Judgement:
        """Judge ``plan``; NaN, and no data to judge by, are infinitely bad."""
        change = removal(self._grouping, plan)
        candidate = operated(self._network, change)
        num_samples: float = 0
        if self._tune_steps or self._reconstruction is not None:
            candidate = duplicated(candidate)  # an uncut parameter is the network's own
        flops = 0.0
        if self._reconstruction is not None:
            flops += self._reconstruction.fit(candidate, change)
        if self._tune_steps:
            tuned = tune(candidate, self._data.calibration, self._loss, self._tune_steps)
            num_samples += FORWARD_PASSES_OF_A_STEP * tuned
        if self._finish is not None:
            candidate = self._finish(candidate)
        recalibrate_batch_norm(candidate, self._data.calibration, self._loss)
        num_samples += sum(map(num_samples_of, self._data.calibration))
        total = Mean()
        candidate.eval()
        with torch.no_grad():
            self._add_losses(total, candidate, self._data.search[: self._num_glanced])
            glance = total.value
            is_rejected = limit < math.inf and not glance <= limit
            if not is_rejected:
                self._add_losses(total, candidate, self._data.search[self._num_glanced :])
        num_samples += total.num_samples
        return Judgement(
            loss=total.value,
            glance=glance,
            flops=flops + num_samples * flops_per_sample,
            is_rejected=is_rejected,
        )

    def _add_losses(self, total: "Mean", network: nn.Module, batches: Sequence[Any]) -> None:
        for batch in batches:
            size = num_samples_of(batch)
            if size:
                total.add(float(self._loss(network, batch)), size)


@dataclass(slots=True)
class Mean:
    """A mean over samples in the making; NaN, and the mean of nothing, are infinite.

    >>> mean = Mean(); mean.add(1.0, 3); mean.add(2.0, 1); mean.value
    1.25
    """

    total: float = 0.0
    num_samples: int = 0

    def add(self, value: float, num_samples: int) -> None:
        """Count so many samples with a mean of ``value``."""
        self.total += value * num_samples
        self.num_samples += num_samples

    @property
    def value(self) -> float:
        """The mean so far."""
        if not self.num_samples or math.isnan(self.total):
            return math.inf
        return self.total / self.num_samples


def tune(network: nn.Module, batches: Sequence[Any], loss: BatchLoss, num_steps: int) -> int:
    """Train ``network`` in place by SGD on ``batches``, from the first one on and round again.

    Batch norms do not synchronise, as each rank tunes another network. The global random state is
    left as it was; what the network draws is the same each time.

    Returns:
        Samples that it was trained on.
    """
    optimizer = torch.optim.SGD(
        network.parameters(), lr=TUNING_RATE, momentum=TUNING_MOMENTUM, weight_decay=TUNING_DECAY
    )
    num_samples = 0
    network.train()
    with torch.random.fork_rng(), torch.enable_grad(), unsynchronised():
        torch.manual_seed(0)
        for step in range(num_steps):
            # training may change a batch in place, such as by an augmentation
            batch = map_tensors(torch.clone, batches[step % len(batches)])
            optimizer.zero_grad()
            loss(network, batch).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            num_samples += num_samples_of(batch)
    network.eval()
    return num_samples
