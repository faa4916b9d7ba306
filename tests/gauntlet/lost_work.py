"""What a command that is killed used for nothing, known from its checkpoints and its journal."""

import json
from pathlib import Path

import torch

from lightning_cost.network.checkpoint_file import damage_of
from lightning_cost.recipe.run_dir import FINAL_NAME, LAST_NAME, PREVIOUS_NAME
from tests.gauntlet.ends import FLOPS


class LostWork:
    """FLOPs that the run has used beyond what the uninterrupted one had at the same place.

    Attributes:
        flops: Of the process that runs now, by name.
    """

    def __init__(self) -> None:
        self.flops = dict.fromkeys(FLOPS, 0.0)
        self._of_checkpoint: dict[str, dict[str, float]] = {}

    def killed(self, run_dir: Path) -> None:
        """Take note of what a process left, before the next one goes on from it."""
        names = (FINAL_NAME, LAST_NAME, PREVIOUS_NAME)
        files = [run_dir / name for name in names if (run_dir / name).exists()]
        meters = [_meter(file) for file in files if damage_of(file) is None]
        # one that is new was written by the process that was killed
        lost = [self._of_checkpoint.setdefault(json.dumps(m), dict(self.flops)) for m in meters]
        if not meters:
            self.flops = dict.fromkeys(FLOPS, 0.0)
            return
        saved, written = meters[0], meters[0]
        for journal in run_dir.glob("spend-*.json"):
            written = json.loads(journal.read_text())
        self.flops = {name: lost[0][name] + max(0, written[name] - saved[name]) for name in FLOPS}


def _meter(checkpoint: Path) -> dict[str, float]:
    saved = torch.load(checkpoint, weights_only=True)["callbacks"]["CostMonitor"]["meter"]
    return {name: saved[name] for name in (*FLOPS, "seconds")}
