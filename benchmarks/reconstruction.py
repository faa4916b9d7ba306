"""Accuracy right after a cut, without a training step: layers fitted again, or left as they were.

The networks of ``pruning.py``: ResNet-20 of width 16 on Fashion-MNIST, trained for 8 epochs, cut to
uniform widths. Batch norms take fresh statistics in either case, from the same training images. The
accuracy is that on the validation part of the training images; the test images are not read.
"""

import copy
import statistics

import torch
from results_file import ResultsFile, argument_parser
from trained_base import BASE_EPOCHS, Base, accuracy_percent, base_of

from lightning_cost.cost.resource import Resource
from lightning_cost.network.batch import first_samples
from lightning_cost.network.loader import collect_batches
from lightning_cost.pruning.batches import classification_loss
from lightning_cost.pruning.pricing.pricer import WidthPricer
from lightning_cost.pruning.reconstruction.least_squares import NUM_SAMPLES, Reconstruction
from lightning_cost.pruning.reconstruction.recalibration import recalibrate_batch_norm
from lightning_cost.pruning.saliency import group_saliency
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.surgery import RemoveChannels, operated, removal
from lightning_cost.pruning.target.path import uniform_path

NAME = "reconstruction"
LEVELS = (0.5, 0.25, 0.125)
METHODS = ("fresh statistics alone", "layers fitted again")


def cut(base: Base, level: float) -> RemoveChannels:
    """The largest uniformly narrower network within ``level`` of the MACs."""
    grouping = channel_groups(base.network, base.example)
    pricer = WidthPricer.from_network(base.network, base.example, grouping)
    norms = group_saliency(base.network, grouping)
    path = uniform_path({name: tuple(scores.argsort().tolist()) for name, scores in norms.items()})
    position = path.first_within(pricer, {Resource.macs: level * base.macs})
    assert position is not None
    return removal(grouping, path.plan_at(position))


def accuracies(base: Base, level: float) -> dict[str, float]:
    """Validation accuracy in percent by method."""
    change = cut(base, level)
    batches = collect_batches(base.data.train_dataloader(), NUM_SAMPLES)
    left, fitted = (copy.deepcopy(operated(base.network, change)) for _ in METHODS)
    batch = first_samples(batches, NUM_SAMPLES)
    Reconstruction(base.network, batch, classification_loss).fit(fitted, change)
    found = {}
    for method, network in zip(METHODS, (left, fitted), strict=True):
        recalibrate_batch_norm(network, batches, classification_loss)
        found[method] = accuracy_percent(network, base.data.part("val"))
    return found


def main() -> None:
    """Run all cases, print and save the table."""
    parser = argument_parser(__doc__, seeds=(0, 1, 2), quick="one seed, 2 epochs")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    seeds = settings.seeds[:1] if settings.quick else settings.seeds
    epochs = 2 if settings.quick else BASE_EPOCHS
    results = ResultsFile(NAME, quick=settings.quick)
    for seed in seeds:
        results.progress(f"seed {seed}")
        base = base_of("fashion_mnist", seed, epochs=epochs)
        dense = {"dense": accuracy_percent(base.network, base.data.part("val"))}
        cases = [("100 %", dense), *((f"{lv:.1%}", accuracies(base, lv)) for lv in LEVELS)]
        for case, found in cases:
            for method, accuracy in found.items():
                row = {"case": case, "method": method, "seed": seed}
                results.add({**row, "val_accuracy_percent": accuracy})
    table = [f"{'MACs kept':10}{'method':26}{'accuracy, %':>14}"]
    for case, method in dict.fromkeys((row["case"], row["method"]) for row in results.rows):
        values = [
            row["val_accuracy_percent"]
            for row in results.rows
            if (row["case"], row["method"]) == (case, method)
        ]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        table.append(f"{case:10}{method:26}{statistics.fmean(values):7.1f} ± {deviation:.1f}")
    results.save(table)


if __name__ == "__main__":
    main()
