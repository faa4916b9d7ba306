"""Costs of a network as text: a line for each module, a line for each operator."""

from collections.abc import Sequence

from torch import nn

from lightning_cost.cost.forward import Example
from lightning_cost.cost.macs import MacReport, count_macs
from lightning_cost.cost.size import params_by_module, size_by_dtype, size_by_module

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def cost_table(network: nn.Module, example: Example, *, max_depth: int = 3) -> str:
    """Parameters, bytes, MACs and activations of each module, then of each operator.

    Args:
        network: Any network; left as it was found.
        example: What one forward pass takes; one sample of it is counted.
        max_depth: How deep modules within modules are listed.

    >>> import torch
    >>> print(cost_table(nn.Sequential(nn.Linear(300, 40), nn.ReLU()), torch.zeros(1, 300)))
    module  kind          params     bytes   MACs       %   activations
            Sequential   12.04 k   48.16 k   12 k   100.0            40
    0       Linear       12.04 k   48.16 k   12 k   100.0            40
    1       ReLU               0         0      0     0.0             0
    <BLANKLINE>
    operator     MACs       %   activations
    aten.addmm   12 k   100.0            40
    <BLANKLINE>
    stored: float32 48160 bytes

    Raises:
        ValueError: If the network does not take the example.
    """
    report = count_macs(network, example)
    lines = [*_aligned(_module_rows(network, report, max_depth), num_texts=2), ""]
    lines += [*_aligned(_operator_rows(report), num_texts=1), ""]
    sizes = ", ".join(f"{dtype} {size} bytes" for dtype, size in size_by_dtype(network).items())
    lines.append(f"stored: {sizes or 'nothing'}")
    if report.unsupported:
        lines.append(f"not counted: {', '.join(report.unsupported)}")
    if report.unused:
        lines.append(f"never ran: {', '.join(report.unused)}")
    return "\n".join(lines)


def _module_rows(network: nn.Module, report: MacReport, max_depth: int) -> list[list[str]]:
    params, sizes = params_by_module(network), size_by_module(network)
    rows = [["module", "kind", "params", "bytes", "MACs", "%", "activations"]]
    for name, module in network.named_modules():
        if name.count(".") + bool(name) <= max_depth:
            macs, written = report.by_module[name], report.activations_by_module[name]
            costs = [params[name], sizes[name], macs]
            share = _share(macs, report.total)
            rows.append([name, type(module).__name__, *map(_short, costs), share, _short(written)])
    return rows


def _operator_rows(report: MacReport) -> list[list[str]]:
    rows = [["operator", "MACs", "%", "activations"]]
    for name, macs in sorted(report.by_operator.items(), key=lambda item: -item[1]):
        written = report.activations_by_operator[name]
        rows.append([name, _short(macs), _share(macs, report.total), _short(written)])
    return rows


def _aligned(rows: Sequence[Sequence[str]], *, num_texts: int) -> list[str]:
    """Texts to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < num_texts else cell.rjust(width + 1)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}" if whole else "-"


def _short(value: float) -> str:
    """Four digits and a unit, from five digits on: 12345 is ``12.35 k``."""
    for size, unit in _UNITS:
        if value >= max(size, 1e4):
            return f"{value / size:.4g} {unit}"
    return str(value)
