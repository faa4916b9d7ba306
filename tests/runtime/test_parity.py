import numpy as np
import pytest
import torch
from torch import nn

from lightning_cost.runtime.parity import check_parity
from lightning_cost.runtime.session import Session

LOGITS = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 4.0], [3.0, 0.0]])


class Given(Session):
    """Returns what it was given."""

    def __init__(self, *outputs):
        self._outputs = tuple(np.asarray(output) for output in outputs)

    def bind(self, example):
        return lambda: self._outputs

    def run(self, example):
        return self._outputs


def parity(found, **tolerances):
    return check_parity(nn.Identity(), Given(found), LOGITS, **tolerances)


@pytest.mark.parametrize(("error", "passed"), [(0.0, True), (0.003, True), (0.005, False)])
def test_errors_are_judged_by_the_output_range(error, passed):
    found = LOGITS.numpy().copy()
    found[0, 0] += error
    result = parity(found)
    assert result.passed is passed
    assert result.max_abs_error == pytest.approx(error, abs=1e-6)
    assert (result.output_range, result.num_samples, result.top1_agreement) == (4.0, 4, 1.0)


@pytest.mark.parametrize(("least", "passed"), [(0.75, True), (0.8, False)])
def test_predictions_are_judged_by_their_share(least, passed):
    found = LOGITS.numpy().copy()
    found[3] = [0.0, 1.0]
    result = parity(found, max_error_ratio=None, min_top1_agreement=least)
    assert result.top1_agreement == 0.75
    assert result.passed is passed


def test_values_that_are_not_numbers_never_pass():
    result = parity(np.full((4, 2), np.nan), max_error_ratio=None)
    assert not result.passed


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"session must return .* shapes \[\(4, 2\)\], got \[\(4,"):
        parity(np.zeros((4, 3)))


def test_agreement_needs_classes():
    with pytest.raises(ValueError, match=r"min_top1_agreement must be None .* got 0\.9; use"):
        check_parity(nn.Flatten(0), Given(LOGITS.ravel()), LOGITS, min_top1_agreement=0.9)


def test_the_network_is_left_as_it_was_found():
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()).train()
    before = network[0].running_mean.clone()
    check_parity(network, Given(LOGITS), LOGITS)
    assert network.training
    assert torch.equal(network[0].running_mean, before)
