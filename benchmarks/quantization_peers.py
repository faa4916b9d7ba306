"""int8 by torchao (PT2E) and NNCF, each by its own recipe for x86, to a file that OpenVINO runs."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nncf
import openvino
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchao.quantization.pt2e import allow_exported_model_train_eval, disable_observer
from torchao.quantization.pt2e.quantize_pt2e import (
    convert_pt2e,
    prepare_pt2e,
    prepare_qat_pt2e,
)
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer
from typing_extensions import override

from lightning_cost.runtime.onnx_file import write_onnx

FREEZE_AFTER = 0.9
"""Share of the steps after which ranges and batch norms stand still, ours too."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """How another tool quantises.

    Args:
        prepare: A copy of the network, trained or to be trained further with fake quantisers, from
            the network, batches of images to calibrate with, and whether it will be trained.
        write: Writes the file from a prepared network, an image and a path without suffix; returns
            the files it consists of, the one to open first, and the network that was written.
        callbacks: What the training with fake quantisers needs.
    """

    prepare: Callable[[nn.Module, Sequence[Tensor], bool], nn.Module]
    write: Callable[[nn.Module, Tensor, Path], tuple[list[Path], nn.Module]]
    callbacks: Sequence[pl.Callback] = ()


class Freeze(pl.Callback):
    """Keeps ranges and batch norms of a graph of torchao as they are towards the end."""

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == int(FREEZE_AFTER * trainer.estimated_stepping_batches):
            network: Any = pl_module.network
            network.apply(disable_observer)
            network.eval()  # of an exported network: its batch norms and dropouts


def prepared_by_torchao(network: nn.Module, batches: Sequence[Tensor], is_trained: bool) -> Any:
    """A prepared graph; calibrated unless it will be trained, which sets the ranges."""
    config = x86_inductor_quantizer.get_default_x86_inductor_quantization_config(is_qat=is_trained)
    quantizer = x86_inductor_quantizer.X86InductorQuantizer().set_global(config)
    program = torch.export.export(
        copy.deepcopy(network).train(is_trained),
        (batches[0][:2],),
        dynamic_shapes=({0: torch.export.Dim("batch", max=4096)},),
    )
    prepare = prepare_qat_pt2e if is_trained else prepare_pt2e
    graph = allow_exported_model_train_eval(prepare(program.module(), quantizer))
    if not is_trained:
        with torch.no_grad():
            for images in batches:
                graph(images)
    return graph


def written_by_torchao(graph: Any, example: Tensor, path: Path) -> tuple[list[Path], nn.Module]:
    graph.eval()
    converted = allow_exported_model_train_eval(convert_pt2e(graph.to(torch.float32)))
    for tensor in (*converted.parameters(), *converted.buffers()):
        tensor.data = tensor.data.contiguous(memory_format=torch.contiguous_format)
    return [write_onnx(converted, example, path.with_suffix(".onnx"))], converted


def prepared_by_nncf(network: nn.Module, batches: Sequence[Tensor], is_trained: bool) -> Any:
    """Quantised after training, which for NNCF also begins the training with quantisers."""
    return nncf.quantize(
        copy.deepcopy(network).eval(), nncf.Dataset(batches), subset_size=len(batches)
    )


def written_by_nncf(network: Any, example: Tensor, path: Path) -> tuple[list[Path], nn.Module]:
    network = network.to(memory_format=torch.contiguous_format).eval()
    with torch.no_grad():
        model = openvino.convert_model(
            network, example_input=example, input=[-1, *example.shape[1:]]
        )
    file = path.with_suffix(".xml")
    openvino.save_model(model, file, compress_to_fp16=False)
    return [file, path.with_suffix(".bin")], network


PEERS = {
    "torchao": Peer(prepare=prepared_by_torchao, write=written_by_torchao, callbacks=[Freeze()]),
    "nncf": Peer(prepare=prepared_by_nncf, write=written_by_nncf),
}
