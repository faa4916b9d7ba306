"""A latency table of a device that is not this one: a folder to run there, and its results back.

The folder holds ONNX files of many widths and one program that needs Python, numpy and the runtime.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from lightning_cost.cost.documents import UnreadableError, read_json
from lightning_cost.hardware.tables.latency_table import LatencyTable, ProfiledNetwork
from lightning_cost.hardware.tables.profiling import (
    ProfileSettings,
    require_operator_times,
    sample_of,
)
from lightning_cost.hardware.tables.width_design import width_design
from lightning_cost.hardware.tables.width_family import (
    WidthFamily,
    batch_size_of_inputs,
    model_of,
    reference_widths,
)
from lightning_cost.runtime import standalone
from lightning_cost.runtime.operator_owners import OperatorOwners
from lightning_cost.runtime.width_layer import WidthLayer

PROGRAM_NAME = "measure.py"
_REFERENCE_NAME = "reference.onnx"


def export_bundle(
    family: WidthFamily,
    folder: str | Path,
    *,
    runtime: str,
    num_threads: int = 1,
    precision: str = "float32",
    settings: ProfileSettings | None = None,
) -> Path:
    """Write what is needed to profile ``family`` on another device.

    There, ``python measure.py`` in the folder leaves ``results.json``, going on where it was
    interrupted; bring that file back into the folder for :func:`import_bundle`.

    Args:
        family: The architecture.
        folder: A new or empty folder.
        runtime: What is to run there, ``"onnxruntime"`` or ``"openvino"``.
        num_threads: Threads for one forward pass there.
        precision: Floating-point type of the arithmetic there.
        settings: How much to measure; its time limit is given to the program instead.

    Raises:
        ValueError: If the runtime does not tell the time of single operators, or the folder holds
            something.
    """
    settings, folder = settings or ProfileSettings(), Path(folder)
    require_operator_times(runtime)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f"folder must be new or empty, got {str(folder)!r}; choose another")
    generator = np.random.default_rng(settings.seed)
    widths = width_design(family.totals, settings.num_networks, generator)
    files = {f"network_{index:03}.onnx": row for index, row in enumerate(widths)}
    digests = {}
    for name, row in {_REFERENCE_NAME: reference_widths(family), **files}.items():
        content = model_of(family, row)
        (folder / name).write_bytes(content)
        digests[name] = hashlib.sha256(content).hexdigest()
    arrays = BytesIO()
    np.savez(arrays, **dict(family.inputs))
    (folder / standalone.INPUTS_NAME).write_bytes(arrays.getvalue())
    digests[standalone.INPUTS_NAME] = hashlib.sha256(arrays.getvalue()).hexdigest()
    shutil.copy(standalone.__file__, folder / PROGRAM_NAME)
    outs, ins = family.channels_at(widths)
    manifest = {
        "name": family.name,
        "settings": {"runtime": runtime, "num_threads": num_threads, "precision": precision},
        "batch_size": batch_size_of_inputs(family),
        "seconds": settings.seconds,
        "reference": _REFERENCE_NAME,
        "models": list(files),
        "sha256": digests,
        "layers": [asdict(layer) for layer in family.graph.layers],
        "places": dict(family.graph.owners.places),
        "outs": outs.astype(int).tolist(),
        "ins": ins.astype(int).tolist(),
    }
    text = json.dumps(manifest, sort_keys=True)
    manifest["id"] = hashlib.sha256(text.encode()).hexdigest()
    standalone.write_json(folder / standalone.MANIFEST_NAME, manifest)
    return folder


def import_bundle(folder: str | Path) -> LatencyTable:
    """The table that a bundle's program measured on its device.

    Args:
        folder: The bundle, with the ``results.json`` that the program left.

    Raises:
        ValueError: If a file is missing or damaged, or the results are of another bundle, or hold
            nothing.
    """
    folder = Path(folder)
    manifest = _read(folder / standalone.MANIFEST_NAME, "export the bundle again")
    remedy = f"run {PROGRAM_NAME} on the device and bring its results.json back"
    results = _read(folder / standalone.RESULTS_NAME, remedy)
    content = {key: value for key, value in manifest.items() if key != "id"}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    if not manifest.get("id") == results.get("id") == digest:
        raise ValueError(
            f"results in {str(folder)!r} must be of the bundle there, as it was exported, got "
            f"others; {remedy}"
        )
    try:
        table = _table(manifest, results)
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise _wrong_results(f"entries that are missing or of another kind: {error}") from None
    if not table.networks[0].samples:
        raise ValueError(f"results in {str(folder)!r} must hold a measurement, got none; {remedy}")
    wrong = table.wrong_values()
    if wrong is not None:
        raise _wrong_results(wrong)
    return table


def _table(manifest: Mapping[str, Any], results: Mapping[str, Any]) -> LatencyTable:
    owners = OperatorOwners(places=manifest["places"], num_layers=len(manifest["layers"]))
    found = {name: results["measured"].get(name) for name in manifest["models"]}
    references = [entry["reference_ms"] for entry in found.values() if entry is not None]
    reference_ms = float(np.median(references)) if references else 1.0
    network = ProfiledNetwork(
        name=manifest["name"],
        layers=tuple(WidthLayer(**layer) for layer in manifest["layers"]),
        reference_ms=reference_ms,
        samples=tuple(
            sample_of(entry, owners, reference_ms=reference_ms, outs=outs, ins=ins)
            for entry, outs, ins in zip(
                found.values(), manifest["outs"], manifest["ins"], strict=True
            )
            if entry is not None
        ),
    )
    return LatencyTable(
        device=results["device"],
        batch_size=manifest["batch_size"],
        networks=(network,),
        created=time.strftime("%Y-%m-%d"),
        **manifest["settings"],
    )


def _wrong_results(found: str) -> ValueError:
    return ValueError(
        f"{standalone.RESULTS_NAME} must hold what {PROGRAM_NAME} writes, got {found}; run it again"
    )


def _read(path: Path, remedy: str) -> Mapping[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path.name} must lie in {str(path.parent)!r}, got none; {remedy}")
    try:
        content = read_json(path)
    except UnreadableError as error:
        raise ValueError(f"{path.name} must be whole, got {error}; {remedy}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} must hold names and values, got others; {remedy}")
    return content
