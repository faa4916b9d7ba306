import pytest
import torch
from torch import nn

from lightning_cost.runtime import compiled
from lightning_cost.runtime.compiled import CompiledRuntime


def test_networks_of_one_class_do_not_share_the_limit_of_recompilations():
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        for width in (2, 3):
            network, example = nn.Linear(width, width), torch.ones(1, width)
            with CompiledRuntime().load(network, example, num_threads=1) as session:
                assert session.run(example)[0].shape == (1, width)


@pytest.mark.parametrize("compiler", ["g++", None])
def test_it_needs_a_compiler(compiler, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(compiled.shutil, "which", lambda name: name if name == compiler else None)
    assert CompiledRuntime.is_available() is (compiler is not None)
