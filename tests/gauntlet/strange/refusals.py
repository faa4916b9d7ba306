"""What is refused of which awkward network, and why that is right."""

from collections.abc import Mapping

_NO_GROUP = {"prune": "channels that can be removed, got none"}
_NO_LAYER = {"quantise": "a convolution or linear layer to quantise"}
_OVER = {"prune": "budget must be reachable by removing channels"}
_FIXED_BATCH = {"export": "only takes 4 samples"}
_NO_KERNEL = {"export": "file that onnxruntime runs"}
_NOT_FINITE = {
    "prune": "weights must be finite to be ranked",
    "quantise": "activations must be finite",
}
_TORCHSCRIPT = {"measure": "got TorchScript"}

REFUSED: Mapping[str, Mapping[str, str]] = {
    # the weight is computed from others, which have no channel of their own
    **dict.fromkeys(("weight_norm", "weight_norm_and_norm", "weight_norm_old"), _NO_GROUP),
    **dict.fromkeys(("spectral_norm", "spectral_norm_and_norm", "spectral_norm_old"), _NO_GROUP),
    **dict.fromkeys(("symmetric", "positive"), _NO_GROUP),
    "orthogonal": {**_NO_GROUP, "export": "linalg_matrix_exp.*traceable"},
    # something else than layers reads the weights or the channels
    **dict.fromkeys(("borrowed_weight", "weight_as_value", "buffers", "bilinear"), _NO_GROUP),
    **dict.fromkeys(("unregistered", "maxout", "across_channels", "top_channels"), _NO_GROUP),
    **dict.fromkeys(("unfolded", "known_width", "spectrum", "response_norm"), _NO_GROUP),
    **dict.fromkeys(("lists_and_dicts", "noisy"), _NO_GROUP),
    "fixed_width": {**_NO_GROUP, **_FIXED_BATCH},
    # there is nothing to remove, or to round
    **dict.fromkeys(("one_channel", "one_linear", "one_convolution"), _NO_GROUP),
    "matrices": _NO_LAYER,
    "einsum": {**_NO_GROUP, **_NO_LAYER},
    "no_parameters": {**_NO_GROUP, **_NO_LAYER},
    # too few channels may go for the budget of the walk
    **dict.fromkeys(("picked_channels", "writes_channels"), _OVER),
    # a product of a single channel is no product to PyTorch, so that no width explains the MACs
    "einsum_attention": {"prune": "in EinsumAttention"},
    **dict.fromkeys(("nan_weight", "infinite_weight"), _NOT_FINITE),
    "lazy": {"measure": "a lazy one at .0.weight."},
    **dict.fromkeys(("scripted_part", "traced"), _TORCHSCRIPT),
    # len() of a tensor is a number once and for all; so is the choice of a way by it
    "cell_loop": _FIXED_BATCH,
    "on_batch": {**_FIXED_BATCH, "fit": "reaches every fake quantiser, got none at .one"},
    "on_values": {"export": "data-dependent expression"},
    "returns_dataclass": {"export": "register a pytree"},
    "complex_weights": {
        **_NO_GROUP,
        "export": "complex-valued input",
        "resume": "got torch.complex64 at .first.weight.",
    },
    # the runtime of the walk has no convolutions in these types
    **dict.fromkeys(("double", "bfloat16"), _NO_KERNEL),
}
"""A pattern for what the refusal of each stage says; stages that are not named pass."""
