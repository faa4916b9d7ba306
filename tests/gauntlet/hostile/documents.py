"""Hostile documents: rankings, tables, bundles, descriptions, prices, reports, sweeps."""

import hashlib
import json
import math
import os
import tempfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import yaml

from lightning_cost import (
    GlobalRanking,
    Hardware,
    LatencyTable,
    ModelBudget,
    TrainingBudget,
    write_report,
)
from lightning_cost.budget.units import parse_quantity, units_of
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.catalogue import conf_dir
from lightning_cost.hardware.prices import Prices
from lightning_cost.hardware.tables.bundle import export_bundle, import_bundle
from lightning_cost.hardware.tables.latency_table import _checksum
from lightning_cost.hardware.tables.profiling import ProfileSettings
from lightning_cost.monitor.journal import SpendJournal, find_journal
from lightning_cost.quantization.schemes.registry import get_schemes
from lightning_cost.report.sweep.page import write_sweep
from lightning_cost.report.sweep.rows import collect
from lightning_cost.sweep.reported_study import reported_study
from tests.gauntlet.hostile.damage import as_text, damaged, damaged_bytes, odd_text, odd_value
from tests.gauntlet.hostile.trial import SilentError, Subject
from tests.reference import latency_tables
from tests.reference.width_family import HandFamily
from tests.report import conftest as made_up

_LIMITS = [resource.value for resource in Resource] + ["wall_clock_s", "energy_kwh", "usd"]
_PIECES = (
    *("1", "0", "-1", "2.5", ".5", "1e3", "1e400", "nan", "inf", "+", "-", "%", " ", "\t", "\n"),
    *("ms", "kB", "MiB", "G", "MACs", "µs", "h", "USD", "kWh", "x", "0x1", "_", ",", "٣", "½", "²"),
)


def quantity(random: Random, folder: Path) -> None:
    """A limit as a person might type it."""
    name = random.choice(_LIMITS)
    written: Any = "".join(random.choice(_PIECES) for _ in range(random.randrange(5)))
    if random.random() < 0.3:
        written = odd_value(random)
    found = parse_quantity(written, name)
    if not (math.isfinite(found.value) and found.value > 0):
        raise SilentError(f"{name}={written!r} became {found}")
    if found.is_ratio and found.value > 1:
        raise SilentError(f"{name}={written!r} became {found}")
    if isinstance(written, bool):
        raise SilentError(f"{name}={written!r} became {found}")
    if isinstance(written, str) and not found.is_ratio:
        number = max(_numbers(written), key=len)
        factors = {factor * float(number) for factor in units_of(name).values()}
        if not any(math.isclose(found.value, factor) for factor in factors):
            raise SilentError(f"{name}={written!r} became {found}")


def _numbers(text: str) -> list[str]:
    parts = [text.strip().removeprefix("+")[:end] for end in range(1, len(text) + 1)]
    return [part for part in parts if _is_number(part)]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def budget(random: Random, folder: Path) -> None:
    """A budget of names and limits."""
    names = [*_LIMITS, "latency", "", "__class__", "macs ", 0]
    given = {random.choice(names): odd_value(random) for _ in range(random.randrange(1, 3))}
    if random.random() < 0.7:
        made = ModelBudget.from_dict(given)
        if not made.is_empty and len(made.resources) != sum(v is not None for v in given.values()):
            raise SilentError(f"{given!r} became {made}")
        return
    known = {"wall_clock_s", "flops", "energy_kwh", "usd", "co2_kg"}
    limits = TrainingBudget(**{str(k): v for k, v in given.items() if k in known}).limits()
    if not all(math.isfinite(limit) and limit > 0 for limit in limits.values()):
        raise SilentError(f"{given!r} became {limits}")


def scheme(random: Random, folder: Path) -> None:
    """A quantisation scheme with settings."""
    whole = [{"name": "flightnn", "mean_terms": 1.3}, {"name": "low_bit", "bits": 4}, "int8"]
    given = damaged(whole, random)
    found = get_schemes(given if random.random() < 0.5 else odd_value(random))
    if not all(0 < each.weight_bits <= 8 for each in found):
        raise SilentError(f"{given!r} became {found}")


