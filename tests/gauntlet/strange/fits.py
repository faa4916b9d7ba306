"""A fit that prunes and quantises any network, ended early and taken up again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_cost import (
    EvolutionSearch,
    GlobalRankingPruning,
    ModelBudget,
    PruningSchedule,
    QuantizationAwareTraining,
    load_compressed,
)
from lightning_cost.cost.forward import call_arguments, run_forward, tensors_of
from lightning_cost.network.lineage import lineage_of, lineage_to_list
from lightning_cost.network.original import original_of
from lightning_cost.pruning.target.channels import ChannelRules
from tests.gauntlet.strange.laws import outputs_of, require, require_equal


def loss_of(outputs: Any) -> Tensor:
    """How far all outputs that train are from one."""
    return sum(
        (output.abs() - 1).float().square().mean()
        for output in tensors_of(outputs)
        if output.is_floating_point() or output.is_complex()
    )  # type: ignore[return-value]


class Fitted(pl.LightningModule):
    """Trains any network on one batch."""

    def __init__(self, network: nn.Module, example: Any) -> None:
        super().__init__()
        self.network = network
        self._batch = example

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's outputs."""
        return self.network(*args, **kwargs)

    def on_train_epoch_start(self) -> None:
        """Draw the same numbers in an epoch wherever the fit began: checkpoints carry none."""
        torch.manual_seed(self.current_epoch)

    def training_step(self, batch: Any) -> Tensor:
        """The loss on the batch."""
        args, kwargs = call_arguments(batch[0])
        return loss_of(self.network(*args, **kwargs))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW, which has state."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        # an epsilon that half precision can hold
        return torch.optim.AdamW(trained, lr=1e-3, eps=1e-4)

    def train_dataloader(self) -> DataLoader[Any]:
        """The same batch twice, beside labels that nobody reads."""
        batches = [(self._batch, torch.zeros(1))] * 2
        return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)


def require_resumable(
    build: Callable[[], nn.Module], example: Any, folder: Path, *, prunes: bool, quantises: bool
) -> None:
    """Raise unless a fit ends as one does that was ended early and taken up again."""
    whole = _fit(build(), example, folder / "whole", None, prunes=prunes, quantises=quantises)
    for epoch in range(2):
        checkpoint = folder / "whole" / f"epoch={epoch}.ckpt"
        again = _fit(
            build(), example, folder / "again", checkpoint, prunes=prunes, quantises=quantises
        )
        expected, found = whole.state_dict(), again.state_dict()
        require(list(expected) == list(found), f"resumed from epoch {epoch}: the same tensors")
        for name, value in expected.items():
            require_equal([value], [found[name]], f"resumed from epoch {epoch}: {name}")
        one, other = (lineage_to_list(lineage_of(_plain(m.network))) for m in (whole, again))
        require(one == other, f"resumed from epoch {epoch}: the same lineage")
    loaded = load_compressed(_plain(build()), folder / "whole" / "epoch=2.ckpt")
    expected = outputs_of(whole.network, example)
    require_equal(expected, outputs_of(loaded, example), "loaded without a Trainer")


def _plain(network: nn.Module) -> nn.Module:
    return original_of(network)


def _fit(
    network: nn.Module,
    example: Any,
    folder: Path,
    checkpoint: Path | None,
    *,
    prunes: bool,
    quantises: bool,
) -> Fitted:
    pl.seed_everything(0, verbose=False)
    module = Fitted(network, example)
    callbacks: list[pl.Callback] = []
    if prunes:
        callbacks.append(
            GlobalRankingPruning(
                ModelBudget(macs="70%"),
                schedule=PruningSchedule(warmup_epochs=1, num_steps=1, recover_epochs=1),
                search=EvolutionSearch(num_candidates=1, calibration_samples=4, search_samples=4),
                channels=ChannelRules(multiple=1),
                loss=lambda tried, batch: loss_of(run_forward(tried, batch[0])).detach(),
                search_data=[(example, torch.zeros(1))],
            )
        )
    if quantises:
        callbacks.append(QuantizationAwareTraining(start=None if prunes else 1, epochs=1))
    callbacks.append(
        ModelCheckpoint(
            dirpath=folder, filename="{epoch}", save_top_k=-1, enable_version_counter=False
        )
    )
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        devices=1,
        callbacks=callbacks,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    return module
