"""The compute of each phase of a run, before it starts."""

from torch import Tensor, nn

from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.training_flops import training_flops
from lightning_cost.pruning.reconstruction.least_squares import NUM_SAMPLES, largest_fit_flops
from lightning_cost.pruning.search.fitness import FORWARD_PASSES_OF_A_STEP
from lightning_cost.pruning.search.loop import judged_ratios
from lightning_cost.recipe.config import RunConfig
from lightning_cost.recipe.run_plan import Share


def planned_shares(
    config: RunConfig,
    network: nn.Module,
    example: Tensor,
    sizes: dict[str, int],
    judged_ratio: float,
) -> list[Share]:
    """Compute of each phase of training, of validation and of the search.

    Args:
        config: The run.
        network: Dense, freshly built; it is left as it was found.
        example: A batch of one.
        sizes: Samples in each part of the data, ``"train"`` at least.
        judged_ratio: Share of the dense network's MACs that the networks have at most which the
            search judges.
    """
    settings, schedule = config.compress, config.compress.schedule
    step = training_flops(network, example).per_sample
    forward = count_macs(network, example).flops
    teacher = forward if settings.distillation is not None else 0
    at_most = "at most: as if no channel had gone; the widths are found in the run"
    dense = "the dense network, forward and backward"
    phases = [("warmup", schedule.warmup_epochs, step, dense, False)]
    if settings.prune:
        epochs = schedule.end_epoch - schedule.warmup_epochs
        said = f"{at_most}; and the teacher, forward" if teacher else at_most
        phases.append(("prune and recover", epochs, step + teacher, said, True))
    if settings.quantize is not None and settings.quantize_epochs:
        said = at_most if settings.prune else "the dense network; fake quantisers do not count"
        said = f"{said}; and the teacher, forward" if teacher else said
        phases.append(("quantize", settings.quantize_epochs, step + teacher, said, settings.prune))
    shares = [
        Share(
            name=name,
            flops=per_sample * sizes["train"] * epochs,
            num_epochs=epochs,
            assumptions=said,
            is_at_most=is_at_most,
        )
        for name, epochs, per_sample, said, is_at_most in phases
    ]
    if "val" in sizes:
        shares.append(
            Share(
                name="validation",
                flops=forward * sizes["val"] * settings.num_epochs,
                num_epochs=settings.num_epochs,
                assumptions=f"{sizes['val']} samples an epoch, "
                f"{at_most if settings.prune else 'the dense network, forward'}",
                is_at_most=settings.prune,
            )
        )
    if settings.prune and config.ranking is None:
        fit_flops = largest_fit_flops(network) if settings.search.reconstruct else 0
        shares.append(_search(config, forward, fit_flops, sizes, judged_ratio))
    return shares


def _search(
    config: RunConfig,
    forward: float,
    fit_flops: int,
    sizes: dict[str, int],
    judged_ratio: float,
) -> Share:
    """Compute of the search, where each candidate is cut, put in order and judged.

    What putting the network itself in order takes, after each step, is in it.
    """
    search = config.compress.search
    ratios = [judged_ratio] if search.reconstruct else judged_ratios(judged_ratio)
    batch_size = int(config.data.get("batch_size", 1))
    # a data module without a search part lends training samples; batches are taken whole
    parts = (
        (search.calibration_samples, sizes["train"]),
        (search.search_samples, sizes.get("search", sizes["train"])),
    )
    taken = [min(-(-wanted // batch_size) * batch_size, held) for wanted, held in parts]
    samples = sum(taken) + FORWARD_PASSES_OF_A_STEP * batch_size * search.tune_steps
    has_gradients = "taylor" in search.saliencies
    gradients = FORWARD_PASSES_OF_A_STEP * taken[0] if has_gradients else 0
    num_fits = search.num_candidates + config.compress.schedule.num_steps
    looked_at = NUM_SAMPLES * (1 + num_fits) if search.reconstruct else 0
    shown = " and ".join(f"{ratio:.0%}" for ratio in ratios)
    return Share(
        name="search",
        flops=forward * (samples * search.num_candidates * sum(ratios) + gradients + looked_at)
        + fit_flops * num_fits,
        assumptions=f"at most: {search.num_candidates} candidates, each judged at {shown} of the "
        f"MACs on {samples} samples"
        + (", its layers fitted" if search.reconstruct else "")
        + (f" and trained for {search.tune_steps} steps" if search.tune_steps else ""),
        is_at_most=True,
    )
