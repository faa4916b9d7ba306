"""Two gloo ranks hold the same plan, the same weights, and stop on the same step."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("budget", ["macs", pytest.param("joint", marks=pytest.mark.slow)])
def test_two_ranks_end_as_one(tmp_path, budget):
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, str(root / "tests/integration/ddp_run.py"), str(tmp_path), budget],
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
    assert (first["bits"] is not None) == (budget == "joint")
    assert first["reason"].startswith("model budget kept")


def _search(folder, num_ranks, fails_on=-1):
    folder.mkdir()
    script = str(ROOT / "tests/integration/search_run.py")
    subprocess.run(
        [sys.executable, script, str(folder), str(num_ranks), str(fails_on)],
        check=True,
        timeout=200,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
    )
    return [json.loads((folder / f"rank_{rank}.json").read_text()) for rank in range(num_ranks)]


@pytest.mark.slow
def test_two_ranks_search_what_one_does_and_share_the_work(tmp_path):
    (alone,) = _search(tmp_path / "one", 1)
    first, second = _search(tmp_path / "two", 2)
    judged = [held.pop("num_judged") for held in (alone, first, second)]
    assert first == second
    for name in ("ranking", "trials", "search_flops", "lineage"):
        assert first[name] == alone[name], name
    assert judged[1] + judged[2] <= judged[0] + 2, "but for what each rank looks at once"
    assert min(judged[1:]) > 0.2 * judged[0]


@pytest.mark.slow
@pytest.mark.parametrize("fails_on", [0, 1])
def test_a_judge_that_fails_on_one_rank_ends_the_fit_on_both(tmp_path, fails_on):
    found = _search(tmp_path / "failed", 2, fails_on)
    assert all("no such judge" in held["error"] for held in found)
    assert all(held["lineage"] == [] for held in found)
