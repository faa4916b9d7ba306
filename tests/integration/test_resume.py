"""fit(N + M) == fit(N), killed, resumed for M: bit for bit, from the end of every epoch."""

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from lightning_cost.network.checkpoint import load_compressed
from lightning_cost.network.lineage import lineage_of, lineage_to_list
from lightning_cost.zoo.resnet import resnet8
from tests.integration import setting


def saving(folder):
    return ModelCheckpoint(
        dirpath=folder, filename="{epoch}", save_top_k=-1, enable_version_counter=False
    )


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """One uninterrupted run with a checkpoint after every epoch."""
    folder = tmp_path_factory.mktemp("whole")
    module, callbacks = setting.module(), setting.callbacks()
    trainer = setting.trainer(folder, [*callbacks, saving(folder)], enable_checkpointing=True)
    trainer.fit(module, datamodule=setting.data())
    trainer.save_checkpoint(folder / "end.ckpt")
    return folder, module, callbacks, trainer


@pytest.mark.parametrize("epoch", range(setting.NUM_EPOCHS - 1))
def test_resumed_from_any_epoch_the_run_ends_bit_identically(whole_run, tmp_path, epoch):
    folder, module, callbacks, trainer = whole_run
    resumed, again = setting.module(), setting.callbacks()
    going_on = setting.trainer(tmp_path, [*again, saving(tmp_path)], enable_checkpointing=True)
    going_on.fit(resumed, datamodule=setting.data(), ckpt_path=folder / f"epoch={epoch}.ckpt")

    assert going_on.global_step == trainer.global_step
    assert lineage_to_list(lineage_of(resumed.network)) == lineage_to_list(
        lineage_of(module.network)
    )
    expected, found = module.state_dict(), resumed.state_dict()
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    for ours, theirs in zip(_moments(going_on), _moments(trainer), strict=True):
        assert torch.equal(ours, theirs)
    assert again[1].ranking == callbacks[1].ranking
    assert again[-1].stop_reason == callbacks[-1].stop_reason
    for row, known in zip(again[0].history, callbacks[0].history, strict=True):
        assert {**row, "seconds": 0} == {**known, "seconds": 0}


@pytest.mark.parametrize("epoch", [3, 6])
def test_mixed_precision_resumes_bit_identically(tmp_path, epoch):
    ends = []
    for checkpoint in (None, tmp_path / f"epoch={epoch}.ckpt"):
        module = setting.module()
        trainer = setting.trainer(
            tmp_path,
            [*setting.callbacks(), saving(tmp_path)],
            enable_checkpointing=True,
            precision="bf16-mixed",
        )
        trainer.fit(module, datamodule=setting.data(), ckpt_path=checkpoint)
        ends.append(module.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_the_run_went_through_every_phase(whole_run):
    _, module, callbacks, _ = whole_run
    phases = [row["phase"] for row in callbacks[0].history]
    assert phases == ["warmup"] * 2 + ["prune"] + ["recover"] * 3 + ["quantize"] * 2
    kinds = [change.kind for change in lineage_of(module.network)]
    assert kinds == ["remove_channels", "remove_channels", "prepare_quantization"]
    assert callbacks[-1].stop_reason.startswith("model budget kept")


def test_load_compressed_needs_no_trainer_and_no_pickle(whole_run):
    folder, module, _, _ = whole_run
    torch.load(folder / "end.ckpt", weights_only=True)
    loaded = load_compressed(resnet8(width=8, in_channels=1), folder / "end.ckpt")
    images = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(loaded(images), module.network.eval()(images))


def test_a_checkpoint_of_another_architecture_is_refused(whole_run, tmp_path):
    folder, *_ = whole_run
    trainer = setting.trainer(tmp_path, setting.callbacks())
    with pytest.raises(ValueError, match=r"must (have|be of the same architecture)"):
        trainer.fit(
            setting.module(width=16), datamodule=setting.data(), ckpt_path=folder / "end.ckpt"
        )


def _moments(trainer):
    (optimizer,) = trainer.optimizers
    return [
        optimizer.state[parameter]["momentum_buffer"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
