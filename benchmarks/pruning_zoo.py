"""Networks of several libraries pruned to half of their MACs: what works, what is left alone.

Each network has a process of its own, with a limit of time and of memory. One counts as pruned if
the MACs are at most half of the dense network's, the counted cost is the predicted one, silenced
channels give the same outputs as removed ones, forward and backward run, and ONNX Runtime gives
the outputs of the exported network. Weights are random, but for EfficientNet-Lite0's; images are
as small as the network takes. What an earlier run has found is not run again, unless it failed.
"""

import argparse
import copy
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pruning_zoo_networks import Example, build, named_cases
from results_file import FOLDER, ResultsFile
from torch import nn

from lightning_cost.cost.forward import call_arguments, map_tensors, run_forward, tensors_of
from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.resource import Resource
from lightning_cost.cost.size import count_params
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.pruning.pricing.pricer import WidthPricer
from lightning_cost.pruning.saliency import group_saliency
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.plan import Plan, masked
from lightning_cost.pruning.structure.surgery import operated, removal
from lightning_cost.pruning.target.path import uniform_path
from lightning_cost.runtime.onnx_file import feed, input_names, write_onnx

NAME = "pruning_zoo"
SHARE = 0.5
LIMIT_S, LIMIT_BYTES = 600, 12 * 2**30
TOLERANCE = 2e-3
DOCS = Path(__file__).parent.parent / "docs" / "pruned_networks.md"


