import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.zoo.seeding import generator_for
from lightning_cost.zoo.splits import stratified_split


@given(
    labels=st.lists(st.integers(0, 4), min_size=4, max_size=200),
    ratios=st.tuples(st.floats(0, 0.4), st.floats(0, 0.4)),
    seed=st.integers(0, 2**31),
)
def test_parts_are_a_partition_with_every_class_in_its_share(labels, ratios, seed):
    labels = torch.tensor(labels)
    sizes = [int(ratio * len(labels)) for ratio in ratios]
    parts = stratified_split(labels, sizes, generator=generator_for(seed))

    assert [len(part) for part in parts[:-1]] == sizes
    assert torch.cat(parts).sort().values.tolist() == list(range(len(labels)))
    class_ratio = torch.bincount(labels, minlength=5) / len(labels)
    num_classes = int((class_ratio > 0).sum())
    for part in parts:
        deviation = torch.bincount(labels[part], minlength=5) - class_ratio * len(part)
        # each end of a part cuts every class off by up to half a sample, and is itself off by up to
        # half a sample of each class
        assert bool((deviation.abs() <= 1 + num_classes * class_ratio + 1e-4).all())


def test_equal_classes_are_divided_equally():
    labels = torch.arange(10).repeat_interleave(60)
    held_out, rest = stratified_split(labels, [100], generator=generator_for(0))
    assert torch.bincount(labels[held_out]).tolist() == [10] * 10
    assert torch.bincount(labels[rest]).tolist() == [50] * 10


def test_follows_from_the_generator():
    labels = torch.arange(2).repeat(50)
    first, again, other = (
        stratified_split(labels, [20], generator=generator_for(seed))[0] for seed in (1, 1, 2)
    )
    assert first.tolist() == again.tolist() != other.tolist()


@pytest.mark.parametrize("sizes", [[10], [5, 5], [-1]])
def test_refuses_sizes_that_leave_nothing(sizes):
    with pytest.raises(ValueError, match=r"sizes of held-out parts must be >= 0 and sum to less"):
        stratified_split(torch.zeros(10), sizes, generator=generator_for(0))
