"""Bits that are chosen under a budget, inside a fit."""

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from lightning_cost.budget.model import ModelBudget
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.hardware.joules import NoCounters
from lightning_cost.monitor.measure import measure
from lightning_cost.network.lineage import lineage_of, lineage_to_list
from lightning_cost.quantization.callback import QuantizationAwareTraining
from lightning_cost.quantization.packing.packed import load_packed, packed_size_bytes, save_packed
from lightning_cost.quantization.rules import QuantizationRules
from lightning_cost.quantization.weights import quantized_weights
from tests.integration import setting
from tests.quantization.test_callback import Classifier, loader, small_network, trainer_with

CHOICES = ["int8", "int6", "int4", "int3"]
EXAMPLE = torch.zeros(1, 1, 8, 8)


def size_of(network):
    return measure(network, EXAMPLE, resources=["size_bytes"])[Resource.size_bytes].value


def test_the_fewest_harm_within_the_size_and_the_file_has_it(tmp_path):
    budget = ModelBudget(size_bytes=1550)
    quantization = QuantizationAwareTraining(
        ["int8", "int4"],
        start=1,
        epochs=1,
        budget=budget,
        rules=QuantizationRules(overrides={"7": "int4"}),
    )
    module = Classifier()
    trainer_with(quantization, max_epochs=2).fit(module, loader(256))
    assert size_of(module.network) <= 1550
    chosen = quantization.bits.chosen
    assert chosen.costs[Resource.size_bytes] == pytest.approx(size_of(module.network), abs=1)
    found = {name: each.rounding.scheme for name, each, _ in quantized_weights(module.network)}
    assert found == chosen.schemes
    assert found["7"].weight_bits == 4
    assert packed_size_bytes(module.network) <= 1550
    file = save_packed(module.network, tmp_path / "model.packed")
    loaded = load_packed(small_network(), file)
    assert size_of(loaded) == size_of(module.network)


def test_size_out_of_reach_is_said_before_the_first_step():
    quantization = QuantizationAwareTraining(
        ["int8", "int4"], start=1, epochs=1, budget=ModelBudget(size_bytes=500)
    )
    with pytest.raises(ValueError, match=r"size_bytes <= 500 B \(nearest reachable: \d+ B\)"):
        trainer_with(quantization, max_epochs=2).fit(Classifier(), loader(128))


def test_energy_of_an_analytic_model_can_be_the_budget():
    device = Hardware.load("raspberry_pi_4")
    device.energy_model = "eyeriss"
    module = Classifier()
    high, low = (
        measure(
            QuantizationAwareTraining(scheme).preview(small_network(), EXAMPLE),
            EXAMPLE,
            hardware=device,
            resources=["energy_mj"],
        )[Resource.energy_mj].value
        for scheme in ("int8", "int3")
    )
    limit = 0.5 * (low + high)
    quantization = QuantizationAwareTraining(
        CHOICES, start=0, epochs=1, budget=ModelBudget(energy_mj=limit), hardware=device
    )
    trainer_with(quantization, max_epochs=1).fit(module, loader(128))
    found = measure(module.network, EXAMPLE, hardware=device, resources=["energy_mj"])
    assert found[Resource.energy_mj].value <= limit * (1 + 1e-9)
    chosen = quantization.bits.chosen.schemes
    assert chosen["3"].weight_bits < 8  # else the limit would have been none


@pytest.fixture(scope="module")
def joint_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint")
    module, given = setting.module(), setting.joint_callbacks()
    saving = ModelCheckpoint(dirpath=folder, filename="{epoch}", save_top_k=-1)
    trainer = setting.trainer(folder, [*given, saving], enable_checkpointing=True)
    dense = size_of(module.network)
    trainer.fit(module, datamodule=setting.data())
    return folder, module, given, dense


def test_budget_is_shared_between_channels_and_bits(joint_run):
    _, module, given, dense = joint_run
    assert size_of(module.network) <= 0.12 * dense
    assert given[-1].stop_reason.startswith("model budget kept")
    splits = given[1].planned.splits
    judged = [split for split in splits if split["loss"] is not None]
    assert len(judged) >= 2
    best = min(judged, key=lambda split: split["loss"])
    assert [split for split in splits if split["is_chosen"]] == [best]
    # fewer bits leave room for more channels
    by_size = sorted(judged, key=lambda split: split["costs"]["size_bytes"])
    kept = [split["keep_ratio"] for split in by_size]
    assert kept == sorted(kept, reverse=True)


@pytest.mark.parametrize("epoch", [2, 6])
def test_resumed_it_ends_bit_identically(joint_run, tmp_path, epoch):
    folder, module, given, _ = joint_run
    resumed, again = setting.module(), setting.joint_callbacks()
    saving = ModelCheckpoint(dirpath=tmp_path, filename="{epoch}", save_top_k=-1)
    trainer = setting.trainer(tmp_path, [*again, saving], enable_checkpointing=True)
    trainer.fit(resumed, datamodule=setting.data(), ckpt_path=folder / f"epoch={epoch}.ckpt")
    assert lineage_to_list(lineage_of(resumed.network)) == lineage_to_list(
        lineage_of(module.network)
    )
    expected = module.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())
    assert again[2].settled == given[2].settled
    assert again[1].planned.splits == given[1].planned.splits


def test_one_scheme_leaves_nothing_to_share(monkeypatch, tmp_path):
    """Nothing is traced or loaded for it, either."""

    def fail(*_, **__):
        raise AssertionError("shared out")

    monkeypatch.setattr("lightning_cost.pruning.planning.share_out", fail)
    given = setting.callbacks()
    setting.trainer(tmp_path, given).fit(setting.module(), datamodule=setting.data())
    assert given[1].planned.splits == []


def test_what_counters_measure_does_not_follow_bits(monkeypatch):
    device = Hardware.local()
    device.energy_model = "eyeriss"
    budget = ModelBudget(energy_mj=1.0)
    unmeasured = NoCounters(reason="none here")
    monkeypatch.setattr("lightning_cost.hardware.device.local_counters", lambda: unmeasured)
    QuantizationAwareTraining(CHOICES, budget=budget, hardware=device)
    monkeypatch.setattr("lightning_cost.hardware.device.local_counters", object)
    with pytest.raises(ValueError, match="budget must limit what bits have a part in"):
        QuantizationAwareTraining(CHOICES, budget=budget, hardware=device)
