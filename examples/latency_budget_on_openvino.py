"""A budget in milliseconds, measured on OpenVINO, on this machine.

Run it: python examples/latency_budget_on_openvino.py (about two minutes on two cores).
"""

import sys

import torch

from lightning_cost import Hardware, Resource, measure
from lightning_cost.cli import main as lightning_cost
from lightning_cost.zoo.resnet import resnet8


def main() -> int:
    device = Hardware.local(runtime="openvino", num_threads=1)
    dense = measure(resnet8(width=32, in_channels=1), torch.zeros(1, 1, 8, 8), hardware=device)
    latency = dense[Resource.latency_ms]
    print(f"dense: {latency.value:.3f} ms on {latency.device}, {latency.runtime}")

    # a limit in milliseconds, what a user of the device would notice, beside one on operations
    limit_ms = 0.8 * latency.value
    return lightning_cost(
        [
            "fit",
            "runtime=openvino",
            "model=resnet8",
            "model.width=32",
            "compress=quick",
            "budget.macs=60%",
            f"budget.latency_ms={limit_ms:.4f}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
