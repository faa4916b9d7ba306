import torch

from lightning_cost.zoo.seeding import generator_for


def test_every_part_of_the_key_counts():
    keys = [(0,), (1,), (0, 0), (0, 1), (1, 0), (2**40, 3)]
    draws = {tuple(torch.randint(2**60, (4,), generator=generator_for(*key))) for key in keys}
    assert len(draws) == len(keys)


def test_leaves_the_global_random_state():
    before = torch.get_rng_state()
    torch.rand(3, generator=generator_for(5))
    assert torch.equal(torch.get_rng_state(), before)
