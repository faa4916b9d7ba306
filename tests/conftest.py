"""Settings of all tests: what they draw at random is the same in every run and in any order.

But for property tests away from CI, which look for new examples.
"""

import os

import pytest
import torch
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("local", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Every test begins with the same seed, before its fixtures do."""
    torch.manual_seed(0)
