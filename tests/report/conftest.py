"""A realistic report of a made-up run: every number here is invented for the tests."""

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from lightning_cost.cost.measurement import Cost, Measurement, Method, cost_to_dict
from lightning_cost.cost.resource import Resource
from lightning_cost.report.document import RunFacts, Stage, build_report
from lightning_cost.report.files import save_report
from lightning_cost.report.study.record import Importance, Study, TrialRecord

CPU = "Example CPU @ 2.40GHz"


def latency(value: float, runtime: str, method: Method = Method.measured) -> Measurement:
    return Measurement(
        value=value,
        unit="ms",
        method=method,
        spread=0.021 * value if method is Method.measured else None,
        interval=(0.99 * value, 1.01 * value) if method is Method.measured else None,
        p95=1.2 * value if method is Method.measured else None,
        num_samples=312 if method is Method.measured else None,
        stopped_by="precision" if method is Method.measured else None,
        device=CPU,
        runtime=runtime,
        num_threads=1,
        batch_size=1,
        dtype="float32",
    )


def cost_of(share: float, latency_ms: float, *, size_ratio: float = 1.0) -> Cost:
    exact = Measurement.exact
    energy = Measurement(
        value=latency_ms * 7.5, unit="mJ", method=Method.estimated, device=CPU, batch_size=1
    )
    return {
        Resource.macs: exact(Resource.macs, round(161_900_000 * share), ("aten::sort",)),
        Resource.params: exact(Resource.params, round(1_076_000 * share)),
        Resource.size_bytes: exact(Resource.size_bytes, round(4_304_000 * share * size_ratio)),
        Resource.peak_memory_bytes: exact(Resource.peak_memory_bytes, round(200_704 + 2e5 * share)),
        Resource.latency_ms: latency(latency_ms, "openvino"),
        Resource.energy_mj: energy,
    }


