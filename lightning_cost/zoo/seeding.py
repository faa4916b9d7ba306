"""Random generators that follow from where a run stands, so that a resumed run draws the same."""

import numpy as np
import torch


def generator_for(*key: int) -> torch.Generator:
    """A CPU generator that depends on ``key``, such as (seed, epoch, step), and nothing else.

    >>> bool((torch.randperm(9, generator=generator_for(0, 1))
    ...       == torch.randperm(9, generator=generator_for(0, 1))).all())
    True
    """
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    # the top bit is left out: manual_seed reads it as a sign
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
