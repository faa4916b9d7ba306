import pytest
import torch

from lightning_cost.network.batch import first_samples, first_tensor, num_samples_of, shapes_of

TENSOR = torch.zeros(4, 2)


@pytest.mark.parametrize(
    "batch",
    [TENSOR, (TENSOR, 3), ["text", TENSOR], {"id": "a", "x": TENSOR}, ((torch.tensor(1), TENSOR),)],
)
def test_the_first_tensor_with_a_dimension(batch):
    assert first_tensor(batch) is TENSOR
    assert num_samples_of(batch) == 4


@pytest.mark.parametrize(
    ("batch", "shapes"),
    [
        (TENSOR, [(4, 2)]),
        ((TENSOR, TENSOR[0]), [(4, 2), (2,)]),
        ([torch.nn.Parameter(TENSOR), "a", TENSOR[0]], [(4, 2), (2,)]),
        ({"id": ["a", "b"], "x": (3, [TENSOR]), "y": torch.tensor(1)}, [(4, 2), ()]),
        (["text", None, {}], []),
        (None, []),
    ],
)
def test_the_shapes_of_all_tensors(batch, shapes):
    assert shapes_of(batch) == tuple(torch.Size(shape) for shape in shapes)


@pytest.mark.parametrize("batch", ["text", [], {"a": ["b"]}, torch.tensor(3.0), None])
def test_no_tensor(batch):
    assert first_tensor(batch) is None
    with pytest.raises(ValueError, match="a batch must hold a tensor with samples in dimension 0"):
        num_samples_of(batch)


def batches_of(*sizes):
    numbers = iter(range(100))
    return [
        {"x": torch.tensor([[float(next(numbers))] for _ in range(size)]), "note": "n"}
        for size in sizes
    ]


@pytest.mark.parametrize(("wanted", "held"), [(2, 2), (3, 3), (5, 5), (99, 7)])
def test_first_samples_of_several_batches(wanted, held):
    joined = first_samples(batches_of(3, 3, 1), wanted)
    assert joined["x"].flatten().tolist() == list(range(held))
    assert joined["note"] == "n"


def test_batches_that_do_not_fit_end_the_list():
    first, second = torch.zeros(2, 3), torch.zeros(2, 4)
    assert first_samples([first, second], 4).shape == (2, 3)
    assert first_samples([(first,), (first, first)], 4)[0].shape == (2, 3)


def test_what_is_not_of_samples_stays():
    scale = torch.tensor([1.0, 2.0, 3.0])
    images, kept = first_samples([(torch.zeros(2, 1), scale), (torch.ones(2, 1), scale)], 3)
    assert len(images) == 3
    assert kept is scale
