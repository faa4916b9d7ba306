import pytest
import torch

from lightning_cost.network.batch import first_tensor, num_samples_of

TENSOR = torch.zeros(4, 2)


@pytest.mark.parametrize(
    "batch",
    [TENSOR, (TENSOR, 3), ["text", TENSOR], {"id": "a", "x": TENSOR}, ((torch.tensor(1), TENSOR),)],
)
def test_the_first_tensor_with_a_dimension(batch):
    assert first_tensor(batch) is TENSOR
    assert num_samples_of(batch) == 4


@pytest.mark.parametrize("batch", ["text", [], {"a": ["b"]}, torch.tensor(3.0), None])
def test_no_tensor(batch):
    assert first_tensor(batch) is None
    with pytest.raises(ValueError, match="a batch must hold a tensor with samples in dimension 0"):
        num_samples_of(batch)
