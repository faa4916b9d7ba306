"""MACs of many networks by our count, torch's and fvcore's, and how long counting takes.

On the meta device by ours and by torch's; the smaller ones on the CPU too, where fvcore works.
For every difference of more than 0.1 % the operators that the other does not count. Seconds are of
CPU time: with one thread, those of a machine with nothing else to do.
"""

import time
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
from counting_corpus import Case, cases
from counting_references import Reference, fvcore_reference, torch_reference
from results_file import ResultsFile, argument_parser

from lightning_cost.cost.forward import map_tensors
from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.size import count_params
from lightning_cost.pruning.pricing.pricer import WidthPricer
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.zoo.resnet import resnet20

NAME = "counting"
LIBRARIES = ("torchvision", "timm", "transformers")
LIMIT_RESNET50_S, LIMIT_TORCHVISION_S, LIMIT_WIDTHS_PER_SECOND = 1.0, 120.0, 20_000
LARGEST_ON_CPU = {"macs": 5e9, "params": 60e6}


def main() -> None:
    """Count every case; print JSON lines and a table, and save both."""
    parser = argument_parser(__doc__, seeds=[0], quick="every tenth network, without fvcore")
    args = parser.parse_args()
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    torch.set_num_threads(1)
    torch.manual_seed(args.seeds[0])
    results = ResultsFile(NAME, quick=args.quick or bool(missing))
    if missing:
        results.progress(f"a quick run, without the networks of {', '.join(missing)}")
    for case in cases()[:: 10 if args.quick else 1]:
        results.progress(case.name)
        results.add({**compared(case, with_fvcore=not args.quick), "seed": args.seeds[0]})
    results.progress("widths per second")
    results.add({**priced(args.seeds[0]), "seed": args.seeds[0]})
    versions = [f"{name} {version(name)}" for name in (*LIBRARIES, "fvcore") if name not in missing]
    results.save([*_table(results.rows), ", ".join(versions)])


def compared(case: Case, *, with_fvcore: bool) -> dict[str, Any]:
    """Counts of one network by each counter, with the reasons of their differences."""
    start = time.process_time()
    network, example = case.on_meta()
    built = time.process_time()
    report = count_macs(network, example)
    seconds = time.process_time() - built
    row: dict[str, Any] = {
        "case": case.name,
        "method": "lightning_cost",
        "macs": report.total,
        "params": count_params(network),
        "activations": report.activations,
        "uncounted": list(report.unsupported),
        "unused": list(report.unused),
        "build_s": round(built - start, 3),
        "count_s": round(seconds, 3),
        **_columns("torch_meta", torch_reference(network, example, report), report.total),
    }
    is_small = all(row[key] <= limit for key, limit in LARGEST_ON_CPU.items())
    if with_fvcore and is_small and case.dtype is torch.float32:
        row |= _on_cpu(case)
    return row


def _on_cpu(case: Case) -> dict[str, Any]:
    network, example = case.on_cpu()
    example = map_tensors(torch.Tensor.clone, example)
    count_macs(network, example)  # warms the operators up
    start = time.process_time()
    report = count_macs(network, example)
    row: dict[str, Any] = {
        "macs_cpu": report.total,
        "count_cpu_s": round(time.process_time() - start, 3),
        **_columns("torch_cpu", torch_reference(network, example, report), report.total),
    }
    try:
        reference = fvcore_reference(network, example)
    except Exception as error:  # the tracer raises anything
        reason = f"fvcore cannot trace it: {str(error).strip().splitlines()[0][:120]}"
        return row | {"fvcore_macs": None, "fvcore_reason": reason}
    return row | _columns("fvcore", reference, report.total)


def _columns(counter: str, reference: Reference, ours: int) -> dict[str, Any]:
    return {
        f"{counter}_macs": reference.macs,
        f"{counter}_difference_percent": round(100 * reference.difference(ours), 3),
        f"{counter}_reason": reference.reason(ours),
    }


def priced(seed: int) -> dict[str, Any]:
    """Width assignments of ResNet-20 priced per second, peak memory among the costs."""
    example = torch.zeros(1, 1, 28, 28)
    network = resnet20(in_channels=1)
    grouping = channel_groups(network, example)
    pricer = WidthPricer.from_network(network, example, grouping)
    most = torch.tensor(list(grouping.num_channels.values()))
    generator = torch.Generator().manual_seed(seed)
    widths = (1 + torch.rand(40_000, len(most), generator=generator) * most).long().numpy()
    start = time.process_time()
    costs = pricer.price(widths)
    per_second = len(widths) / (time.process_time() - start)
    return {
        "case": "price ResNet-20",
        "method": "lightning_cost",
        "widths_per_s": round(per_second),
        "priced": sorted(map(str, costs)),
    }


def _table(rows: list[dict[str, Any]]) -> list[str]:
    table = [f"{'network':42}{'MACs':>20}{'torch, meta':>14}{'torch, CPU':>14}{'fvcore, CPU':>14}"]
    reasons = []
    counted = [row for row in rows if "macs" in row]
    for row in counted:
        table.append(
            f"{row['case']:42}{row['macs']:>20,}"
            + "".join(f"{_cell(row, name):>14}" for name in ("torch_meta", "torch_cpu", "fvcore"))
        )
        reasons += [
            f"{row['case']}: {name.replace('_', ', ')}: {row[f'{name}_reason']}"
            for name in ("torch_meta", "torch_cpu", "fvcore")
            if row.get(f"{name}_reason")
        ]
        if row["uncounted"]:
            reasons.append(f"{row['case']}: nobody counts {', '.join(row['uncounted'])}")
    vision = [row for row in counted if row["case"].startswith("torchvision/")]
    table += ["", "reasons of differences of more than 0.1 %", *reasons, ""]
    if vision:
        seconds = sum(row["build_s"] + row["count_s"] for row in vision)
        table.append(
            f"{len(vision)} networks of torchvision built and counted on meta: {seconds:.1f} s "
            f"(limit {LIMIT_TORCHVISION_S:.0f} s)"
        )
    for row in counted:
        if row["case"] == "torchvision/resnet50":
            table.append(
                f"ResNet-50: {row['count_s']} s on meta, {row.get('count_cpu_s', '-')} s on the "
                f"CPU (limit {LIMIT_RESNET50_S:.0f} s)"
            )
    table += [
        f"{row['case']}: {row['widths_per_s']:,} widths/s (limit {LIMIT_WIDTHS_PER_SECOND:,}): "
        f"{', '.join(row['priced'])}"
        for row in rows
        if "widths_per_s" in row
    ]
    return table


def _cell(row: dict[str, Any], counter: str) -> str:
    difference = row.get(f"{counter}_difference_percent")
    if difference is None:
        return "no trace" if f"{counter}_reason" in row else "-"
    return "equal" if difference == 0 else f"{difference:+.3f} %"


if __name__ == "__main__":
    main()
