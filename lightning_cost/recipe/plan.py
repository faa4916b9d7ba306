"""What a run would cost before it starts; nothing is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_cost.cost.measurement import Cost
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.hardware.estimate import LACK
from lightning_cost.monitor.measure import measure
from lightning_cost.recipe.config import RunConfig
from lightning_cost.recipe.data import facts_of, first_images
from lightning_cost.recipe.planned_compute import planned_shares
from lightning_cost.recipe.run_plan import RunPlan, Share
from lightning_cost.recipe.smallest import smallest_cost
from lightning_cost.recipe.training_machine import (
    DEFAULT_UTILISATION,
    LOCAL,
    TrainingMachine,
    training_hardware,
)
from lightning_cost.recipe.transformer import Transformer

NO_DATA = (
    "set num_samples=, image_size=, model.in_channels= and model.num_classes= to plan without it"
)


@dataclass(kw_only=True, slots=True)
class PlanConfig(RunConfig):
    """What ``plan`` is told: the run of ``fit``, and where and how well it would be trained.

    Args:
        train_on: A device of the catalogue, the path of a description, or ``"local"``; ``None``
            for this machine, for a transformer the ``hardware``.
        num_devices: How many train together; ``None`` for ``trainer.devices``.
        utilisation: Share of the peak that training reaches, in (0, 1].
        num_samples: Training samples in an epoch; ``None`` to ask the data.
        image_size: Height and width of an image; ``None`` to ask the data.
        num_sampled: How many configurations of a sampled sweep are judged, where it has more.
        time_limit_s: For how long they are judged at most.
        prices: Path of a price file for training and deployment; ``None`` for the hardware's.
        region: Where electricity comes from; ``None`` for the hardware's.
        transformer: Planned in place of the run, if it is given.
    """

    train_on: str | None = None
    num_devices: int | None = None
    utilisation: float = DEFAULT_UTILISATION
    num_samples: float | None = None
    image_size: int | None = None
    num_sampled: int = 1000
    time_limit_s: float = 60
    prices: str | None = None
    region: str | None = None
    transformer: Transformer = field(default_factory=Transformer)

    def __post_init__(self) -> None:
        for name in ("num_samples", "image_size"):
            value = getattr(self, name)
            if value is not None and not value >= 1:
                raise ValueError(f"{name} must be >= 1, got {value}; leave it out to ask the data")
        for name in ("prices", "region"):
            value = getattr(self, name)
            if value is not None:
                setattr(self.hardware, name, value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """What a plan must know of the data.

    Args:
        example: One image [1, C, H, W].
        sizes: Samples in each of its parts, ``"train"`` at least.
        title: Its name.
    """

    example: Tensor
    sizes: dict[str, int]
    title: str


def samples_of(config: PlanConfig, data: pl.LightningDataModule) -> Samples:
    """What ``config`` tells of the data, and ``data`` itself of the rest.

    Raises:
        ValueError: If the data cannot be read and is not described.
    """
    name = str(getattr(data, "name", None) or type(data).__name__)
    if config.num_samples is not None and config.image_size is not None:
        channels = config.model.get("in_channels")
        if channels is None:
            raise ValueError(f"model.in_channels must be given where image_size is; {NO_DATA}")
        size = config.image_size
        example = torch.zeros(1, channels, size, size)
        return Samples(example=example, sizes={"train": int(config.num_samples)}, title=name)
    try:
        example = first_images(data)[:1]
        facts = facts_of(data)
    except (OSError, ImportError) as error:
        raise ValueError(f"data must be on this machine, got: {error}; or {NO_DATA}") from error
    sizes: dict[str, int] = dict(facts["split_sizes"])
    if config.num_samples is not None:
        sizes["train"] = int(config.num_samples)
    if "train" not in sizes:
        raise ValueError(
            f"data must tell how large its training part is, got {facts['name']} that does not; "
            "set num_samples="
        )
    return Samples(example=example, sizes=sizes, title=str(facts["name"]))


def plan_transformer(config: PlanConfig) -> RunPlan:
    """What training ``config.transformer`` would use on ``config.hardware``.

    Raises:
        ValueError: If a setting is out of range, or the hardware's peak is not known.
    """
    model = config.transformer
    is_told = config.train_on is not None or config.train_hardware is not None
    hardware = _trained_on(config) if is_told else config.hardware
    machine = TrainingMachine.of(
        hardware,
        num_devices=config.num_devices or config.trainer.devices,
        utilisation=config.utilisation,
        has_16_bits=True,
        num_threads=_num_threads(config),
    )
    return RunPlan(
        title=f"transformer of {model.num_weights:.3g} weights on {model.tokens:.3g} tokens",
        shares=(
            Share(
                name="weights",
                flops=model.weight_flops,
                assumptions="6 FLOPs a weight and token; embeddings are looked up",
            ),
            Share(
                name="attention",
                flops=model.attention_flops,
                assumptions=f"every token to all {model.context} of its context",
            ),
        ),
        spend=machine.spend(model.flops),
        training_limits=config.training.limits(),
        not_counted=("evaluation, failed and repeated runs, recomputed activations",),
    )


def plan_run(config: PlanConfig, network: nn.Module, data: pl.LightningDataModule) -> RunPlan:
    """What ``fit`` would use with this configuration, and how far its budget is.

    Args:
        config: The run, and where it would be trained.
        network: Dense, freshly built; it is left as it was found.
        data: Asked for its sizes and for one batch, unless ``config`` tells.

    Raises:
        ValueError: If a setting is out of range, the data cannot be read and is not described, or
            the hardware lacks what a limit needs.
    """
    config.settle_hardware()
    samples = samples_of(config, data)
    config.budget.require_hardware(config.hardware)
    example = samples.example
    dense = measure(network, example, hardware=config.hardware, resources=_priced(config))
    limits = config.budget.limits(dense)
    plan = plan_spend(config, network, samples, judged_ratio=_judged_ratio(config, limits, dense))
    noted = sorted({name for measured in dense.values() for name in measured.unsupported})
    remarks = tuple(name for name in noted if name.startswith(LACK))
    return replace(
        plan,
        dense=dense,
        smallest=smallest_cost(config, network, example, limits, dense),
        limits=limits,
        remarks=remarks,
        not_counted=(*plan.not_counted, *(name for name in noted if name not in remarks)),
    )


def plan_spend(
    config: PlanConfig, network: nn.Module, samples: Samples, *, judged_ratio: float = 1.0
) -> RunPlan:
    """What ``fit`` would use, without a look at what its network costs.

    Args:
        config: The run, and where it would be trained.
        network: Dense, freshly built; it is left as it was found.
        samples: Of its data.
        judged_ratio: Share of the dense network's MACs that those have at most which a search
            judges, where it is known.

    Raises:
        ValueError: If a setting is out of range, or the peak of the training machine is not known.
    """
    machine = TrainingMachine.of(
        _trained_on(config),
        num_devices=config.num_devices or config.trainer.devices,
        utilisation=config.utilisation,
        has_16_bits="16" in config.trainer.precision,
        num_threads=_num_threads(config),
    )
    shares = planned_shares(config, network, samples.example, samples.sizes, judged_ratio)
    return RunPlan(
        title=f"{type(network).__name__} on {samples.title}",
        shares=tuple(shares),
        spend=machine.spend(sum(share.flops for share in shares)),
        training_limits=config.training.limits(),
        not_counted=(
            "loading of data, the final evaluation and the measurements of the deployed network",
        ),
    )


def _judged_ratio(config: PlanConfig, limits: Mapping[Resource, float], dense: Cost) -> float:
    """Share of the MACs that the networks have at most which a search judges.

    What limits on stored bytes leave of the MACs is found out in the run, and so is what limits on
    a device leave of a network that is quantised too.
    """
    is_as_dense = config.compress.quantize is None
    tells = [r for r in limits if r is Resource.macs or (is_as_dense and not r.is_counted)]
    return min([1.0, *(limits[resource] / dense[resource].value for resource in tells)])


def _priced(config: PlanConfig) -> list[Resource]:
    """What the dense network is priced on: a measurement here takes long, and is made if needed."""
    is_described = not config.hardware.is_local
    return [
        resource
        for resource in Resource
        if resource.is_counted
        or resource in config.budget.resources
        or (is_described and config.hardware.missing(resource) is None)
    ]


def _num_threads(config: PlanConfig) -> int | None:
    """Of each process that trains on this machine, as Lightning shares its cores out."""
    num_processes = config.num_devices or config.trainer.devices
    if config.trainer.num_threads is not None or num_processes == 1:
        return config.trainer.num_threads
    return max(1, torch.get_num_threads() // num_processes)


def _trained_on(config: PlanConfig) -> Hardware:
    if config.train_on is None and config.train_hardware is not None:
        hardware = config.train_hardware
    elif config.train_on is None or config.train_on == LOCAL:
        return config.hardware if config.hardware.is_local else Hardware.local()
    else:
        hardware = training_hardware(config.train_on)
    hardware.prices = config.prices or hardware.prices
    hardware.region = config.region or hardware.region
    return hardware
