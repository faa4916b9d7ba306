"""Deployment: what is checked before training, and what comes out of the file."""

import numpy as np
import pytest
import torch
from torch import nn

from lightning_cost.recipe import deployment
from lightning_cost.recipe.deployment import accuracy_of, export, require_file_runtime


class _Fixed:
    """A session whose logits are known."""

    def run(self, images):
        return (np.eye(3)[images.flatten().int().numpy()],)


def test_accuracy_is_the_share_of_right_answers():
    batches = [
        (torch.tensor([[0.0], [1.0]]), torch.tensor([0, 2])),
        (torch.tensor([[2.0]]), torch.tensor([2])),
    ]
    assert accuracy_of(_Fixed(), batches) == pytest.approx(2 / 3)


def test_nothing_to_run_the_file_on_is_said_before_training(monkeypatch):
    monkeypatch.setattr(deployment, "installed_runtimes", lambda: ["eager"])
    with pytest.raises(ValueError, match="deployment needs one of onnxruntime, openvino, got none"):
        require_file_runtime()


def test_export_of_an_unknown_format(tmp_path):
    with pytest.raises(ValueError, match=r"runtime must be one of onnx, .*, got 'tflite'"):
        export(nn.Linear(2, 2), tmp_path / "model", torch.zeros(1, 2), runtime="tflite")
