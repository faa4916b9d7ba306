"""Hostile files of weights: packed networks, checkpoints, lineages."""

import copy
import hashlib
import json
import struct
import tempfile
import zlib
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from lightning_cost import load_compressed, load_packed, save_packed
from lightning_cost.network.lineage import (
    CHECKPOINT_KEY,
    apply_change,
    lineage_from_list,
    lineage_of,
    lineage_to_list,
    replay,
)
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.structure.surgery import removal
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.packing.container import read_container, write_container
from lightning_cost.quantization.plan import plan_quantization
from tests.gauntlet.hostile.damage import damaged, damaged_bytes, odd_value
from tests.gauntlet.hostile.trial import SilentError, Subject

_EXAMPLE = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def _fresh() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 3)).eval()


@cache
def _compressed() -> nn.Module:
    network = _fresh()
    grouping = channel_groups(network, _EXAMPLE)
    kept = {group.name: tuple(range(group.num_channels - 1)) for group in grouping.groups}
    plan = Plan(kept=kept, num_channels=grouping.num_channels)
    apply_change(network, removal(grouping, plan))
    apply_change(network, plan_quantization(network, _EXAMPLE, "int4"))
    calibrate(network, [_EXAMPLE])
    return network.eval()


@cache
def _packed() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return save_packed(_compressed(), Path(folder) / "whole").read_bytes()


@cache
def _expected() -> Tensor:
    return _compressed()(_EXAMPLE).detach()


def packed_bytes(random: Random, folder: Path) -> None:
    """A packed file with changed bytes."""
    content = _packed()
    changed = damaged_bytes(content, random)
    path = folder / "changed"
    path.write_bytes(changed)
    network = _fresh()
    before = copy.deepcopy(network.state_dict())
    try:
        load_packed(network, path)
    except ValueError:
        after = network.state_dict()
        if any(not torch.equal(value, after[name]) for name, value in before.items()):
            raise SilentError("a refused file changed the network") from None
        raise
    if changed != content:
        raise SilentError("changed bytes were taken for whole")


def packed_header(random: Random, folder: Path) -> None:
    """A packed file whose header was changed and whose checksum fits."""
    path = folder / "changed"
    path.write_bytes(_packed())
    header, body = read_container(path)
    write_container(path, damaged(header, random), body)
    loaded = load_packed(_fresh(), path)
    if loaded(_EXAMPLE).shape != _expected().shape:
        raise SilentError("outputs of another shape")


def packed_sizes(random: Random, folder: Path) -> None:
    """A packed file that speaks of huge sizes, with a checksum that fits."""
    sizes = (0, 1, 2**24, 2**24 + 1, 2**31, 2**32 - 1)
    bomb = zlib.compress(b" " * 2**22)
    num_text, num_body = random.choice(sizes), random.choice((0, 2**62, 2**64 - 1))
    stored = random.choice((bomb, bomb[:-3], b"", b"x" * 50, zlib.compress(b"[" * 10**5)))
    front = struct.pack("<8sBIIQ", b"LCPACKED", random.choice((0, 1, 2, 255)), len(stored),
                        num_text, num_body if random.random() < 0.5 else 0)  # fmt: skip
    digest = hashlib.blake2b(front + stored, digest_size=16).digest()
    path = folder / "made"
    path.write_bytes(front + digest + stored)
    load_packed(_fresh(), path)
    raise SilentError("a made-up file was taken for a packed one")


def lineage(random: Random, folder: Path) -> None:
    """The structural changes in a checkpoint."""
    changes = damaged(json.loads(json.dumps(lineage_to_list(lineage_of(_compressed())))), random)
    replay(_fresh(), lineage_from_list(changes))


def checkpoint(random: Random, folder: Path) -> None:
    """A checkpoint with changed bytes, records or tensors."""
    path = folder / "network.ckpt"
    network = _compressed()
    changes = json.loads(json.dumps(lineage_to_list(lineage_of(network))))
    record: Any = {"network": "network", "changes": changes}
    state: Any = {f"network.{name}": value for name, value in network.state_dict().items()}
    kind = random.randrange(4)
    if kind == 0:
        record = damaged(record, random)
    elif kind == 1:
        name = random.choice(list(state))
        state[name] = random.choice((odd_value(random), state[name].unsqueeze(0), torch.zeros(0)))
    elif kind == 2:
        state = damaged(state, random)
    saved: Any = {CHECKPOINT_KEY: record, "state_dict": state}
    torch.save(odd_value(random) if kind == 3 and random.random() < 0.3 else saved, path)
    if kind == 3:
        path.write_bytes(damaged_bytes(path.read_bytes(), random))
    loaded = load_compressed(_fresh(), path)
    found = loaded(_EXAMPLE)
    if found.shape != _expected().shape:
        raise SilentError("outputs of another shape")
    if kind == 3 and not torch.equal(found, _expected()):
        raise SilentError("changed bytes, and other outputs")


class _Payload:
    """Runs code where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._target = str(folder / "ran")

    def __reduce__(self) -> Any:
        return (open, (self._target, "w"))


def pickled(random: Random, folder: Path) -> None:
    """A checkpoint that would run code."""
    path = folder / "network.ckpt"
    payload = _Payload(folder)
    record = {"network": "", "changes": []}
    saved: dict[str, Any] = {CHECKPOINT_KEY: record, "state_dict": {}}
    saved[random.choice((CHECKPOINT_KEY, "state_dict", "more"))] = payload
    torch.save(saved, path)
    (folder / "ran").unlink(missing_ok=True)
    try:
        load_compressed(_fresh(), path)
    finally:
        if (folder / "ran").exists():
            raise SilentError("code in a checkpoint ran")
    raise SilentError("a checkpoint with code in it was accepted")


SUBJECTS = (
    Subject(name="packed bytes", hand_in=packed_bytes, weight=2),
    Subject(name="packed headers", hand_in=packed_header, weight=2),
    Subject(name="packed sizes", hand_in=packed_sizes, weight=0.5),
    Subject(name="lineages", hand_in=lineage, weight=2),
    Subject(name="checkpoints", hand_in=checkpoint),
    Subject(name="pickles", hand_in=pickled, weight=0.2),
)
