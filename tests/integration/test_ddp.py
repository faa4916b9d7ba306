"""Two gloo ranks hold the same plan, the same weights, and stop on the same step."""

import json
import os
import subprocess
import sys
from pathlib import Path


def test_two_ranks_end_as_one(tmp_path):
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, str(root / "tests/integration/ddp_run.py"), str(tmp_path)],
        check=True,
        timeout=300,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
    )
    first, second = (json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    kinds = [change["kind"] for change in first["lineage"]]
    assert kinds == ["remove_channels", "remove_channels", "prepare_quantization"]
    assert first["reason"].startswith("model budget kept")
