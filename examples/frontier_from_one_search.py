"""What every budget would leave, from the ranking that one fit has learned.

Run it: python examples/frontier_from_one_search.py (about two minutes on one core).
"""

import sys
import tempfile
from pathlib import Path

import torch

from lightning_cost import Hardware, Resource, measure
from lightning_cost.cli import main as lightning_cost
from lightning_cost.pruning.batches import classification_loss
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.reconstruction.least_squares import Reconstruction
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.pruning.target.problem import PruningProblem
from lightning_cost.recipe.frontier import accuracy_judge, frontier
from lightning_cost.zoo.data import ImageData
from lightning_cost.zoo.resnet import resnet20

SETTINGS = ["data=digits", "model=resnet20", "compress=quick", "compress.quantize=null"]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        code = lightning_cost(["fit", *SETTINGS, "budget.macs=50%", f"run_dir={run_dir}"])
        if code != 0:
            return code
        network = resnet20(in_channels=1)
        network.load_state_dict(torch.load(run_dir / "dense.pt", weights_only=True))
        ranking = GlobalRanking.load(run_dir / "ranking.json")

    data = ImageData("digits", search_ratio=0.1, val_ratio=0.1)
    data.setup("fit")
    training, validation = list(data.train_dataloader()), list(data.val_dataloader())
    network, example = network.eval(), validation[0][0][:1]
    hardware = Hardware.load("raspberry_pi_4")
    problem = PruningProblem.of(
        network,
        example,
        rules=ChannelRules(multiple=4),
        limits={},
        preview=lambda cut: cut,
        hardware=hardware,
        dense_cost=measure(network, example, hardware=hardware),
    )
    points = frontier(
        problem,
        ranking,
        ratios=[share / 20 for share in range(19, 0, -1)],
        calibration=training[:8],
        reconstruction=Reconstruction(network, training[0], classification_loss),
        judge=accuracy_judge("accuracy", validation, 256),
    )
    print(f"{'channels':>8} {'MACs':>10} {'bytes':>10} {'ms (est.)':>9} before recovery")
    for point in points:
        macs, size = point.cost[Resource.macs].value, point.cost[Resource.size_bytes].value
        latency = point.cost[Resource.latency_ms].value
        line = f"{point.plan.keep_ratio:8.1%} {macs:10,.0f} {size:10,.0f} {latency:9.3f}"
        print(f"{line} {point.metrics['accuracy']:8.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
