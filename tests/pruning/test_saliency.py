"""Scores in closed form."""

import pytest
import torch
from torch import nn

from lightning_cost.pruning.saliency import group_saliency, normalised, quantiles
from lightning_cost.pruning.structure.groups import channel_groups
from tests.reference.random_networks import Residual, conv, depthwise, images, randomised


def _setting(*layers):
    network = randomised(nn.Sequential(*layers))
    return network, channel_groups(network, images())


def test_norms_of_a_plain_layer():
    network, grouping = _setting(conv(2, 4), nn.Conv2d(4, 2, 1))
    weight = network[0][0].weight.detach().double()
    scores = {
        kind: group_saliency(network, grouping, kind)["0.0"] for kind in ("l2", "l1", "bn_scale")
    }
    torch.testing.assert_close(scores["l2"], weight.pow(2).sum((1, 2, 3)))
    torch.testing.assert_close(scores["l1"], weight.abs().sum((1, 2, 3)))
    torch.testing.assert_close(scores["bn_scale"], network[0][1].weight.detach().double().abs())


def test_coupled_layers_add_up():
    network, grouping = _setting(nn.Conv2d(2, 4, 3), Residual(4, 3), nn.Conv2d(4, 2, 1))
    stem, last = network[0].weight.double(), network[1].body[2][0].weight.double()
    expected = (stem.pow(2).sum((1, 2, 3)) + last.pow(2).sum((1, 2, 3))).detach()
    torch.testing.assert_close(group_saliency(network, grouping)["0"], expected)
    mean = group_saliency(network, grouping, combine="mean")["0"]
    torch.testing.assert_close(mean, expected / 2)


def test_depthwise_filters_count_and_consumers_do_not():
    network, grouping = _setting(nn.Conv2d(2, 4, 3), depthwise(4, 3), nn.Conv2d(3, 2, 1))
    made, filtered = network[0].weight.double(), network[1][0][0].weight.double()
    expected = (made.pow(2).sum((1, 2, 3)) + filtered.pow(2).sum((1, 2, 3))).detach()
    torch.testing.assert_close(group_saliency(network, grouping)["0"], expected)


def test_transposed_convolutions_are_scored_along_their_outputs():
    network, grouping = _setting(nn.ConvTranspose2d(2, 4, 3), nn.Conv2d(4, 2, 1))
    expected = network[0].weight.detach().double().pow(2).sum((0, 2, 3))
    torch.testing.assert_close(group_saliency(network, grouping)["0"], expected)


def test_quantiles_are_ranks():
    scores = quantiles({"a": torch.tensor([3.0, 1.0, 2.0, 9.0])})["a"]
    assert scores.tolist() == [0.75, 0.25, 0.5, 1.0]


def test_a_group_of_zeros_is_normalised_to_ones():
    assert normalised({"a": torch.zeros(2)})["a"].tolist() == [1.0, 1.0]


def test_a_kind_that_a_group_lacks_is_named():
    network, grouping = _setting(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 2, 1))
    with pytest.raises(ValueError, match=r"kind must be one .* got 'bn_scale', which group '0'"):
        group_saliency(network, grouping, "bn_scale")


def test_weights_that_are_not_finite_are_named():
    network, grouping = _setting(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 2, 1))
    nn.init.constant_(network[0].weight, float("nan"))
    with pytest.raises(ValueError, match=r"weights must be finite to be ranked, .* group '0'"):
        group_saliency(network, grouping)


def test_taylor_sums_importance_over_filters():
    network, grouping = _setting(conv(2, 4), nn.Conv2d(4, 2, 1))
    importance = {"0.0.weight": torch.rand(4, 2, 3, 3)}
    found = group_saliency(network, grouping, "taylor", importance=importance)["0.0"]
    torch.testing.assert_close(found, importance["0.0.weight"].double().sum((1, 2, 3)))
    with pytest.raises(ValueError, match="importance must be given for kind='taylor', got none"):
        group_saliency(network, grouping, "taylor")


def test_fpgm_sums_distances_to_the_other_filters():
    network, grouping = _setting(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 2, 1))
    filters = network[0].weight.detach().double().flatten(1)
    expected = [sum(float((a - b).norm()) for b in filters) for a in filters]
    found = group_saliency(network, grouping, "fpgm")["0"]
    torch.testing.assert_close(
        found, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=0
    )


def test_the_filter_that_others_replace_best_has_the_least_fpgm():
    network, grouping = _setting(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        network[0].weight[2] = network[0].weight[[0, 1, 3]].mean(0)
    assert int(group_saliency(network, grouping, "fpgm")["0"].argmin()) == 2
