"""Networks of the field that counts are compared on: ours, torchvision's, timm's, transformers'.

Each is built with random weights, on the meta device, where it takes no memory, or on the CPU.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from lightning_cost.cost.forward import Example, map_tensors
from lightning_cost.zoo.mobilenet import mobilenet_v2_small
from lightning_cost.zoo.resnet import resnet8, resnet20

_SMALL = ("atto", "femto", "nano", "pico", "tiny", "_xs", "small", "_s", "18", "b0", "")
_NUM_TOKENS, _NUM_OUTPUT_TOKENS = 64, 16

_TEXT = (
    "albert bert bloom distilbert electra ernie falcon fnet gemma gemma2 gpt2 gpt_neo "
    "gpt_neox granite llama mamba2 mistral mobilebert modernbert mpnet mpt olmo2 opt phi phi3 "
    "qwen2 qwen3 recurrent_gemma roberta stablelm starcoder2 xlm-roberta"
)
_EXPERTS = "mixtral qwen2_moe"
_TEXT_TO_TEXT = "t5 mt5 longt5"
_VISION = (
    "beit bit clip_vision_model convnext convnextv2 cvt data2vec-vision deit dinov2 dpt "
    "efficientnet focalnet glpn hiera levit mobilenet_v1 mobilenet_v2 mobilevit mobilevitv2 "
    "poolformer pvt pvt_v2 regnet resnet segformer siglip_vision_model swin swinv2 vit "
    "vit_mae vit_msn yolos"
)
_AUDIO = "data2vec-audio hubert sew unispeech wav2vec2 wavlm"


@dataclass(frozen=True, slots=True)
class Case:
    """One network and what it takes.

    Args:
        name: Unique, with the library in front.
        build: Makes the network on the CPU, with random weights.
        example: What one forward pass takes, on the CPU.
        dtype: That the network is counted in.
    """

    name: str
    build: Callable[[], nn.Module]
    example: Callable[[], Example]
    dtype: torch.dtype = torch.float32

    def on_meta(self) -> tuple[nn.Module, Example]:
        """The network and its example on the meta device."""
        try:
            handle = register_module_parameter_registration_hook(_meta_parameter)
            try:
                network = self.build()
            finally:
                handle.remove()
        except (NotImplementedError, RuntimeError):  # reads values while it is built
            network = self.build()
        network = network.to(device="meta", dtype=self.dtype).eval().requires_grad_(False)
        return network, map_tensors(lambda tensor: tensor.to("meta"), self.example())

    def on_cpu(self) -> tuple[nn.Module, Example]:
        """The network and its example on the CPU."""
        return self.build().to(self.dtype).eval().requires_grad_(False), self.example()


def cases() -> list[Case]:
    """Every case whose library is installed."""
    libraries = {
        "torchvision": _torchvision_cases,
        "timm": _timm_cases,
        "transformers": _transformers_cases,
    }
    found = list(_own_cases())
    for library, make in libraries.items():
        if find_spec(library) is not None:
            found += make()
    return found


def _meta_parameter(module: nn.Module, name: str, parameter: Any) -> nn.Parameter | None:
    if parameter is None:
        return None
    return nn.Parameter(parameter.to("meta"), parameter.requires_grad)


def _images(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.zeros(1, *shape)


def _own_cases() -> Iterator[Case]:
    for build in (resnet8, resnet20, mobilenet_v2_small):
        name = f"lightning_cost/{build.__name__}"
        yield Case(name, lambda build=build: build(in_channels=3), _images(3, 32, 32))
    sequence = nn.LSTM, nn.GRU, nn.RNN
    for kind in sequence:
        yield Case(
            f"torch/{kind.__name__}",
            lambda kind=kind: kind(64, 128, 2, bidirectional=True, batch_first=True),
            lambda: torch.zeros(1, 20, 64),
        )
    yield Case(
        "torch/TransformerEncoder",
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 2, enable_nested_tensor=False
        ),
        lambda: torch.zeros(1, 20, 64),
    )


def _torchvision_cases() -> Iterator[Case]:
    from torchvision import models

    for name in models.list_models(module=models):
        extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        size = 299 if name == "inception_v3" else 224
        yield Case(
            f"torchvision/{name}",
            lambda name=name, extra=extra: models.get_model(name, weights=None, **extra),
            _images(3, size, size),
        )


def _timm_cases() -> Iterator[Case]:
    """A small model of every architecture."""
    import timm

    for module in timm.list_modules():
        names = timm.list_models(module=module)
        if not names:
            continue
        name = next(name for part in _SMALL for name in names if part in name)
        shape = timm.get_pretrained_cfg(name, allow_unregistered=False) or None
        size = shape.input_size if shape is not None else (3, 224, 224)
        yield Case(
            f"timm/{name}",
            lambda name=name: timm.create_model(name, pretrained=False),
            _images(*size),
        )


def _transformers_cases() -> Iterator[Case]:
    """Architectures of the default configuration."""
    takes: dict[str, Callable[[], Example]] = {}
    takes |= dict.fromkeys(
        f"{_TEXT} {_EXPERTS}".split(), lambda: {"input_ids": _tokens(_NUM_TOKENS)}
    )
    takes |= dict.fromkeys(_VISION.split(), lambda: {"pixel_values": torch.zeros(1, 3, 224, 224)})
    takes |= dict.fromkeys(_AUDIO.split(), lambda: {"input_values": torch.zeros(1, 16_000)})
    takes |= dict.fromkeys(
        _TEXT_TO_TEXT.split(),
        lambda: {
            "input_ids": _tokens(_NUM_TOKENS),
            "decoder_input_ids": _tokens(_NUM_OUTPUT_TOKENS),
        },
    )
    takes["whisper"] = lambda: {
        "input_features": torch.zeros(1, 80, 3000),
        "decoder_input_ids": _tokens(_NUM_OUTPUT_TOKENS),
    }
    takes["clip"] = lambda: {
        "input_ids": _tokens(_NUM_TOKENS),
        "pixel_values": torch.zeros(1, 3, 224, 224),
    }
    for kind, example in sorted(takes.items()):
        # the meta kernel of grouped products takes nothing else
        dtype = torch.bfloat16 if kind in _EXPERTS.split() else torch.float32
        yield Case(f"transformers/{kind}", lambda kind=kind: _transformer(kind), example, dtype)


def _tokens(count: int) -> Tensor:
    return torch.zeros(1, count, dtype=torch.long)


def _transformer(kind: str) -> nn.Module:
    from transformers import AutoConfig, AutoModel
    from transformers.initialization import no_init_weights

    with no_init_weights():
        network: nn.Module = AutoModel.from_config(AutoConfig.for_model(kind))
    return network