def ranking(random: Random, folder: Path) -> None:
    """A ranking file; its fingerprint is often made to fit."""
    path = folder / "ranking.json"
    GlobalRanking(scores={"conv": (0.5, 2.0, -1.0), "b": (1.0,)}).save(path)
    document = damaged(json.loads(path.read_bytes()), random)
    path.write_bytes(as_text(document, random))
    found = GlobalRanking.load(path)
    for name, scores in found.scores.items():
        kinds = {type(score) for score in scores}
        if kinds - {float} or not all(map(math.isfinite, scores)) or not isinstance(name, str):
            raise SilentError(f"scores of {name!r} became {scores}")


def latency_table(random: Random, folder: Path) -> None:
    """A latency table whose checksum fits again."""
    path = folder / "table.json"
    latency_tables.table(latency_tables.network(3)).save(path)
    document = json.loads(path.read_bytes())
    document.pop("sha256")
    document = damaged(document, random)
    if isinstance(document, dict) and random.random() < 0.9:
        document["sha256"] = _checksum(json.loads(json.dumps(document)))
    path.write_bytes(as_text(document, random))
    found = LatencyTable.load(path)
    for network in found.networks:
        rows = network.observations()
        numbers = [*rows.latency_ms, *rows.outs.ravel(), *rows.layer_ms.ravel()]
        if not all(math.isfinite(number) and number >= -1e-9 for number in numbers):
            raise SilentError(f"a table with {min(numbers)}")
    counts = (found.num_threads, found.batch_size)
    if not all(type(count) is int and count > 0 for count in counts):
        raise SilentError(f"a table of {counts} threads and samples")


