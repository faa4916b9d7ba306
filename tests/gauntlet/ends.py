"""What a run ended with, against what the uninterrupted run ended with."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from tests.gauntlet.library_fit import CHECKPOINT_NAME, END_NAME

FLOPS = ("train_flops", "eval_flops", "search_flops")


def run_differences(whole: Path, found: Path, lost: Mapping[str, float]) -> list[str]:
    """Where a run directory differs from that of the uninterrupted run, up to times and places.

    Args:
        whole: Of the uninterrupted run.
        found: Of the run that was killed.
        lost: FLOPs that were used and lost with kills, by name.
    """
    differences = [*_unlike(*(_checkpoint(run / "final.ckpt") for run in (whole, found)), "end")]
    for name in ("ranking.json", "model.onnx", "model.packed", "dense.onnx"):
        ours, theirs = (
            (run / name).read_bytes() if (run / name).exists() else None for run in (found, whole)
        )
        if ours != theirs:
            differences.append(name)
    expected, report = (json.loads((run / "report.json").read_text()) for run in (whole, found))
    used = [{name: each["spend"][name]["value"] for name in FLOPS} for each in (expected, report)]
    differences += [*_spend(*used, lost), *_unlike(timeless(expected), timeless(report), "report")]
    return differences + _litter(found)


def library_differences(whole: Path, found: Path, lost: Mapping[str, float]) -> list[str]:
    """The same of what ``library_fit`` leaves."""
    checkpoints = (_checkpoint(run / CHECKPOINT_NAME) for run in (whole, found))
    expected, end = (json.loads((run / END_NAME).read_text()) for run in (whole, found))
    differences = [*_unlike(*checkpoints, "end")]
    differences += _spend(expected.pop("spend"), end.pop("spend"), lost)
    return [*differences, *_unlike(expected, end, "end"), *_litter(found)]


def _checkpoint(path: Path) -> dict[str, Any]:
    saved = torch.load(path, weights_only=True)
    names = ("state_dict", "optimizer_states", "lightning_cost_lineage", "global_step", "epoch")
    return {name: saved[name] for name in (*names, "current_model_state") if name in saved}


def _spend(
    whole: Mapping[str, float], found: Mapping[str, float], lost: Mapping[str, float]
) -> Iterator[str]:
    """Exactly what the uninterrupted run used, and what was lost on top.

    Of a search less: what was judged before a kill is not judged again.
    """
    for name in FLOPS:
        most = whole[name] + lost.get(name, 0)
        is_right = 0 < found[name] <= most if name == "search_flops" else found[name] == most
        if not is_right:
            yield f"{name} must be {most:.0f}, got {found[name]:.0f}"


def _litter(folder: Path) -> list[str]:
    """What should not outlive a run."""
    patterns = (".*", "spend-*", "search-*")
    return [f"{path.name} is left" for pattern in patterns for path in folder.glob(pattern)]


def timeless(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report without times, places, and what the search did not have to do again."""
    left_out = ("spend", "created", "command")
    kept = {name: value for name, value in report.items() if name not in left_out}
    if report["pruning"] and report["pruning"]["search"]:
        search = {**report["pruning"]["search"], "flops": None}
        kept["pruning"] = {**report["pruning"], "search": search}
    return _without(kept)


def _without(value: Any) -> Any:
    if isinstance(value, Mapping):
        left_out = ("seconds", "run_dir", "resume", "repeats", "folder")
        return {name: _without(each) for name, each in value.items() if name not in left_out}
    return [_without(each) for each in value] if isinstance(value, list) else value


def _unlike(expected: Any, found: Any, where: str) -> Iterator[str]:
    """The first places where two trees of plain data and tensors differ."""
    if isinstance(expected, torch.Tensor) and isinstance(found, torch.Tensor):
        if expected.dtype != found.dtype or not torch.equal(expected, found):
            yield where
    elif isinstance(expected, Mapping) and isinstance(found, Mapping):
        if expected.keys() != found.keys():
            yield f"{where}: {sorted({*map(str, expected)} ^ {*map(str, found)})}"
            return
        for name, value in expected.items():
            yield from _unlike(value, found[name], f"{where}.{name}")
    elif isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        if len(expected) != len(found):
            yield f"{where}: {len(found)} entries for {len(expected)}"
            return
        for number, pair in enumerate(zip(expected, found, strict=True)):
            yield from _unlike(*pair, f"{where}[{number}]")
    elif expected != found and not (expected != expected and found != found):
        yield f"{where}: {found!r} for {expected!r}"
