from types import SimpleNamespace

import pytest
import torch

from lightning_cost.network.finite import require_finite_loss

TRAINER = SimpleNamespace(current_epoch=3)


@pytest.mark.parametrize("outputs", [torch.tensor(1.0), {"loss": torch.tensor(2.0)}, {}, None])
def test_a_number_or_none_at_all(outputs):
    require_finite_loss(TRAINER, outputs, "prune")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_no_number(value):
    loss = torch.tensor(float(value), requires_grad=True)
    with pytest.raises(ValueError, match=rf"got {value} in epoch 3 \(phase prune\); lower the"):
        require_finite_loss(TRAINER, {"loss": loss}, "prune")
