import pytest
import torch

from lightning_cost.runtime.device import device_name, device_of, synchronize
from lightning_cost.runtime.standalone import cpu_name

CUDA = torch.device("cuda", 1)


def test_cuda_is_waited_for_on_its_own_device(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    synchronize(CUDA)
    assert waited == [CUDA]


def test_mps_is_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append(True))
    synchronize(torch.device("mps"))
    assert waited == [True]


@pytest.mark.parametrize("kind", ["cpu", "meta"])
def test_other_devices_need_no_waiting(kind, monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: pytest.fail("waited"))
    synchronize(torch.device(kind))


def test_names_are_those_of_the_model(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device.index}")
    assert device_name(CUDA) == "card 1"
    assert device_name(torch.device("cpu")) == cpu_name()
    assert device_name(torch.device("mps")) == "mps"


@pytest.mark.parametrize(
    "text",
    [
        "processor\t: 0\nmodel name\t: Quick CPU @ 2 GHz\n",
        "Hardware : x\nModel : Quick CPU @ 2 GHz",
    ],
)
def test_the_processor_is_named_by_the_system(text, tmp_path):
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu_name(tmp_path / "cpuinfo") == "Quick CPU @ 2 GHz"


def test_a_processor_without_a_name_still_has_one(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor : 0\n")
    assert cpu_name(tmp_path / "cpuinfo")
    assert cpu_name(tmp_path / "missing")


def test_the_device_is_that_of_the_first_tensor():
    assert device_of((1, torch.zeros(1, device="meta"))).type == "meta"
    assert device_of((1, "text")).type == "cpu"
