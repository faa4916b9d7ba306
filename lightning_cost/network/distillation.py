"""Learning from a frozen, larger network: its logits enter the loss of a training step."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn

from lightning_cost.network.find import is_compiled


@dataclass(kw_only=True, slots=True)
class Distillation:
    """How much a teacher's logits count.

    Args:
        temperature: Softens both distributions; the higher, the more the teacher's small
            probabilities count.
        weight: The teacher's share of the loss; the LightningModule's own loss has the rest.
        class_dim: The dimension of the network's output that runs over the classes.

    Raises:
        ValueError: If a number is out of range.
    """

    temperature: float = 2.0
    weight: float = 0.5
    class_dim: int = 1

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be > 0, got {self.temperature}; 2 is usual")
        if not 0 < self.weight <= 1:
            raise ValueError(
                f"weight must lie in (0, 1], got {self.weight}; "
                "pass distillation=None for a loss without a teacher"
            )


def chosen_distillation(
    given: Distillation | str | None, *, is_classifier: bool
) -> Distillation | None:
    """What ``given`` stands for: ``"auto"`` for the usual one, where ``is_classifier``.

    Raises:
        ValueError: If it is another word.
    """
    if not isinstance(given, str):
        return given
    if given != "auto":
        raise ValueError(
            f"distillation must be a Distillation, 'auto' or None, got {given!r}; "
            "None switches it off"
        )
    return Distillation() if is_classifier else None


def distillation_loss(
    logits: Tensor, teacher_logits: Tensor, *, temperature: float, class_dim: int = 1
) -> Tensor:
    """T² · KL(teacher ‖ student) of softened class probabilities, mean over all but the classes.

    The factor T² keeps the gradient as large as that of a cross-entropy at any temperature.

    Args:
        logits: Of the student, (batch, classes, ...).
        teacher_logits: Of the teacher, of the same shape.
        temperature: T.
        class_dim: Where the classes are.

    >>> logits = torch.tensor([[2.0, 0.0]])
    >>> distillation_loss(logits, logits, temperature=2.0)
    tensor(0.)

    Reference:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015.
    """
    student = (logits.float() / temperature).log_softmax(class_dim)
    teacher = (teacher_logits.float() / temperature).log_softmax(class_dim)
    divergence = nn.functional.kl_div(student, teacher, reduction="none", log_target=True)
    return divergence.sum(class_dim).mean() * temperature**2


class Teaching:
    """While it goes on, each training step of a fit learns from a teacher too.

    What the network is called with in ``training_step``, and what it returns, is caught by a
    forward hook; the loss that the strategy hands to Lightning is the weighted sum of the step's
    and the distillation loss. So Lightning divides, scales and differentiates the sum, whatever
    the precision, the accumulation and the strategy. The teacher belongs to no module.

    Args:
        teacher: Frozen, in evaluation mode, on the network's device.
        settings: How much it counts.
    """

    def __init__(self, teacher: nn.Module, settings: Distillation) -> None:
        self.teacher = teacher
        self.settings = settings
        self._calls: list[tuple[Tensor, tuple[Any, ...], dict[str, Any]]] = []
        self._is_listening = False
        self._can_teach = True
        self._end: Callable[[], None] | None = None

    def start(self, trainer: pl.Trainer, network: nn.Module) -> None:
        """Begin; ``network`` is the part of the LightningModule that the teacher is the like of."""
        strategy, module = trainer.strategy, trainer.lightning_module
        step = strategy.training_step
        # not on the LightningModule: a compiled one reads its own training_step
        handle = _outermost(module, network).register_forward_hook(self._listen, with_kwargs=True)

        @functools.wraps(step)
        def taught_step(*args: Any, **kwargs: Any) -> Any:
            self._is_listening = self._can_teach
            try:
                outcome = step(*args, **kwargs)
                self._is_listening = False
                with strategy.precision_plugin.train_step_context():
                    return self._with_teacher(outcome)
            finally:
                self._is_listening = False
                self._calls.clear()

        def end() -> None:
            handle.remove()
            del strategy.training_step
            _compile_anew(module)

        taught_step.is_taught = True  # type: ignore[attr-defined]
        strategy.training_step = taught_step  # type: ignore[method-assign]
        _compile_anew(module)
        self._end = end

    def stop(self) -> None:
        """Leave the fit as it was before :meth:`start`."""
        if self._end is not None:
            self._end()
            self._end = None

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _listen(
        self, network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        if not self._is_listening or not torch.is_grad_enabled():
            return
        if not can_be_taught(output, self.settings.class_dim):
            rank_zero_warn(
                "distillation is left out: the network must return one tensor of class logits, "
                f"got {_described(output)}; pass distillation=None"
            )
            self._is_listening = False
            self._can_teach = False
            return
        self._calls.append((output, args, kwargs))

    def _with_teacher(self, outcome: Any) -> Any:
        if not self._calls or outcome is None:
            return outcome
        own = outcome["loss"] if isinstance(outcome, dict) else outcome
        loss = (1 - self.settings.weight) * own + self.settings.weight * self._divergence()
        return {**outcome, "loss": loss} if isinstance(outcome, dict) else loss

    def _divergence(self) -> Tensor:
        """The mean over the network's calls in this step."""
        losses = []
        for logits, args, kwargs in self._calls:
            with torch.no_grad():
                taught = self.teacher(*args, **kwargs)
            losses.append(
                distillation_loss(
                    logits,
                    taught,
                    temperature=self.settings.temperature,
                    class_dim=self.settings.class_dim,
                )
            )
        return torch.stack(losses).mean()


def is_taught(trainer: pl.Trainer) -> bool:
    """Whether a teacher enters the loss of the fit's training steps now."""
    return getattr(trainer.strategy.training_step, "is_taught", False)


def frozen(network: nn.Module) -> nn.Module:
    """``network`` itself, made to teach: in evaluation mode and without gradients."""
    for parameter in network.parameters():
        parameter.grad = None
    return network.eval().requires_grad_(False)


def can_be_taught(output: Any, class_dim: int = 1) -> bool:
    """Whether ``output`` is one tensor of logits over two or more classes.

    >>> can_be_taught(torch.zeros(8, 10)), can_be_taught(torch.zeros(8, 1)), can_be_taught({})
    (True, False, False)
    """
    return (
        isinstance(output, Tensor)
        and output.is_floating_point()
        and -output.dim() <= class_dim < output.dim()
        and output.dim() >= 2
        and output.shape[class_dim] >= 2
    )


def _described(output: Any) -> str:
    return f"one of {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__


def _outermost(pl_module: pl.LightningModule, network: nn.Module) -> nn.Module:
    """``torch.compile``'s wrapper of ``network``, where there is one, else ``network``."""
    wrappers = (
        p for p in pl_module.modules() if dict(p.named_children()).get("_orig_mod") is network
    )
    return next(wrappers, network)


def _compile_anew(pl_module: pl.LightningModule) -> None:
    """Compiled code does not notice hooks that come and go."""
    if is_compiled(pl_module):
        torch.compiler.reset()
