"""How far a latency can be trusted: measured again and again, on every runtime that is installed.

ResNet-20 at 28x28, batch 1, one thread, batch norms folded, random weights, of widths 32 and 16.
Each is measured many times with the settings that the package uses. How often do the 95 % intervals
of two measurements in a row overlap, and of any two? How often does an interval hold the median of
all calls? And how much does the ratio of the two widths scatter, if they are measured in turn in
one go, and if one is measured after the other? Loading comes once for each width and precision.
"""

import itertools
import statistics
from contextlib import ExitStack
from typing import Any

import torch
from results_file import ResultsFile, argument_parser

from lightning_cost.network.deploy import deployed_copy
from lightning_cost.runtime.contract import get_runtime, installed_runtimes
from lightning_cost.runtime.timing import Timing, time_alternating, time_calls
from lightning_cost.zoo.resnet import resnet20

NAME = "latency_repeatability"
IMAGE = (1, 28, 28)
WIDTHS = (32, 16)
NUM_MEASUREMENTS = 24


def overlap(pairs: Any) -> float:
    """The share of pairs of timings whose intervals overlap."""
    found = [
        one.interval_ms[0] <= other.interval_ms[1] and other.interval_ms[0] <= one.interval_ms[1]
        for one, other in pairs
    ]
    return sum(found) / len(found)


def repeated(timings: list[Timing]) -> dict[str, Any]:
    """What measurements of one network say of each other."""
    medians = [timing.median_ms for timing in timings]
    middle = statistics.median(medians)
    held = [timing.interval_ms[0] <= middle <= timing.interval_ms[1] for timing in timings]
    return {
        "latency_ms": round(middle, 4),
        "iqr_ms": round(statistics.median(timing.iqr_ms for timing in timings), 4),
        "smallest_ms": round(min(medians), 4),
        "largest_ms": round(max(medians), 4),
        "successive_overlap_ratio": round(overlap(itertools.pairwise(timings)), 3),
        "any_overlap_ratio": round(overlap(itertools.combinations(timings, 2)), 3),
        "holds_median_ratio": round(sum(held) / len(held), 3),
    }


def scatter(ratios: list[float]) -> dict[str, Any]:
    """Mean and standard deviation of ratios, the latter as a share of the former."""
    mean = statistics.fmean(ratios)
    return {
        "ratio": round(mean, 3),
        "ratio_sd_share": round(statistics.stdev(ratios) / mean, 4),
        "largest_ratio": round(max(ratios), 3),
    }


def cases(runtime: str, precision: str, seed: int, results: ResultsFile, num: int) -> None:
    """All rows of one runtime."""
    example = torch.randn(1, *IMAGE)
    with ExitStack() as stack:
        runs = {}
        for width in WIDTHS:
            torch.manual_seed(seed)
            network = deployed_copy(resnet20(width=width, in_channels=1), example)
            session = get_runtime(runtime, precision=precision).load(
                network, example, num_threads=1
            )
            runs[str(width)] = stack.enter_context(session).bind(example)
        shared = {"runtime": runtime, "precision": precision, "seed": seed}
        for width, run in runs.items():
            timings = [time_calls(run) for _ in range(num)]
            results.add(
                {"case": f"width {width}", "method": "again", **shared, **repeated(timings)}
            )
        wide, narrow = map(str, WIDTHS)
        in_turn, after = [], []
        for _ in range(max(2, num // 2)):
            found = time_alternating(runs)
            in_turn.append(found[wide].median_ms / found[narrow].median_ms)
            after.append(time_calls(runs[wide]).median_ms / time_calls(runs[narrow]).median_ms)
        for method, ratios in (("in turn", in_turn), ("one after the other", after)):
            case = f"width {wide} to {narrow}"
            results.add({"case": case, "method": method, **shared, **scatter(ratios)})


def _table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        f"{'runtime':24} {'width':>6} {'ms':>8} {'iqr':>7} {'smallest':>9} {'largest':>8} "
        f"{'overlap in a row':>17} {'of any two':>11} {'holds median':>13}"
    ]
    lines += [
        f"{row['runtime'] + ' ' + row['precision']:24} {row['case'][6:]:>6} "
        f"{row['latency_ms']:8.3f} {row['iqr_ms']:7.3f} {row['smallest_ms']:9.3f} "
        f"{row['largest_ms']:8.3f} {row['successive_overlap_ratio']:17.0%} "
        f"{row['any_overlap_ratio']:11.0%} {row['holds_median_ratio']:13.0%}"
        for row in rows
        if row["method"] == "again"
    ]
    lines += ["", f"{'runtime':24} {'ratio 32 to 16':22} {'mean':>6} {'sd':>7} {'largest':>8}"]
    lines += [
        f"{row['runtime'] + ' ' + row['precision']:24} {row['method']:22} "
        f"{row['ratio']:6.2f} {row['ratio_sd_share']:7.1%} {row['largest_ratio']:8.2f}"
        for row in rows
        if row["method"] != "again"
    ]
    return lines


def main() -> None:
    """Measure every runtime and precision; print JSON lines and a table, and save both."""
    parser = argument_parser(__doc__, seeds=[0], quick="4 measurements each, without compiling")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = ResultsFile(NAME, quick=options.quick)
    for seed in options.seeds:
        for runtime in installed_runtimes():
            if options.quick and runtime == "compiled":
                continue
            for precision in type(get_runtime(runtime)).precisions:
                results.progress(f"{runtime} {precision}, seed {seed}")
                num = 4 if options.quick else NUM_MEASUREMENTS
                cases(runtime, precision, seed, results, num)
    results.save(_table(results.rows))


if __name__ == "__main__":
    main()