def prune(case: str) -> dict[str, Any]:
    """Prune one network and try what is left of it."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    network, example = build(case)
    with torch.no_grad():
        run_forward(network, example)
    before = _peak_bytes()
    start = time.process_time()
    grouping = channel_groups(network, example)
    seconds = time.process_time() - start
    row: dict[str, Any] = {
        "case": case,
        "params_M": round(count_params(network) / 1e6, 2),
        "num_groups": len(grouping.groups),
        "groups_s": round(seconds, 2),
        "groups_MB": round((_peak_bytes() - before) / 2**20),
        "left_alone": dict(Counter(grouping.left_alone.values()).most_common()),
    }
    if not grouping.groups:
        return {**row, "outcome": "nothing to prune"}
    pricer = WidthPricer.from_network(network, example, grouping)
    dense = pricer.price_plan(Plan.dense(grouping))
    saliency = group_saliency(network, grouping)
    order = {name: tuple(scores.argsort().tolist()) for name, scores in saliency.items()}
    path = uniform_path(order)
    place = path.first_within(pricer, {Resource.macs: SHARE * dense[Resource.macs]})
    if place is None:
        least = pricer.price_plan(path.plan_at(len(path) - 1))[Resource.macs]
        row["kept_macs"] = round(least / dense[Resource.macs], 4)
        return {**row, "outcome": f"least is {row['kept_macs']:.1%} of its MACs"}
    plan = path.plan_at(place)
    pruned = operated(network, removal(grouping, plan))
    deployed = deployed_copy(pruned, example)
    macs = count_macs(deployed, example).total
    row["kept_macs"] = round(macs / dense[Resource.macs], 4)
    row["seconds"] = round(time.process_time() - start, 2)
    predicted = pricer.price_plan(plan)
    if (macs, count_params(deployed)) != (predicted[Resource.macs], predicted[Resource.params]):
        return {**row, "outcome": f"predicted {predicted[Resource.macs]} MACs, counted {macs}"}
    with torch.no_grad():
        found = tensors_of(run_forward(pruned, example))
        expected = tensors_of(run_forward(masked(network, grouping, plan), example))
    row["masked_difference"] = _difference(expected, found)
    if row["masked_difference"] > TOLERANCE:
        return {**row, "outcome": "removed is not silenced"}
    row["trains"] = _trains(copy.deepcopy(pruned), example)
    row["onnx"] = _exports(deployed, example)
    is_fine = row["trains"] == "yes" and row["onnx"].startswith("yes")
    return {**row, "outcome": "pruned" if is_fine else "pruned, but"}


def _difference(expected: list[torch.Tensor], found: list[torch.Tensor]) -> float:
    """The largest difference of any two outputs, in shares of the largest value."""
    worst = 0.0
    for one, other in zip(expected, found, strict=True):
        if one.shape != other.shape:
            return float("inf")
        scale = max(one.abs().max().item(), 1e-12)
        worst = max(worst, (one - other).abs().max().item() / scale)
    return float(f"{worst:.1e}")


def _trains(network: nn.Module, example: Example) -> str:
    """Whether forward and backward run in training mode, on two samples, and reach weights."""

    def twice(tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat([tensor, tensor])

    try:
        output = tensors_of(run_forward(network.train(), map_tensors(twice, example)))
        torch.stack([t.float().square().mean() for t in output if t.requires_grad]).sum().backward()
    except Exception as error:
        return f"no: {type(error).__name__}: {str(error).splitlines()[0][:120]}"
    has_gradient = any(parameter.grad is not None for parameter in network.parameters())
    return "yes" if has_gradient else "no: no gradient reaches a weight"


def _exports(deployed: nn.Module, example: Example) -> str:
    """Whether ONNX Runtime gives the outputs of the exported network."""
    import onnxruntime

    args, kwargs = call_arguments(example)
    with tempfile.TemporaryDirectory() as folder:
        path, note = Path(folder) / "network.onnx", "yes"
        try:
            write_onnx(deployed, example, path)
        except ValueError as error:
            is_large = "one ONNX file" in str(error)
            note = "yes, weights in a second file" if is_large else "yes, batch fixed"
            names = input_names(deployed, args, kwargs)
            try:
                torch.onnx.export(
                    deployed,
                    args,
                    path,
                    kwargs=kwargs,
                    input_names=names,
                    dynamo=True,
                    verbose=False,
                )
            except Exception as error:
                return f"no: {type(error).__name__}: {str(error).splitlines()[0][:120]}"
        try:
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            found = session.run(None, feed(input_names(deployed, args, kwargs), example))
        except Exception as error:
            return f"no: {type(error).__name__}: {str(error).splitlines()[0][:120]}"
    with torch.no_grad():
        expected = tensors_of(run_forward(deployed, example))
    found_tensors = [torch.from_numpy(np.asarray(array)) for array in found][: len(expected)]
    difference = _difference(expected, found_tensors)
    return note if difference <= TOLERANCE else f"no: outputs differ by {difference}"


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run(case: str) -> dict[str, Any]:
    """Prune one network in a process of its own."""
    command = [sys.executable, __file__, "--case", case]
    start = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"case": case, "outcome": f"failed: took more than {LIMIT_S} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        return {**json.loads(lines[-1]), "wall_s": round(time.perf_counter() - start, 1)}
    told = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return {"case": case, "outcome": f"failed: {told[-1][:200] if told else done.returncode}"}


def known_rows() -> dict[str, dict[str, Any]]:
    """What an earlier run has found, but for what failed then."""
    path = FOLDER / NAME / "results.jsonl"
    rows = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return {row["case"]: row for row in rows if not row["outcome"].startswith("failed")}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """One line a network."""
    lines = [
        "| network | outcome | MACs kept | groups | groups found in | in all | memory "
        "| ONNX Runtime | left alone |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        alone: Counter[str] = Counter()
        for reason, count in row.get("left_alone", {}).items():
            alone[_without_names(reason)] += count
        kept = f"{row['kept_macs']:.1%}" if "kept_macs" in row else ""
        cells = (
            row["case"],
            row["outcome"] + ("" if row.get("trains", "yes") == "yes" else f" {row['trains']}"),
            kept,
            row.get("num_groups", ""),
            f"{row['groups_s']} s" if "groups_s" in row else "",
            f"{row['seconds']} s" if "seconds" in row else "",
            f"{row['groups_MB']} MB" if "groups_MB" in row else "",
            row.get("onnx", ""),
            "; ".join(f"{count}× {reason}" for reason, count in alone.most_common()),
        )
        lines.append("| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |")
    return lines


def _without_names(reason: str) -> str:
    """Whom it happens to, by kind.

    >>> _without_names("its channels reach blocks.0.norm1 (LayerNorm) (normalised over channels)")
    'LayerNorm: normalised over channels'
    """
    reached = re.fullmatch(r"its channels reach \S+ \((\w+)\) \((.*)\)", reason)
    if reached:
        return ": ".join(reached.groups())
    if reason.startswith("the code of "):
        kinds = sorted(set(re.findall(r"\((\w+)\)", reason)))
        return f"the code of {', '.join(kinds)} does not run with fewer channels"
    return reason


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """How many networks of each library are pruned."""
    lines = []
    for library in dict.fromkeys(row["case"].split("/")[0] for row in rows):
        own = [row for row in rows if row["case"].startswith(f"{library}/")]
        good = sum(row["outcome"] == "pruned" for row in own)
        lines.append(f"- {library}: {good} of {len(own)} pruned ({good / len(own):.0%})")
    return lines


def main() -> None:
    """Prune the networks asked for; print a line each and a table, and save both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patterns", nargs="*", help="parts of the names of networks; none for all")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))
        print(json.dumps(prune(args.case)))
        return
    results = ResultsFile(NAME, quick=bool(args.patterns))
    lines: list[str] = []
    known = {} if args.patterns else known_rows()
    for case in named_cases(args.patterns):
        if case not in known:
            results.progress(case)
        results.add(known.get(case) or {**run(case), "method": "lightning_cost"})
        lines = [*summary(results.rows), "", *table(results.rows)]
        if not args.patterns:  # as far as it has come, for it takes long
            DOCS.write_text("\n".join([*_HEAD, *lines, ""]))
    results.save(lines)


_HEAD = [
    "# Networks pruned to half of their MACs",
    "",
    "Made by `python benchmarks/pruning_zoo.py`; not edited by hand. Channels are removed by the",
    "same share in every group. *Pruned* means: at most half of the MACs are left, the counted",
    "MACs and parameters are the predicted ones, the outputs are those of the dense network with",
    "the same channels silenced, forward and backward run in training mode, and ONNX Runtime gives",
    "the outputs of the exported network. Weights are random, but for EfficientNet-Lite0's; images",
    "are as small as the network takes. Seconds are of CPU time on one thread: for finding the",
    "groups, and for all up to the deployed network. Memory is what finding the groups adds to the",
    "peak of a forward pass.",
    "",
]

if __name__ == "__main__":
    main()
