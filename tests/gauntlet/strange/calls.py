"""Networks that are called, answer, or run in a rare way."""

from collections import namedtuple
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.gauntlet.strange.case import Case, drawn, head, image, row


class Trunk(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 10), nn.ReLU())
        self.left, self.right = nn.Linear(10, 3), nn.Linear(10, 2)


class KeywordOnly(Trunk):
    def forward(self, *, left, right):
        return self.left(self.body(left)), self.right(self.body(right))


class SeveralInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.row = nn.Conv2d(3, 8, 3), nn.Linear(8, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, image, row):
        return self.last((self.image(image).mean((2, 3)) + self.row(row)).relu())


class Optional(SeveralInputs):
    def forward(self, image, row=None, scale=2.0):
        x = self.image(image).mean((2, 3)) * scale
        return self.last((x if row is None else x + self.row(row)).relu())


class AnyArguments(SeveralInputs):
    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs)


class ListInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, rows):
        return self.last(sum(self.first(row).relu() for row in rows))


class IntegerInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.first, self.last = nn.Embedding(11, 8), nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, ids):
        return self.last(self.first(self.table(ids).mean(1)).relu())


class Pixels(nn.Module):
    """Takes bytes, as a camera gives them."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), *head(8))

    def forward(self, pixels):
        return self.body(pixels.float() / 255 - 0.5)


class OneHot(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(11, 12), nn.Linear(12, 3)

    def forward(self, ids):
        return self.last(self.first(F.one_hot(ids, 11).float()).relu().mean(1))


class ReturnsDict(Trunk):
    def forward(self, x):
        x = self.body(x)
        return {"right": self.right(x), "left": self.left(x)}


class ReturnsList(Trunk):
    def forward(self, x):
        x = self.body(x)
        return [self.left(x), [self.right(x), x]]


@dataclass
class Answer:
    left: torch.Tensor
    right: torch.Tensor


class ReturnsDataclass(Trunk):
    def forward(self, x):
        x = self.body(x)
        return Answer(self.left(x), self.right(x))


Pair = namedtuple("Pair", ["left", "right"])


class ReturnsNamedTuple(Trunk):
    def forward(self, x):
        x = self.body(x)
        return Pair(self.left(x), self.right(x))


class ReturnsNone(Trunk):
    def forward(self, x):
        return self.left(self.body(x)), None, self.right(self.body(x))


class ReturnsScalar(Trunk):
    def forward(self, x):
        return self.left(self.body(x)).square().mean()


class ReturnsInput(Trunk):
    def forward(self, x):
        return x, self.left(self.body(x)) + self.right(self.body(x)).sum(1, keepdim=True)


class ReturnsClass(Trunk):
    """An answer of whole numbers beside the one in floating point."""

    def forward(self, x):
        logits = self.left(self.body(x))
        return logits, logits.argmax(1)


class Hidden(Trunk):
    """What a layer makes leaves the network, and is read inside of it too."""

    def forward(self, x):
        x = self.body(x)
        return x, self.left(x)


class OnShapes(nn.Module):
    """Takes another way for large images."""

    def __init__(self):
        super().__init__()
        self.small, self.large = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3, stride=2)
        self.end = nn.Sequential(*head(8))

    def forward(self, x):
        layer = self.small if x.shape[-1] < 16 else self.large
        return self.end(layer(x).relu())


class OnBatch(nn.Module):
    """Takes another way for a single sample."""

    def __init__(self):
        super().__init__()
        self.one, self.many, self.last = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, x):
        return self.last((self.one if len(x) == 1 else self.many)(x).relu())


class OnValues(nn.Module):
    """Takes another way for other values."""

    def __init__(self):
        super().__init__()
        self.first, self.other, self.last = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, x):
        layer = self.first if x.sum() > 1e9 else self.other
        return self.last(layer(x).relu())


class OnMode(Trunk):
    def forward(self, x):
        x = self.body(x)
        return (self.left(x), self.right(x)) if self.training else self.left(x)


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.next = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.relu, self.end = nn.ReLU(inplace=True), nn.Sequential(*head(8))

    def forward(self, x):
        x = self.stem(x)
        y = self.next(x)
        y += x
        y.mul_(0.5)
        self.relu(y)
        z = y.clone()
        z[:, :, 0] = 0
        return self.end(z)


class WritesChannels(nn.Module):
    """Overwrites some of its channels in place."""

    def __init__(self):
        super().__init__()
        self.stem, self.end = nn.Conv2d(3, 8, 3), nn.Sequential(nn.Conv2d(8, 8, 1), *head(8))

    def forward(self, x):
        x = self.stem(x)
        x[:, :2] = x[:, 2:4] * 2
        return self.end(x.relu())


class Noisy(nn.Module):
    """Random in evaluation mode too."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, x):
        x = self.first(x)
        return self.last((x + 0.1 * torch.randn_like(x)).relu())


