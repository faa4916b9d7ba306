"""What becomes of channels that reach an operator no rule covers."""

import torch
from torch import nn

from lightning_cost.pruning.structure.groups import channel_groups


class Between(nn.Module):
    """Two convolutions, and something between them that keeps the shape."""

    def __init__(self, between):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(n, m, 1) for n, m in ((3, 8), (8, 8), (8, 2)))
        self.between = between

    def forward(self, x):
        return self.c(self.between(self.b(self.a(x))))


def _grouping(between):
    torch.manual_seed(0)
    return channel_groups(Between(between), torch.randn(1, 3, 4, 4))


def test_what_reaches_an_operator_without_a_rule_stays_and_it_is_named():
    grouping = _grouping(lambda x: torch.fft.ifft2(torch.fft.fft2(x)).real)
    assert grouping.num_channels == {"a": 8}
    assert grouping.left_alone["b"] == "its channels reach Between (_fft_c2c)"


def test_a_use_that_a_rule_does_not_foresee_says_what_it_is():
    mask = torch.ones(8, dtype=torch.bool)
    grouping = _grouping(lambda x: x[:, mask])
    assert grouping.num_channels == {"a": 8}
    assert grouping.left_alone["b"] == (
        "its channels reach Between (index, NotImplementedError: indexing by a mask)"
    )


def test_a_view_of_other_elements_is_no_other_layout():
    def shift(x):
        # the first channel eight times, in place
        return x.clone().as_strided_((1, 8, 4, 4), (128, 0, 4, 1))

    grouping = _grouping(shift)
    assert grouping.num_channels == {"a": 8}
    assert "b" in grouping.left_alone


def test_what_only_moves_elements_is_followed():
    assert _grouping(lambda x: x.flip(3) * 2).num_channels == {"a": 8, "b": 8}
