"""What a run is told: one dataclass a configuration group, and the whole."""

from dataclasses import dataclass, field
from typing import Any

from lightning_cost.budget.model import ModelBudget
from lightning_cost.budget.training import TrainingBudget
from lightning_cost.hardware.device import AUTO, Hardware
from lightning_cost.network.distillation import Distillation
from lightning_cost.pruning.guard import MetricGuard
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.pruning.search.run import SharedSearch
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.quantization.rules import QuantizationRules
from lightning_cost.quantization.schemes.registry import get_schemes


@dataclass(kw_only=True, slots=True)
class CompressSettings:
    """How the budget is met.

    Without pruning and without quantisation the network is trained as it is, for the length of the
    schedule's warm-up, and keeps its budget or does not.

    Args:
        prune: Whether channels are removed.
        schedule: When they are removed; its warm-up is also the dense network's training.
        search: How the ranking of channels is learned.
        channels: Which channels may go, and in what steps.
        distillation: How the dense network teaches the pruned one; ``None``: not at all.
        metric: What the dense and the pruned network are compared by; better when larger.
        max_drop: By how much pruning may lower it, in its own unit; ``None``: by any.
        on_drop: ``"stop"``, ``"roll_back"`` or ``"go_on"``, see ``MetricGuard``.
        quantize: Name of the quantisation scheme, or a mapping of its name and settings; a list of
            them for one each layer, chosen under the budget; ``None`` to stay in floating point.
        quantize_epochs: Length of quantisation-aware fine-tuning; 0: calibration alone.
        quantization: Which layers are quantised how.
    """

    prune: bool = True
    schedule: PruningSchedule = field(default_factory=PruningSchedule)
    search: EvolutionSearch = field(default_factory=EvolutionSearch)
    channels: ChannelRules = field(default_factory=ChannelRules)
    distillation: Distillation | None = field(default_factory=Distillation)
    metric: str = "val/accuracy"
    max_drop: float | None = None
    on_drop: str = "roll_back"
    quantize: Any = "int8"
    quantize_epochs: int = 2
    quantization: QuantizationRules = field(default_factory=QuantizationRules)

    def __post_init__(self) -> None:
        _ = self.guard  # its words are checked here, not when the fit begins
        if self.schedule.updates_per_step is not None or self.schedule.rewind != "none":
            raise ValueError(
                "schedule must leave updates_per_step and rewind alone here, where each phase has "
                "its own epochs and its own arc of the learning rate, got updates_per_step="
                f"{self.schedule.updates_per_step}, rewind={self.schedule.rewind}; set "
                "epochs_per_step, which may be a fraction, and trainer.recover_learning_rate"
            )
        if self.quantize is not None:
            get_schemes(self.quantize)
        if self.quantize_epochs < 0:
            raise ValueError(
                f"quantize_epochs must be >= 0, got {self.quantize_epochs}; "
                "0 calibrates without training, quantize=null stays in floating point"
            )

    @property
    def guard(self) -> MetricGuard | None:
        """What happens when the metric falls too far by pruning."""
        if self.max_drop is None:
            return None
        return MetricGuard(metric=self.metric, max_drop=self.max_drop, on_drop=self.on_drop)

    @property
    def num_epochs(self) -> int:
        """Length of the whole run."""
        compressing = self.schedule.end_epoch if self.prune else self.schedule.warmup_epochs
        return compressing + (self.quantize_epochs if self.quantize is not None else 0)


@dataclass(kw_only=True, slots=True)
class TrainerSettings:
    """How the network is trained.

    Args:
        accelerator, devices, strategy, precision: As for ``pytorch_lightning.Trainer``.
        num_threads: Threads for training on a CPU; ``None`` leaves PyTorch's choice.
        learning_rate: Peak while the dense network trains.
        recover_learning_rate: Peak while pruning and recovering.
        quantize_learning_rate: Peak while fine-tuning with fake quantisers.
        momentum, weight_decay, label_smoothing, channels_last: See ``ImageClassifier``.
        progress_bar: Whether progress is shown.
    """

    accelerator: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    num_threads: int | None = None
    learning_rate: float = 0.1
    recover_learning_rate: float = 0.05
    quantize_learning_rate: float = 0.005
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    channels_last: bool = True
    progress_bar: bool = True


@dataclass(kw_only=True, slots=True)
class RunConfig:
    """One run, from data to report.

    Args:
        hardware: The device that the model is for.
        train_hardware: The machine that trains, for energy, emissions and money of the run; by
            default ``hardware`` where that is this machine.
        runtime: Overrides the device's runtime: ``"auto"`` or the name of an installed one.
        budget: Limits on the deployed model.
        training: Limits on the run.
        model: The network, by ``_target_``; ``in_channels`` and ``num_classes`` left at null are
            filled in from the data.
        data: The LightningDataModule, by ``_target_``.
        trainer: How it is trained.
        compress: How the budget is met.
        seed: Of weights, splits, order of samples and search.
        run_dir: Where everything is written; must be new or empty.
        resume: The directory of an interrupted run to go on with.
        repeats: The directory of a run whose configuration this one has; of the command line it is
            ``--config-path``.
        ranking: File of a ranking that was learned before, in place of a search.
        shared_search: The search that the runs of a sweep share; a sweep fills it in.
    """

    hardware: Hardware = field(default_factory=Hardware.local)
    train_hardware: Hardware | None = None
    runtime: str | None = None
    budget: ModelBudget = field(default_factory=ModelBudget)
    training: TrainingBudget = field(default_factory=TrainingBudget)
    model: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    compress: CompressSettings = field(default_factory=CompressSettings)
    seed: int = 0
    run_dir: str = "runs/latest"
    resume: str | None = None
    repeats: str | None = None
    ranking: str | None = None
    shared_search: SharedSearch | None = None

    def settle_hardware(self) -> None:
        """Let ``hardware`` have the run's ``runtime``.

        Raises:
            ValueError: If it asks for a runtime or a precision that nothing would be measured in.
        """
        hardware = self.hardware
        if self.runtime is not None:
            hardware.runtime = self.runtime
        if hardware.is_local:
            return
        why = f"as {hardware.name!r} is described, and estimated in float32 on no runtime"
        if hardware.runtime not in (None, AUTO):
            raise ValueError(
                f"runtime must be left out, {why}, got {hardware.runtime!r}; leave it out, or "
                "measure on this machine with hardware=local"
            )
        if hardware.precision != "float32":
            raise ValueError(
                f"hardware.precision must be float32, {why}, got {hardware.precision!r}; leave it "
                "out, or measure on this machine with hardware=local"
            )
