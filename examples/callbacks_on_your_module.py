"""Compress a LightningModule of your own by adding callbacks to its Trainer.

Run it: python examples/callbacks_on_your_module.py (about a minute on two cores).
"""

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

from lightning_cost import ModelBudget, Resource, compress_to, measure
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.recipe.config import CompressSettings


def layer(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


class DigitReader(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            layer(1, 32, 1),
            layer(32, 64, 2),
            layer(64, 64, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self(images), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.log("val/accuracy", (self(images).argmax(1) == labels).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main() -> None:
    pl.seed_everything(0)
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    data = TensorDataset(images, torch.tensor(digits.target))
    train, val = random_split(data, [0.8, 0.2])

    budget = ModelBudget(macs="40%", size_bytes="40 kB")
    schedule = PruningSchedule(warmup_epochs=3, num_steps=2, epochs_per_step=1, recover_epochs=2)
    module, example = DigitReader(), images[:1]
    dense = measure(module.network, example)

    trainer = pl.Trainer(
        max_epochs=20,
        callbacks=compress_to(budget, settings=CompressSettings(schedule=schedule)),
    )
    trainer.fit(module, DataLoader(train, 64, shuffle=True), DataLoader(val, 256))

    final = measure(module.network, example)
    for resource in (Resource.macs, Resource.params, Resource.size_bytes):
        print(f"{resource}: {dense[resource].value:,.0f} -> {final[resource].value:,.0f}")
    assert budget.is_kept(final, dense), "the budget is kept"


if __name__ == "__main__":
    main()
