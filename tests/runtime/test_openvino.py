import subprocess
import sys

import numpy as np
import openvino
import pytest
import torch
from torch import nn

from lightning_cost.runtime.onnx_file import write_onnx
from lightning_cost.runtime.openvino import OpenVinoRuntime


@pytest.fixture
def settings(monkeypatch):
    """The configuration of every model that is compiled."""
    seen = []
    compile_model = openvino.Core.compile_model

    def spy(core, model, device, config):
        compiled = compile_model(core, model, device, config)
        seen.append(compiled)
        return compiled

    monkeypatch.setattr(openvino.Core, "compile_model", spy)
    return seen


@pytest.mark.parametrize(("precision", "found"), [("float32", "f32"), ("bfloat16", "bf16")])
def test_precision_threads_and_streams_are_those_asked_for(precision, found, settings):
    network, example = nn.Linear(3, 4).eval(), torch.ones(1, 3)
    with OpenVinoRuntime(precision=precision).load(network, example, num_threads=1):
        model = settings[-1]
    assert str(model.get_property("INFERENCE_PRECISION_HINT").get_type_name()) == found
    assert model.get_property("INFERENCE_NUM_THREADS") == 1
    assert model.get_property("NUM_STREAMS") == 1


def test_a_fixed_batch_is_compiled_as_such(settings, tmp_path):
    network, example = nn.Linear(3, 4).eval(), torch.ones(2, 3)
    path = write_onnx(network, example, tmp_path / "model.onnx")
    with OpenVinoRuntime().open(path, num_threads=1, batch_size=2) as session:
        np.testing.assert_allclose(
            session.run(example)[0], network(example).detach(), rtol=1e-4, atol=1e-5
        )
    assert settings[-1].inputs[0].partial_shape.is_static
    with OpenVinoRuntime().open(path, num_threads=1):
        assert settings[-1].inputs[0].partial_shape.is_dynamic


CTRL_C = """
import signal
import torch
from lightning_cost.runtime.openvino import OpenVinoRuntime

network, example = torch.nn.Conv2d(3, 8, 3), torch.zeros(1, 3, 8, 8)
first = OpenVinoRuntime().load(network, example, num_threads=1)
second = OpenVinoRuntime().load(network, example, num_threads=1)
for session in (first, second):
    session.run(example)
    session.close()
del first, second, session
try:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_after_sessions_were_closed_interrupts():
    result = subprocess.run([sys.executable, "-c", CTRL_C], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "interrupted\n"), result.stderr
