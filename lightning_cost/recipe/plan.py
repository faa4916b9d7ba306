"""What a run would cost before it starts; nothing is trained."""

from dataclasses import dataclass, field

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.resource import Resource
from lightning_cost.cost.training_flops import training_flops
from lightning_cost.hardware.device import Hardware
from lightning_cost.hardware.estimate import LACK
from lightning_cost.monitor.measure import measure
from lightning_cost.pruning.reconstruction.least_squares import NUM_SAMPLES, largest_fit_flops
from lightning_cost.pruning.search.fitness import FORWARD_PASSES_OF_A_STEP
from lightning_cost.pruning.search.loop import judged_ratios
from lightning_cost.recipe.config import RunConfig
from lightning_cost.recipe.data import facts_of, first_images
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
        prices: Path of a price file for training and deployment; ``None`` for the hardware's.
        region: Where electricity comes from; ``None`` for the hardware's.
        transformer: Planned in place of the run, if it is given.
    """

    train_on: str | None = None
    num_devices: int | None = None
    utilisation: float = DEFAULT_UTILISATION
    num_samples: float | None = None
    image_size: int | None = None
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


def plan_transformer(config: PlanConfig) -> RunPlan:
    """What training ``config.transformer`` would use on ``config.hardware``.

    Raises:
        ValueError: If a setting is out of range, or the hardware's peak is not known.
    """
    model = config.transformer
    hardware = config.hardware if config.train_on is None else _trained_on(config)
    machine = TrainingMachine.of(
        hardware,
        num_devices=config.num_devices or config.trainer.devices,
        utilisation=config.utilisation,
        has_16_bits=True,
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
    if config.runtime is not None:
        config.hardware.runtime = config.runtime
    example, sizes, title = _samples(config, data)
    machine = TrainingMachine.of(
        _trained_on(config),
        num_devices=config.num_devices or config.trainer.devices,
        utilisation=config.utilisation,
        has_16_bits="16" in config.trainer.precision,
    )
    config.budget.require_hardware(config.hardware)
    dense = measure(network, example, hardware=config.hardware, resources=_priced(config))
    limits = config.budget.limits(dense)
    allowed = min([1.0, *(limit / dense[resource].value for resource, limit in limits.items())])
    shares = _shares(config, network, example, sizes, allowed)
    noted = sorted({name for measured in dense.values() for name in measured.unsupported})
    remarks = tuple(name for name in noted if name.startswith(LACK))
    return RunPlan(
        title=f"{type(network).__name__} on {title}",
        shares=tuple(shares),
        spend=machine.spend(sum(share.flops for share in shares)),
        dense=dense,
        smallest=smallest_cost(config, network, example, limits, dense),
        limits=limits,
        training_limits=config.training.limits(),
        remarks=remarks,
        not_counted=(
            "loading of data, the final evaluation and the measurements of the deployed network",
            *(name for name in noted if name not in remarks),
        ),
    )


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


def _trained_on(config: PlanConfig) -> Hardware:
    if config.train_on is None or config.train_on == LOCAL:
        return config.hardware if config.hardware.is_local else Hardware.local()
    hardware = training_hardware(config.train_on)
    hardware.prices = config.prices or hardware.prices
    hardware.region = config.region or hardware.region
    return hardware


def _samples(
    config: PlanConfig, data: pl.LightningDataModule
) -> tuple[Tensor, dict[str, int], str]:
    """One sample, the sizes of the data's parts, and its name."""
    name = str(getattr(data, "name", None) or type(data).__name__)
    if config.num_samples is not None and config.image_size is not None:
        channels = config.model.get("in_channels")
        if channels is None:
            raise ValueError(f"model.in_channels must be given where image_size is; {NO_DATA}")
        size = config.image_size
        return torch.zeros(1, channels, size, size), {"train": int(config.num_samples)}, name
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
    return example, sizes, str(facts["name"])


def _shares(
    config: PlanConfig,
    network: nn.Module,
    example: Tensor,
    sizes: dict[str, int],
    allowed_ratio: float,
) -> list[Share]:
    """Compute of each phase of training, of validation and of the search."""
    settings, schedule = config.compress, config.compress.schedule
    step = training_flops(network, example).per_sample
    forward = count_macs(network, example).flops
    teacher = forward if settings.distillation is not None else 0
    at_most = "at most: as if no channel had gone; the widths are found in the run"
    dense = "the dense network, forward and backward"
    phases = [("warmup", schedule.warmup_epochs, step, dense, False)]
    if settings.prune:
        epochs = schedule.end_epoch - schedule.warmup_epochs
        said = f"{at_most}; and the teacher, forward" if teacher else at_most
        phases.append(("prune and recover", epochs, step + teacher, said, True))
    if settings.quantize is not None and settings.quantize_epochs:
        said = at_most if settings.prune else "the dense network; fake quantisers do not count"
        said = f"{said}; and the teacher, forward" if teacher else said
        phases.append(("quantize", settings.quantize_epochs, step + teacher, said, settings.prune))
    shares = [
        Share(
            name=name,
            flops=per_sample * sizes["train"] * epochs,
            num_epochs=epochs,
            assumptions=said,
            is_at_most=is_at_most,
        )
        for name, epochs, per_sample, said, is_at_most in phases
    ]
    if "val" in sizes:
        shares.append(
            Share(
                name="validation",
                flops=forward * sizes["val"] * settings.num_epochs,
                num_epochs=settings.num_epochs,
                assumptions=f"{sizes['val']} samples an epoch, "
                f"{at_most if settings.prune else 'the dense network, forward'}",
                is_at_most=settings.prune,
            )
        )
    if settings.prune and config.ranking is None:
        fit_flops = largest_fit_flops(network) if settings.search.reconstruct else 0
        shares.append(_search(config, forward, fit_flops, sizes, allowed_ratio))
    return shares


def _search(
    config: PlanConfig,
    forward: float,
    fit_flops: int,
    sizes: dict[str, int],
    allowed_ratio: float,
) -> Share:
    """Compute of the search, where each candidate is cut, put in order and judged.

    What putting the network itself in order takes, after each step, is in it.
    """
    search = config.compress.search
    ratios = [allowed_ratio] if search.reconstruct else judged_ratios(allowed_ratio)
    batch_size = int(config.data.get("batch_size", 1))
    # a data module without a search part lends training samples; batches are taken whole
    parts = (
        (search.calibration_samples, sizes["train"]),
        (search.search_samples, sizes.get("search", sizes["train"])),
    )
    taken = [min(-(-wanted // batch_size) * batch_size, held) for wanted, held in parts]
    samples = sum(taken) + FORWARD_PASSES_OF_A_STEP * batch_size * search.tune_steps
    has_gradients = "taylor" in search.saliencies
    gradients = FORWARD_PASSES_OF_A_STEP * taken[0] if has_gradients else 0
    num_fits = search.num_candidates + config.compress.schedule.num_steps
    looked_at = NUM_SAMPLES * (1 + num_fits) if search.reconstruct else 0
    shown = " and ".join(f"{ratio:.0%}" for ratio in ratios)
    return Share(
        name="search",
        flops=forward * (samples * search.num_candidates * sum(ratios) + gradients + looked_at)
        + fit_flops * num_fits,
        assumptions=f"at most: {search.num_candidates} candidates, each judged at {shown} of the "
        f"MACs on {samples} samples"
        + (", its layers fitted" if search.reconstruct else "")
        + (f" and trained for {search.tune_steps} steps" if search.tune_steps else ""),
        is_at_most=True,
    )
