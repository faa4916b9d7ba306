import copy

import pytest
import torch
from torch import nn

from lightning_cost.quantization.norms import FoldableNorm, make_foldable

NORMS = {
    "1d": (nn.BatchNorm1d(4), (8, 4)),
    "2d": (nn.BatchNorm2d(4), (8, 4, 3, 3)),
    "3d": (nn.BatchNorm3d(4), (8, 4, 2, 2, 2)),
    "without weights": (nn.BatchNorm2d(4, affine=False), (8, 4, 3, 3)),
}


@pytest.mark.parametrize("name", NORMS)
def test_live_as_it_was_and_folded_as_scale_and_shift(name):
    norm, shape = NORMS[name]
    norm, x = copy.deepcopy(norm), 2 * torch.randn(shape) + 1
    if norm.affine:
        nn.init.uniform_(norm.weight, -1, 1)
    plain = copy.deepcopy(norm)
    foldable = make_foldable(norm)
    assert isinstance(foldable, type(plain))
    assert torch.equal(foldable.train()(x), plain.train()(x))
    assert torch.equal(foldable.running_var, plain.running_var)
    expected = plain.eval()(x)
    for is_training in (False, True):
        foldable.train(is_training)
        if is_training:
            foldable.freeze()
        assert foldable(x) is x
        view = (-1, *[1] * (x.dim() - 2))
        folded = x * foldable.scale().reshape(view) + foldable.shift(torch.zeros(4)).reshape(view)
        assert torch.allclose(folded, expected, atol=1e-5)
    assert torch.equal(foldable.running_mean, plain.running_mean)


def test_state_is_kept_and_copied():
    foldable = make_foldable(nn.BatchNorm2d(4))
    foldable.freeze()
    fresh = make_foldable(nn.BatchNorm2d(4))
    assert not fresh.train().is_folded
    fresh.load_state_dict(foldable.state_dict())
    assert fresh.is_folded
    assert copy.deepcopy(fresh).is_folded


def test_making_it_foldable_twice_changes_nothing():
    norm = make_foldable(nn.BatchNorm2d(4))
    norm.freeze()
    assert make_foldable(norm) is norm
    assert norm.is_folded


def test_dissolved_is_an_identity_with_its_hooks():
    norm = make_foldable(nn.BatchNorm2d(4))
    norm.register_forward_hook(lambda module, args, output: output + 1)
    norm.add_module("child", nn.ReLU())
    norm.dissolve()
    assert type(norm) is nn.Identity
    assert not isinstance(norm, FoldableNorm)
    assert norm(torch.zeros(1)) == 1
    assert norm.state_dict() == {}
    assert isinstance(norm.child, nn.ReLU)