@cache
def _bundle() -> tuple[dict[str, Any], dict[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        settings = ProfileSettings(num_networks=2, seconds=0.01)
        folder = export_bundle(
            HandFamily(), Path(scratch) / "new", runtime="onnxruntime", settings=settings
        )
        manifest = json.loads((folder / "manifest.json").read_text())
    entry = {"ratio": 1.1, "ratio_spread": 0.1, "reference_ms": 2.0, "operators": []}
    operators = [[name, [], 0.1] for name in manifest["places"]]
    measured = {name: {**entry, "operators": operators} for name in manifest["models"]}
    results = {"id": manifest["id"], "device": {"cpu": "x"}, "measured": measured}
    return manifest, results


def bundle(random: Random, folder: Path) -> None:
    """A profile bundle and its results, whose identities fit again."""
    manifest, results = _bundle()
    manifest = {key: value for key, value in manifest.items() if key != "id"}
    if random.random() < 0.5:
        manifest = damaged(manifest, random)
    else:
        results = damaged(results, random)
    if isinstance(manifest, dict) and isinstance(results, dict):
        text = json.dumps(manifest, sort_keys=True)
        manifest["id"] = results["id"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "manifest.json").write_bytes(as_text(manifest, random))
    (folder / "results.json").write_bytes(as_text(results, random))
    found = import_bundle(folder)
    if found.wrong_values() is not None:
        raise SilentError(str(found.wrong_values()))


def hardware(random: Random, folder: Path) -> None:
    """A hardware description."""
    whole = yaml.safe_load((conf_dir() / "hardware" / "raspberry_pi_4.yaml").read_text())
    found = Hardware.from_yaml(_yaml(folder / "device.yaml", whole, random))
    for name in ("peak_gmacs_fp32", "bandwidth_gb_s", "num_threads", "batch_size", "utilisation"):
        value = getattr(found, name)
        if type(value) not in (int, float) or not value > 0 or not math.isfinite(value):
            raise SilentError(f"{name} became {value!r}")
    for name in ("num_threads", "batch_size"):
        if type(getattr(found, name)) is not int:
            raise SilentError(f"{name} became {getattr(found, name)!r}")
    _require_nothing_looked_up(found)


def prices(random: Random, folder: Path) -> None:
    """A price file."""
    whole = yaml.safe_load((conf_dir() / "prices.yaml").read_text())
    found = Prices.load(_yaml(folder / "prices.yaml", whole, random))
    figures = [*found.electricity.values(), *found.grid.values(), found.pue]
    figures += [rent.per_hour for rent in found.rents.values()]
    for figure in figures:
        if not (math.isfinite(figure.value) and figure.value >= 0):
            raise SilentError(f"{figure.entry} became {figure.value}")
    _require_nothing_looked_up(found)


def _yaml(path: Path, whole: dict[str, Any], random: Random) -> Path:
    if random.random() < 0.2:
        text = odd_text(random)
    else:
        text = yaml.safe_dump(damaged(whole, random), allow_unicode=True)
    content = text.encode("utf-8", "surrogatepass")
    path.write_bytes(damaged_bytes(content, random) if random.random() < 0.1 else content)
    return path


def _require_nothing_looked_up(found: object) -> None:
    home = os.environ.get("HOME", "")
    if len(home) > 3 and home in repr(found):
        raise SilentError("a file reads the environment")


@cache
def _report() -> str:
    return json.dumps(made_up.build())


def report(random: Random, folder: Path) -> None:
    """A report, drawn as a page."""
    document = damaged(json.loads(_report()), random)
    (folder / "report.json").write_bytes(as_text(document, random))
    page = write_report(folder).read_text(encoding="utf-8")
    require_inert(page)


def sweep(random: Random, folder: Path) -> None:
    """A sweep's directory: two runs, one of them damaged, and perhaps a link to a study."""
    for run in ("0", "1"):
        (folder / run).mkdir()
        document = json.loads(_report())
        if run == "1":
            document = damaged(document, random)
        (folder / run / "report.json").write_bytes(as_text(document, random))
    if random.random() < 0.3:
        link = {"url": "sqlite:////nowhere/study.db", "study": "s", "objectives": {}, "pruner": "x"}
        (folder / "study.json").write_bytes(as_text(damaged(link, random), random))
    page = write_sweep(collect(folder), reported_study(folder)).read_text(encoding="utf-8")
    require_inert(page)


def require_inert(page: str) -> None:
    for mark in ("<script", "onerror=", "javascript:"):
        if mark in page.lower().replace("&lt;script", ""):
            raise SilentError(f"{mark} on a page")


def journal(random: Random, folder: Path) -> None:
    """What a killed run had used; a journal that cannot be read counts for nothing."""
    outside = folder / "outside.json"
    outside.write_text("{}")
    inside = folder / "run"
    inside.mkdir()
    state = {"seconds": 1.0, "joules": None, "search_flops": 3.0, "run_id": "a", "journal": None}
    (inside / "spend-a1.json").write_bytes(as_text(damaged(state, random), random))
    recorded = random.choice((None, str(outside), "../outside.json", "", "/", str(inside)))
    run_id = random.choice(("a1", "a1", "../outside", "/", ""))
    found = find_journal(run_id, [inside], recorded)
    if found is None:
        return
    read = found.read()
    if read is not None and not isinstance(read, dict):
        raise SilentError(f"a journal of {read!r}")
    SpendJournal.write(found, {"seconds": 1.0})
    found.close()
    if outside.read_text() != "{}":
        raise SilentError("a journal outside of the run")


SUBJECTS = (
    Subject(name="quantities", hand_in=quantity, weight=4),
    Subject(name="budgets", hand_in=budget, weight=2),
    Subject(name="schemes", hand_in=scheme),
    Subject(name="rankings", hand_in=ranking, weight=2),
    Subject(name="latency tables", hand_in=latency_table, weight=2),
    Subject(name="profile bundles", hand_in=bundle),
    Subject(name="hardware files", hand_in=hardware),
    Subject(name="price files", hand_in=prices, weight=0.5),
    Subject(name="reports", hand_in=report),
    Subject(name="sweeps", hand_in=sweep, weight=0.5),
    Subject(name="journals", hand_in=journal),
)
