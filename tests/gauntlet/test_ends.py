"""What the end of a killed command is compared by, on run directories made for it."""

import json

import pytest
import torch

from tests.gauntlet.commands import Fit, Sweep
from tests.gauntlet.ends import FLOPS

USED = dict(zip(FLOPS, (1000.0, 100.0, 50.0), strict=True))


def finished(folder, **used):
    """The directory of a run that has used so much."""
    folder.mkdir(parents=True)
    names = ("state_dict", "optimizer_states", "lightning_cost_lineage", "global_step", "epoch")
    torch.save(dict.fromkeys(names, 0), folder / "final.ckpt")
    spend = {name: {"value": value} for name, value in (USED | used).items()}
    (folder / "report.json").write_text(json.dumps({"spend": spend, "pruning": None}))


def differences(tmp_path, command, places, used, lost):
    for place, each in zip(places, used, strict=True):
        finished(tmp_path / "whole" / place)
        finished(tmp_path / "found" / place, **each)
    return list(command.differences(tmp_path / "whole", tmp_path / "found", lost))


@pytest.mark.parametrize("name", FLOPS)
def test_what_was_lost_may_be_spent_once_more_and_no_more(tmp_path, name):
    fit = Fit(name="fit")
    for number, (more, expected) in enumerate([(7, []), (8, [f"{name} must be"])]):
        used = [{name: USED[name] + more}]
        found = differences(tmp_path / str(number), fit, ["run"], used, {"run": {name: 7.0}})
        assert [each[: len(name) + 8] for each in found] == expected


@pytest.mark.parametrize("run", [0, 1])
@pytest.mark.parametrize("name", FLOPS)
def test_each_run_of_a_sweep_has_spent_its_own(tmp_path, run, name):
    places, more = ["sweep/0", "sweep/1"], {name: USED[name] + 1}
    used = [more if number == run else {} for number in range(2)]
    lost = {str(number): {name: float(number == run)} for number in range(2)}
    sweep = Sweep(name="sweep")
    assert differences(tmp_path / "told", sweep, places, used, lost) == []
    found = differences(tmp_path / "untold", sweep, places, used, {})
    assert found == [f"run {run}: {name} must be {USED[name]:.0f}, got {USED[name] + 1:.0f}"]
    swapped = {str(number): lost[str(1 - number)] for number in range(2)}
    found = differences(tmp_path / "swapped", sweep, places, used, swapped)
    assert f"run {run}: {name} must be {USED[name]:.0f}" in "; ".join(found)
