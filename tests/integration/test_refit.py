"""A cut inside a fit leaves a network, and averaged copies of it, that still know their task."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging

from lightning_cost.network.averaging import averaged_copies
from lightning_cost.network.lineage import lineage_of
from lightning_cost.pruning.batches import classification_loss
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.pruning.schedule import PruningSchedule
from tests.integration import setting


class RightAfterTheCut(pl.Callback):
    """Notes the loss of the network, and of its averaged copy, before anything is trained."""

    def __init__(self):
        self.losses = None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.losses is None and lineage_of(pl_module.network):
            networks = [pl_module.network, *averaged_copies(trainer, pl_module.network)]
            self.losses = [self._loss(network, trainer.datamodule) for network in networks]

    @torch.no_grad()
    def _loss(self, network, data):
        modes = [(module, module.training) for module in network.modules()]
        network.eval()
        part = data.part("val")
        loss = float(classification_loss(network, part.__getitems__(range(len(part)))))
        for module, mode in modes:
            module.training = mode
        return loss


def losses_after(folder, *, reconstruct):
    probe = RightAfterTheCut()
    search = setting.settings().search
    search.num_candidates, search.reconstruct = 1, reconstruct  # uniform widths in both
    pruning = GlobalRankingPruning(
        setting.ModelBudget(macs="30%"),
        schedule=PruningSchedule(warmup_epochs=2, num_steps=1, recover_epochs=1),
        search=search,
        channels=setting.settings().channels,
        distillation=None,
    )
    callbacks = [pruning, EMAWeightAveraging(decay=0.5), probe]
    trainer = setting.trainer(folder, callbacks, max_epochs=3)
    trainer.fit(setting.module(), datamodule=setting.data())
    return probe.losses


def test_layers_are_fitted_again_in_the_network_and_its_average(tmp_path):
    fitted = losses_after(tmp_path, reconstruct=True)
    left = losses_after(tmp_path, reconstruct=False)
    assert len(fitted) == len(left) == 2
    for with_fit, without in zip(fitted, left, strict=True):
        assert with_fit < 0.75 * without
