"""On the CPU a batch norm that would synchronise is refused by torch: that tells whether it did."""

import copy

import pytest
import torch
from torch import nn

from lightning_cost.cost.synchronisation import unsynchronised
from lightning_cost.cost.training_flops import count_training_flops
from lightning_cost.pruning.batches import classification_loss
from lightning_cost.pruning.reconstruction.recalibration import recalibrate_batch_norm
from lightning_cost.pruning.search.fitness import tune


@pytest.fixture
def one_of_many_ranks(tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def pair():
    """A network, and the same with batch norms that synchronise."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    return plain, nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(plain))


def batches():
    return [(torch.randn(6, 3), torch.arange(6) % 2) for _ in range(2)]


@pytest.mark.parametrize(
    "run",
    [
        lambda network, given: recalibrate_batch_norm(network, given, classification_loss),
        lambda network, given: tune(network, given, classification_loss, 2),
        lambda network, given: count_training_flops(network, given[0][0]),
    ],
    ids=["recalibration", "tuning", "counting"],
)
def test_one_rank_runs_a_network_without_the_others(one_of_many_ranks, run):
    plain, synchronised = pair()
    given = batches()
    with pytest.raises(ValueError, match="SyncBatchNorm expected input tensor to be on GPU"):
        copy.deepcopy(synchronised).train()(given[0][0])
    assert run(plain, given) == run(synchronised, given)
    for mine, theirs in zip(
        plain.state_dict().values(), synchronised.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def test_afterwards_they_synchronise_again():
    before = nn.SyncBatchNorm.forward
    with pytest.raises(RuntimeError, match="no"), unsynchronised(), unsynchronised():
        raise RuntimeError("no")
    assert nn.SyncBatchNorm.forward is before
