"""Candidates as data."""

import pytest
import torch

from lightning_cost.pruning.search.candidate import Candidate, deviations

BASES = {"l2": {"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([2.0, 2.0])}}


def test_the_identity_is_the_saliency_itself():
    candidate = Candidate.identity("l2", 2)
    assert candidate.is_plain
    assert candidate.ranking(BASES).scores == {"a": (1.0, 3.0), "b": (2.0, 2.0)}


def test_scale_and_shift_go_to_the_groups_in_order():
    candidate = Candidate(base="l2", alpha=(2.0, 1.0), kappa=(0.0, -1.0))
    assert not candidate.is_plain
    assert candidate.ranking(BASES).scores == {"a": (2.0, 6.0), "b": (1.0, 1.0)}


def test_deviations():
    assert deviations(BASES)["l2"] == pytest.approx([1.0, 0.0])


def test_round_trip():
    candidate = Candidate(base="l2", alpha=(2.0, 1.0), kappa=(0.0, -1.0))
    assert Candidate.from_dict(candidate.to_dict()) == candidate
