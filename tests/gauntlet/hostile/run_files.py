"""Hostile notes of a run: what a search has judged, the dense network, what a killed run used."""

import json
import math
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import nn

from lightning_cost.monitor.journal import find_journal
from lightning_cost.monitor.spend import SpendMeter, with_lost_work
from lightning_cost.pruning.search.memory import find_memory
from lightning_cost.recipe.dense import DenseSnapshot
from tests.gauntlet.hostile.damage import as_text, damaged, damaged_bytes, odd_value
from tests.gauntlet.hostile.trial import SilentError, Subject
from tests.pruning.search import test_memory as made_up

_KEPT = "no note of a search"
_USED = {"seconds": 1.0, "joules": 2.0, "measured_s": 1.0, "search_flops": 3.0, "train_flops": 5}


def search_memory(random: Random, folder: Path) -> None:
    """What a search had judged when it was killed; what cannot be read counts for nothing."""
    run, outside = folder / "run", folder / "outside"
    outside.write_text(_KEPT)
    memory = find_memory([run], "x", run="0")
    memory.add(made_up.TASKS[:2], made_up.FOUND[:2])
    assert memory.path is not None
    if random.random() < 0.1:
        memory.path.unlink()
        memory.path.symlink_to(outside)
    elif random.random() < 0.4:
        memory.path.write_bytes(damaged_bytes(memory.path.read_bytes(), random))
    else:
        _change_line(memory.path, random)
    again = find_memory([run], "x", run="0")
    for task in made_up.TASKS:
        _check(task, again.recall(task))
    again.add(made_up.TASKS[2:], made_up.FOUND[2:])
    third = find_memory([run], "x", run="0")
    if again.path is not None and third.recall(made_up.TASKS[2]) != made_up.FOUND[2]:
        raise SilentError("what was written behind it is lost")
    if outside.read_text() != _KEPT:
        raise SilentError("a file outside of the run was changed")


def _change_line(path: Path, random: Random) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    place = random.randrange(len(lines))
    changed = [json.dumps(line).encode() for line in lines]
    changed[place] = as_text(damaged(lines[place], random), random)
    path.write_bytes(b"\n".join(changed) + b"\n")


def _check(task: Any, found: Any) -> None:
    if found is None:
        return
    if len(found) != len(task.plans) and not (found and found[-1].is_rejected):
        raise SilentError(f"{len(found)} judgements of {len(task.plans)} networks")
    for each in found:
        if {type(each.loss), type(each.glance)} - {int, float} or type(
            each.is_rejected
        ) is not bool:
            raise SilentError(f"{each} was judged")
        if not (math.isfinite(each.flops) and each.flops >= 0):
            raise SilentError(f"judging took {each.flops} FLOPs")


@cache
def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 2))


def dense_network(random: Random, folder: Path) -> None:
    """The dense network that a run kept for its report, with changed bytes, names or tensors."""
    path = folder / "dense.pt"
    state: Any = dict(_network().state_dict())
    kind = random.randrange(4)
    if kind == 0:
        state = damaged(state, random)
    elif kind == 1:
        name = random.choice(list(state))
        state[name] = random.choice((odd_value(random), state[name][None], torch.zeros(0)))
    elif kind == 2:
        state = odd_value(random)
    torch.save(state, path)
    if kind == 3:
        path.write_bytes(damaged_bytes(path.read_bytes(), random))
    fresh = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 2))
    snapshot = DenseSnapshot(path)
    loaded = snapshot.load_into(fresh)
    for name, value in _network().state_dict().items():
        if kind == 3 and not torch.equal(loaded.state_dict()[name], value):
            raise SilentError(f"changed bytes, and another {name}")


def spend_journal(random: Random, folder: Path) -> None:
    """What a killed run had used, counted on top of what its checkpoint knows."""
    state = {**_USED, "run_id": "a", "journal": None, "eval_flops": 1, "lost_search_flops": 0}
    state |= {"training": {"notes": [], "unsupported": []}}
    path = folder / "spend-a1.json"
    path.write_bytes(as_text(damaged(state, random), random))
    found = find_journal("a1", [folder])
    assert found is not None
    written, meter = found.read(), SpendMeter(clock=lambda: 0.0)
    saved = {**_USED, "seconds": 0.5, "search_flops": 1.0, "lost_search_flops": 0}
    meter.load_state_dict(saved)
    meter.power_w, meter.co2_kg_per_kwh, meter.price_usd_per_hour = 100.0, 0.4, 1.0
    least = meter.spend.to_dict()
    if written is not None:
        meter.load_state_dict(with_lost_work(saved, written))
    for name, amount in meter.spend.to_dict().items():
        if not (math.isfinite(amount) and amount >= least[name]):
            raise SilentError(f"{name} became {amount}")


SUBJECTS = (
    Subject(name="search memories", hand_in=search_memory, weight=0.5),
    Subject(name="dense networks", hand_in=dense_network),
    Subject(name="spend journals", hand_in=spend_journal, weight=2),
)