class Remembering(nn.Module):
    """Keeps what it saw as an attribute."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 12), nn.Linear(12, 3)
        self.seen = None

    def forward(self, x):
        self.seen = self.first(x)
        return self.last(self.seen.relu())


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 12))
        self.last = nn.Linear(12, 3)

    def forward(self, x):
        return self.last(checkpoint(self.body, x, use_reentrant=False).relu())


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 12), nn.Linear(12, 3)
        self.middle = torch.jit.script(nn.Sequential(nn.Linear(12, 12), nn.ReLU()))

    def forward(self, x):
        return self.last(self.middle(self.first(x).relu()))


class Functional(nn.Module):
    """Runs one of its modules with other weights."""

    def __init__(self):
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(8, 12), nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x):
        weights = {name: 2 * value for name, value in self.inner.named_parameters()}
        hidden = torch.func.functional_call(self.inner, weights, (self.first(x).relu(),))
        return self.last(hidden.relu())


class CasesOfLists(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.heads = nn.ModuleDict({"a b": nn.Linear(8, 3), "weight": nn.Linear(8, 2)})

    def forward(self, x):
        for step in self.steps:
            x = x + step(x).relu()
        return {name: each(x) for name, each in self.heads.items()}


class MixedTypes(nn.Module):
    """Its last layer computes in double precision."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 12), nn.Linear(12, 3).double()

    def forward(self, x):
        return self.last(self.first(x).relu().double())


class Dropouts(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout2d(0.5), nn.SELU())
        self.end = nn.Sequential(nn.AlphaDropout(0.5), *head(8))

    def forward(self, x):
        return F.dropout(self.end(self.stem(x)), 0.5, self.training)


def small():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), *head(8)
    )


def hooked(register):
    def build():
        network = small()
        register(network)
        return network

    return build


def _double_output(network):
    network[3].register_forward_hook(lambda module, args, output: 2 * output)


def _shift_input(network):
    network[3].register_forward_pre_hook(lambda module, args: (args[0] + 1,))


def _scale_gradient(network):
    network[3].register_full_backward_hook(lambda module, before, after: (2 * before[0],))


def _in_place_compiled():
    network = small()
    network.compile(backend="eager")
    return network


def bytes_image():
    return (127 + 40 * image()).clamp(0, 255).to(torch.uint8)


CASES = {
    "keyword_only": Case(
        build=KeywordOnly, example=lambda: {"left": row(), "right": row() + 1}, noise=0.3
    ),
    "several_inputs": Case(build=SeveralInputs, example=lambda: (image(), row())),
    "several_by_name": Case(build=SeveralInputs, example=lambda: {"row": row(), "image": image()}),
    "optional_input": Case(build=Optional, example=lambda: (image(), None)),
    "any_arguments": Case(build=AnyArguments, example=lambda: (image(), row())),
    "list_input": Case(build=ListInput, example=lambda: ([row(), row() + 1],)),
    "integer_input": Case(build=IntegerInput, example=lambda: torch.arange(20).view(4, 5) % 11),
    "one_hot": Case(build=OneHot, example=lambda: torch.arange(20).view(4, 5) % 11),
    "bytes": Case(build=Pixels, example=bytes_image),
    "returns_dict": Case(build=ReturnsDict, example=row),
    "returns_list": Case(build=ReturnsList, example=row),
    "returns_dataclass": Case(build=ReturnsDataclass, example=row),
    "returns_named_tuple": Case(build=ReturnsNamedTuple, example=row),
    "returns_none": Case(build=ReturnsNone, example=row),
    "returns_scalar": Case(build=ReturnsScalar, example=row),
    "returns_input": Case(build=ReturnsInput, example=row),
    "returns_class": Case(build=ReturnsClass, example=row),
    "hidden_output": Case(build=Hidden, example=row),
    "on_shapes": Case(build=OnShapes, example=image),
    "on_batch": Case(build=OnBatch, example=row),
    "on_values": Case(build=OnValues, example=row),
    "on_mode": Case(build=OnMode, example=row),
    "in_place": Case(build=InPlace, example=image),
    "writes_channels": Case(
        build=WritesChannels,
        example=image,
    ),
    "noisy": Case(
        build=Noisy,
        example=row,
        is_random=True,
        in_fit=False,
    ),
    "remembering": Case(build=Remembering, example=row),
    "checkpointed": Case(build=Checkpointed, example=row),
    "scripted_part": Case(build=Scripted, example=row),
    "traced": Case(
        build=lambda: torch.jit.trace(small().eval(), image()),
        example=image,
        in_fit=False,
    ),
    "functional_call": Case(
        build=Functional,
        example=row,
    ),
    "lists_and_dicts": Case(build=CasesOfLists, example=row),
    "mixed_types": Case(build=MixedTypes, example=row),
    # what is drawn after a resume is not what would have been drawn: no fit to compare
    "dropouts": Case(build=Dropouts, example=image, in_fit=False),
    "doubled_by_hook": Case(build=hooked(_double_output), example=image),
    "shifted_by_hook": Case(build=hooked(_shift_input), example=image),
    "gradient_hook": Case(build=hooked(_scale_gradient), example=image),
    "compiled": Case(build=lambda: torch.compile(small(), backend="eager"), example=image),
    "compiled_in_place": Case(build=_in_place_compiled, example=image),
    "channels_last": Case(
        build=lambda: small().to(memory_format=torch.channels_last),
        example=lambda: image().contiguous(memory_format=torch.channels_last),
    ),
    "double": Case(
        build=lambda: small().double(),
        example=lambda: image().double(),
    ),
    "half": Case(build=lambda: small().half(), example=lambda: image().half()),
    "bfloat16": Case(
        build=lambda: small().bfloat16(),
        example=lambda: image().bfloat16(),
    ),
    "one_sample": Case(build=small, example=lambda: image()[:1]),
    "odd_sizes": Case(build=small, example=lambda: drawn(3, 7, 11)),
}
