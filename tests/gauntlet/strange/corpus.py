"""All awkward networks by name."""

from tests.gauntlet.strange import calls, layers, weights
from tests.gauntlet.strange.case import Case

CORPUS: dict[str, Case] = {**weights.CASES, **layers.CASES, **calls.CASES}

SHORT = (
    *("shared_layer", "two_names", "tied_table", "autoencoder", "weight_norm_old", "spectral_norm"),
    *("free_parameters", "counting", "nan_weight", "one_channel", "lazy", "no_parameters"),
    *("gru", "attention", "picked_channels", "norm_without_statistics", "keyword_only"),
    *(
        "returns_input",
        "functional_call",
        "remembering",
        "scripted_part",
        "double",
        "any_arguments",
    ),
)
"""Those that CI has time for: one of each kind that something was once wrong with."""