def history() -> list[dict[str, Any]]:
    phases = ["warm-up"] * 6 + ["search"] + ["prune"] * 9 + ["recover"] * 8 + ["quantise"] * 6
    rows = []
    for epoch, phase in enumerate(phases):
        step = min(max(0, (epoch - 6) // 3), 3)
        share = [1.0, 0.68, 0.43, 0.288][step]
        is_int8 = phase == "quantise"
        cost = cost_of(
            share,
            3.36 * (0.12 + 0.88 * share) * (0.55 if is_int8 else 1),
            size_ratio=0.26 if is_int8 else 1.0,
        )
        dip = 0.024 * (phase == "prune" and (epoch - 7) % 3 == 2) + 0.004 * is_int8
        accuracy = 0.921 - 0.17 * 0.6**epoch - dip
        rows.append(
            {
                "epoch": epoch,
                "step": 430 * (epoch + 1),
                "seconds": 61.0 * (epoch + 1) * (1 - 0.008 * epoch) + (540 if epoch > 5 else 0),
                "phase": phase,
                "cost": cost_to_dict(cost),
                "metrics": {"val_acc": accuracy, "train_loss": 1.9 * 0.85**epoch + 0.1},
            }
        )
    return rows


def widths() -> dict[str, tuple[int, int]]:
    layers = {"stem.conv": (32, 32)}
    for stage, (before, outer) in enumerate(((32, 24), (64, 40), (128, 56)), start=1):
        for block in range(3):
            inner = max(8, outer - 8 * block)
            layers[f"stage{stage}.{block}.conv1"] = (before, inner)
            layers[f"stage{stage}.{block}.conv2"] = (before, outer)
    return layers


def cuts() -> dict[str, Any]:
    """The groups of ``widths``: ten of them, whose channels take turns in the ranking."""
    layers = widths()
    totals = {name: before for name, (before, _) in layers.items() if name.endswith("conv1")}
    totals["stage3.2.conv2"] = 128
    order = sorted((place * 997 % 1009, name) for place, name in enumerate(
        name for name, total in totals.items() for _ in range(total)
    ))  # fmt: skip
    ranks: dict[str, list[int]] = {name: [] for name in totals}
    for rank, (_, name) in enumerate(order):
        ranks[name].append(rank)
    kept = {name: layers[name][1] for name in totals}
    halfway = [(total + kept[name]) // 2 for name, total in totals.items()]
    trials = []
    for number, loss in enumerate((0.9, 0.7, 0.8, 2.5, 0.72, 0.64, float("inf"), 0.66)):
        trials.append({
            "base": ("uniform", "l2", "l2_normalised")[number % 3], "is_plain": number < 3,
            "loss": loss, "best": min([loss, *(trial["loss"] for trial in trials)]),
            "flops": 1e9 * (number + 1), "is_rejected": number == 3,
        })  # fmt: skip
    return {
        "groups": [
            {"name": name, "layers": [name], "ranks": ranks[name], "kept": kept[name]}
            for name in totals
        ],
        "left_alone": {"classifier": "its channels are the network's output"},
        "steps": [
            {"epoch": 7, "kept": halfway, "is_made": True},
            {"epoch": 10, "kept": list(kept.values()), "is_made": True},
            {"epoch": 13, "kept": list(kept.values()), "is_made": False},
        ],
        "remarks": ["pruning step 3 of 3 removes nothing"],
        "search": {"is_reused": False, "flops": 8e9, "trials": trials},
        "frontier": [
            {
                "cost": cost_to_dict(cost_of(share, 3 * share)),
                "metrics": {"val_acc": 0.92 - 0.6 * (1 - share) ** 2},
                "keep_ratio": share**0.5,
            }
            for share in (0.8, 0.5, 0.3, 0.1)
        ],
    }


def bits() -> dict[str, Any]:
    """A quantised network: ends in int8, the rest in powers of two."""
    schemes = {"stem": ("int8", 8), "block": ("flightnn", 5.2), "classifier": ("int8", 8)}
    return {
        "layers": [{"name": n, "scheme": s, "bits": b} for n, (s, b) in schemes.items()],
        "left_float": {"attention": "it is not called in a forward pass"},
        "calibrated": {"val/accuracy": 0.875},
        "integers": {"calibrated": {"val/accuracy": 0.8875}, "formula": 53_700},
        "trained": {"val/accuracy": 0.9125},
        "size_bytes": {"dense": 1_080_000, "packed": 54_000, "formula": 53_800},
        "energy_mj": {
            "model": "eyeriss: Eyeriss, 2016; shifts from ShiftAddNet, 2020",
            "multiplying": 0.25,
            "shift_add": 0.16,
        },
        "choice": choice(),
    }


def choice() -> dict[str, Any]:
    """Why the layers of :func:`bits` have theirs."""
    options = {
        "stem": [("int8", 8, 1e-5, 1_000, True)],
        "block": [("int8", 8, 2e-5, 80_000, False), ("flightnn", 5.2, 4e-3, 52_000, True)],
        "classifier": [("int8", 8, 1e-5, 1_000, True)],
    }
    split = {"schemes": {"int8": 3}, "costs": {"size_bytes": 275e3}, "harm": 1e-4}
    return {
        "limits": {"size_bytes": 60e3},
        "costs": {"size_bytes": 54e3},
        "options": {
            name: [
                {
                    "scheme": scheme,
                    "bits": bits,
                    "harm": harm,
                    "costs": {"size_bytes": size},
                    "is_chosen": is_chosen,
                }
                for scheme, bits, harm, size, is_chosen in each
            ]
            for name, each in options.items()
        },
        "splits": [
            {**split, "loss": None, "is_chosen": False},
            {**split, "keep_ratio": 0.5, "macs": 8e6, "loss": 0.75, "is_chosen": True},
        ],
    }


def build(**changes: Any) -> dict[str, Any]:
    """The fixture report; keyword arguments replace those of ``build_report`` and ``RunFacts``."""
    facts = {
        "title": "resnet20 on fashion_mnist",
        "note": "FIXTURE: every number on this page is invented, for tests of the page itself.",
        "command": "lightning-cost fit data=fashion_mnist model=resnet20 budget.macs=30%",
        "config": {"model": {"name": "resnet20", "width": 32}, "budget": {"macs": "30%"}},
        "seed": 7,
        "versions": {"python": "3.11.9", "torch": "2.13.0", "lightning_cost": "0.1.0"},
        "device": {
            "name": "local",
            "cpu": CPU,
            "threads": 1,
            "runtime": "openvino",
            "fingerprint": {"cores": 2, "flags": ["avx2", "fma"]},
        },
        "data": {
            "name": "fashion_mnist",
            "hash": "sha256:0f1e2d3c4b5a",
            "split_sizes": {"train": 50_000, "search": 5_000, "val": 5_000, "test": 10_000},
        },
        "metric": "val_acc",
        "stop_reason": "the model budget is kept and recovery is over",
        "artifacts": {"onnx": "model.onnx", "checkpoint": "model.ckpt", "html": "report.html"},
        "created": datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    }
    dense = Stage(
        cost=cost_of(1.0, 2.94) | {Resource.latency_ms: latency(2.94, "onnxruntime")},
        metrics={"val_acc": 0.9237, "test_acc": 0.9201},
        latency_by_runtime={
            "openvino": latency(3.36, "openvino"),
            "onnxruntime": latency(2.94, "onnxruntime"),
        },
    )
    layers = widths() | {"classifier": (10, 10)}
    final = Stage(
        cost=cost_of(0.288, 0.69, size_ratio=0.26),
        metrics={"val_acc": 0.9168, "test_acc": 0.9125},
        latency_by_runtime={"openvino": latency(0.69, "openvino")},
        widths=layers,
        bits=dict.fromkeys(layers, 8),
    )
    spend = {
        "train_flops": {"value": 1.31e15, "method": "exact", "assumptions": "2 FLOPs per MAC"},
        "eval_flops": {"value": 2.2e14, "method": "exact", "assumptions": "real steps"},
        "search_flops": {"value": 9.4e13, "method": "exact", "assumptions": "forward passes"},
        "wall_clock_s": {"value": 2031.0, "method": "measured", "assumptions": ""},
        "energy_kwh": {"value": 0.037, "method": "estimated", "assumptions": "65 W for all of it"},
        "measured_energy_kwh": {"value": 0.031, "method": "measured", "assumptions": "RAPL"},
        "co2_kg": {"value": 0.0176, "method": "estimated", "assumptions": "475 g CO2 per kWh"},
        "usd": {"value": None, "assumptions": "the device has no price"},
    }
    arguments: dict[str, Any] = {
        "dense": dense,
        "final": final,
        "limits": {Resource.macs: 48_570_000.0, Resource.latency_ms: 0.8, Resource.energy_mj: 6.0},
        "history": history(),
        "spend": spend,
        "training_limits": {"wall_clock_s": 7200.0},
        "pruning": cuts(),
        "quantization": bits(),
        "parity": {
            "max_abs_error": 0.112,
            "output_range": 18.4,
            "top1_agreement": 0.998,
            "num_samples": 512,
            "passed": True,
            "runtime": "openvino",
        },
    }
    facts |= {name: changes.pop(name) for name in list(changes) if name in facts}
    return build_report(RunFacts(**facts), **(arguments | changes))


@pytest.fixture
def make_report() -> Callable[..., dict[str, Any]]:
    return build


@pytest.fixture
def unfaithful() -> dict[str, Any]:
    """The parity of a file that computes something else than was trained."""
    return build()["parity"] | {"passed": False, "top1_agreement": 0.1}


@pytest.fixture
def pruning() -> dict[str, Any]:
    return cuts()


@pytest.fixture
def report() -> dict[str, Any]:
    return build()


def study_of(hostile: str = "model.width") -> Study:
    """A study of six trials, one in each state; the finished one is run ``"0"``."""
    common: dict[str, Any] = {"predicted": {"latency_ms": 0.7}, "started": "2030-01-02T03:04:05"}
    trials = (
        TrialRecord(
            number=0, state="finished", settings={hostile: 16, "rate": 0.0123456}, run_dir="0",
            values={"val_acc": 0.9168}, seconds=61.0, **common,
        ),
        TrialRecord(
            number=1, state="infeasible", settings={hostile: 64, "rate": 0.1}, seconds=0.1,
            predicted={"latency_ms": 3.2}, violations={"latency_ms": 3.0},
        ),
        TrialRecord(
            number=2, state="pruned", settings={hostile: 12, "rate": 0.2}, reached=0.4,
            seconds=20.0, reason=f"hopeless {hostile}", **common,
        ),
        TrialRecord(
            number=3, state="failed", settings={hostile: 8}, seconds=10.0, reason=hostile, **common
        ),
        TrialRecord(number=4, state="running", settings={hostile: 8}, **common),
        TrialRecord(number=5, state="waiting", settings={hostile: 8}),
    )  # fmt: skip
    return Study(
        name="sweep",
        objectives={"val_acc": "max"},
        sampler="tpe",
        pruner="median",
        seed=0,
        limits={"latency_ms": 0.8},
        space={hostile: "range(4,65,4)", "rate": hostile},
        trials=trials,
        importances={"val_acc": Importance(shares={hostile: 0.8, "rate": 0.2})},
    )


@pytest.fixture
def make_study() -> Callable[..., Study]:
    return study_of


@pytest.fixture
def study_dir(tmp_path: Path, make_report: Callable[..., dict[str, Any]]) -> Path:
    """The directory of a sweep with the run of :func:`study_of`."""
    (tmp_path / "0").mkdir()
    save_report(make_report(limits={Resource.latency_ms: 0.8}), tmp_path / "0")
    return tmp_path


@pytest.fixture
def run_dir(tmp_path: Path, report: dict[str, Any]) -> Path:
    save_report(report, tmp_path)
    return tmp_path


@pytest.fixture
def make_final() -> Callable[..., Stage]:
    """A final network by its share of the dense cost, its latency and its accuracy."""

    def make(share: float, latency_ms: float, accuracy: float | None) -> Stage:
        return Stage(cost=cost_of(share, latency_ms), metrics={"val_acc": accuracy})

    return make


@pytest.fixture
def hostile() -> str:
    """A name that breaks out of text, of attributes and of a style, where it is not escaped."""
    return "\"'></i></style><script>alert(1)</script><img src=x onerror=alert(2)>&lt;"
