"""The contract of a runtime, on every runtime that is installed."""

import numpy as np
import pytest
import torch
from torch import nn

from lightning_cost.cost.forward import with_batch_size
from lightning_cost.runtime import contract
from lightning_cost.runtime.contract import (
    DEPLOYABLE,
    RUNTIMES,
    get_runtime,
    installed_runtimes,
    open_file,
)
from lightning_cost.runtime.onnx_file import write_onnx


class Small(nn.Module):
    """A little of everything; positional and keyword arguments, two outputs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.linear = nn.Linear(4, 3)

    def forward(self, image, shift=None):
        features = self.relu(self.conv(image)).mean((2, 3))
        if shift is not None:
            features = features - 2 * shift
        return {"logits": self.linear(features), "features": features}


IMAGE, SHIFT = torch.randn(3, 2, 5, 5), torch.randn(3, 4)
EXAMPLES = {
    "one sample": IMAGE[:1],
    "tuple": (IMAGE, SHIFT),
    "dict in another order": {"shift": SHIFT, "image": IMAGE},
}


def expected(network, example):
    args = example if isinstance(example, tuple) else (example,)
    with torch.no_grad():
        output = network(**example) if isinstance(example, dict) else network(*args)
    return [output["logits"].numpy(), output["features"].numpy()]


def assert_equal(found, network, example):
    for ours, theirs in zip(expected(network, example), found, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture(scope="module", params=installed_runtimes())
def runtime(request):
    return get_runtime(request.param)


@pytest.fixture(scope="module")
def session(runtime, network):
    with runtime.load(network, IMAGE, num_threads=1) as session:
        yield session


@pytest.fixture(scope="module", params=EXAMPLES)
def file(request, network, tmp_path_factory):
    example = EXAMPLES[request.param]
    return write_onnx(network, example, tmp_path_factory.mktemp("file") / "model.onnx"), example


def test_all_runtimes_are_installed_where_this_project_is_tested():
    assert installed_runtimes() == list(RUNTIMES)
    assert all(runtime.name == name for name, runtime in RUNTIMES.items())


@pytest.mark.parametrize("form", EXAMPLES)
def test_a_session_computes_what_the_network_computes(runtime, form, network):
    example = EXAMPLES[form]
    with runtime.load(network, example, num_threads=1) as session:
        assert_equal(session.run(example), network, example)


def test_one_session_runs_again_without_changing_earlier_outputs(session, network):
    first = session.run(IMAGE)
    kept = [array.copy() for array in first]
    second = session.run(-IMAGE)
    assert all(np.array_equal(a, b) for a, b in zip(first, kept, strict=True))
    assert_equal(second, network, -IMAGE)


def test_a_bound_call_can_be_repeated(session, network):
    call = session.bind(IMAGE)
    call()
    call()
    assert_equal(session.run(IMAGE), network, IMAGE)


def test_loading_and_running_leave_everything_as_it_was(runtime, network, capfd):
    state = {name: value.clone() for name, value in network.state_dict().items()}
    threads, random_state = torch.get_num_threads(), torch.get_rng_state()
    session = runtime.load(network, IMAGE, num_threads=threads + 1)
    session.run(IMAGE)
    session.close()
    session.close()
    with pytest.raises(RuntimeError, match="this session is closed; load the network again"):
        session.run(IMAGE)
    assert capfd.readouterr() == ("", "")
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.is_grad_enabled()


def test_no_threads_are_refused(runtime, network):
    with pytest.raises(ValueError, match="num_threads must be at least 1, got 0; give the number"):
        runtime.load(network, IMAGE, num_threads=0)


def test_a_precision_that_a_runtime_lacks_is_refused(runtime):
    with pytest.raises(ValueError, match=rf"precision must be .* on runtime {runtime.name}, got"):
        type(runtime)(precision="float8")


@pytest.mark.parametrize("name", DEPLOYABLE)
def test_a_file_runs_at_any_batch_size(name, file, network):
    path, example = file
    with open_file(path, runtime=name, num_threads=1) as session:
        for size in (1, 2, 5):
            batch = with_batch_size(example, size)
            assert_equal(session.run(batch), network, batch)
        with pytest.raises(ValueError, match=r"example must hold . tensors .*, got 3;"):
            session.run((IMAGE, SHIFT, SHIFT))


@pytest.mark.parametrize("name", DEPLOYABLE)
def test_a_missing_file_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"path must be an ONNX file, got .*no\.onnx"):
        open_file(tmp_path / "no.onnx", runtime=name, num_threads=1)


def test_only_some_runtimes_run_files():
    with pytest.raises(ValueError, match="runtime must be one of onnxruntime, openvino to run a"):
        open_file("model.onnx", runtime="eager", num_threads=1)


def test_an_unknown_runtime_is_refused_with_the_known():
    with pytest.raises(
        ValueError, match="one of eager, compiled, onnxruntime, openvino, got 'tensorrt'"
    ):
        get_runtime("tensorrt")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("compiled", r"install a C\+\+ compiler"),
        ("onnxruntime", r"pip install 'lightning-cost\[deploy\]'"),
        ("openvino", r"pip install 'lightning-cost\[deploy\]'"),
    ],
)
def test_a_runtime_that_is_not_installed_says_how_to_get_it(name, remedy, monkeypatch):
    monkeypatch.setattr(contract.RUNTIMES[name], "is_available", classmethod(lambda cls: False))
    assert name not in installed_runtimes()
    with pytest.raises(ValueError, match=f"got '{name}', which is not: {remedy}"):
        get_runtime(name)


@pytest.mark.parametrize("name", DEPLOYABLE)
@pytest.mark.parametrize("damage", ["empty", "text", "cut off", "other bytes"])
def test_a_file_that_a_runtime_refuses_is_named(name, damage, network, tmp_path):
    path = tmp_path / "model.onnx"
    content = write_onnx(network, IMAGE, path).read_bytes()
    contents = {
        "empty": b"",
        "text": b"<script>alert(1)</script>",
        "cut off": content[: len(content) // 2],
        "other bytes": content[:200] + bytes(200) + content[400:],
    }
    path.write_bytes(contents[damage])
    with pytest.raises(ValueError, match=f"path must be a file that {name} runs, got .*model.onnx"):
        open_file(path, runtime=name, num_threads=1)


def test_a_file_of_types_that_a_runtime_lacks_is_named(tmp_path):
    path = tmp_path / "model.onnx"
    write_onnx(nn.Conv2d(2, 3, 1).bfloat16(), IMAGE.bfloat16(), path)
    with pytest.raises(ValueError, match=r"onnxruntime runs, got .*bfloat16.*another runtime"):
        open_file(path, runtime="onnxruntime", num_threads=1)
