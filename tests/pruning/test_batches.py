"""Batches are taken from the beginning, and nothing else is touched."""

import pytest
import torch

from lightning_cost.network.loader import collect_batches
from lightning_cost.pruning.batches import SearchData


class Loader:
    def __init__(self, num_batches):
        self.num_batches, self.num_given = num_batches, 0

    def __iter__(self):
        for _ in range(self.num_batches):
            self.num_given += 1
            yield torch.rand(4, 2), torch.zeros(4)


@pytest.mark.parametrize(("wanted", "given"), [(1, 1), (4, 1), (5, 2), (99, 3)])
def test_as_many_batches_as_hold_what_is_wanted(wanted, given):
    loader, state = Loader(3), torch.random.get_rng_state()
    assert len(collect_batches(loader, wanted)) == loader.num_given == given
    assert torch.equal(torch.random.get_rng_state(), state)


def test_no_batch_is_refused():
    with pytest.raises(ValueError, match="must hold at least one batch, got none"):
        collect_batches(Loader(0), 8)


def test_search_data_moves_as_a_whole():
    data = SearchData(
        calibration=collect_batches(Loader(2), 8), search=collect_batches(Loader(1), 4)
    )
    assert data.num_samples == 12
    moved = data.to(lambda batch: (batch[0] + 1, batch[1]))
    for part in ("calibration", "search"):
        for before, after in zip(getattr(data, part), getattr(moved, part), strict=True):
            assert torch.equal(before[0] + 1, after[0])
