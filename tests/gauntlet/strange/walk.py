"""One network through all that the library does: measured, pruned, quantised, exported, resumed."""

import copy
import json
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_cost import export, load_compressed, load_packed, measure, save_packed
from lightning_cost.cost.forward import map_tensors, run_forward, with_batch_size
from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.resource import Resource
from lightning_cost.cost.size import count_params, size_bytes
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.faithful import faithful_copy
from lightning_cost.network.lineage import (
    CHECKPOINT_KEY,
    apply_change,
    lineage_of,
    lineage_to_list,
)
from lightning_cost.network.optimizer import swap_parameters
from lightning_cost.network.original import original_of
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.saliency import group_saliency
from lightning_cost.pruning.structure.plan import masked
from lightning_cost.pruning.structure.surgery import operated, removal
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.pruning.target.problem import PruningProblem
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.quantization.prepare import is_prepared
from lightning_cost.runtime.contract import open_file
from tests.gauntlet.strange import fits
from tests.gauntlet.strange.case import Case
from tests.gauntlet.strange.integer_weights import require_integer_weights
from tests.gauntlet.strange.laws import (
    noise_share,
    outputs_of,
    require,
    require_close,
    require_equal,
    require_untouched,
    state_of,
)
from tests.gauntlet.strange.outcome import BrokenLawError, Outcome
from tests.gauntlet.strange.refusals import REFUSED
from tests.reference.random_networks import randomised

KEPT_MACS = 0.7


class Walk:
    """The walk of one network.

    Args:
        name: In the corpus.
        case: The network.
        folder: For what it writes.
    """

    def __init__(self, name: str, case: Case, folder: Path) -> None:
        self.outcome = Outcome(name=name)
        self._case = case
        self._folder = folder
        self._example = case.example()
        self._network = original_of(self._fresh())

    def run(self, *, with_fit: bool) -> Outcome:
        """All stages, as far as none is refused that others need."""
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._stage("measure", self._measure)
            if "measure" not in self.outcome.refused:
                self._stage("prune", self._prune)
                self._stage("quantise", self._quantise)
                self._stage("export", self._export)
                self._stage("resume", self._resume)
                if with_fit and self._case.in_fit and self.outcome.word != "silent":
                    self._stage("fit", self._fit)
        refused = REFUSED.get(self.outcome.name, {})
        for stage, pattern in refused.items():
            if stage == "fit" and not with_fit:
                continue
            said = self.outcome.refused.get(stage)
            if said is None:
                self.outcome.unexpected[stage] = "was not refused"
            elif not re.search(pattern, said, re.DOTALL):
                self.outcome.unexpected[stage] = said
        for stage, said in self.outcome.refused.items():
            if stage not in refused:
                self.outcome.unexpected[stage] = said
        self.outcome.seconds = time.process_time() - start
        return self.outcome

    def _stage(self, name: str, step: Callable[[], None]) -> None:
        try:
            step()
        except BrokenLawError as error:
            self.outcome.broken[name] = str(error)
        except (ValueError, TypeError) as error:
            said = str(error)
            is_explained = ", got " in said and ";" in said
            kept = self.outcome.refused if is_explained else self.outcome.failed
            kept[name] = said if is_explained else f"{type(error).__name__}: {said[:200]}"
        except Exception as error:  # any: that is what is looked for
            self.outcome.failed[name] = f"{type(error).__name__}: {str(error)[:200]}"

    def _fresh(self) -> nn.Module:
        torch.manual_seed(0)
        return self._case.build()

    def _other(self) -> Any:
        """A batch that nothing was found out from."""

        def moved(tensor: Tensor) -> Tensor:
            if tensor.is_floating_point():
                return tensor.flip(0) * 0.7 + 0.2
            return tensor.flip(0)

        return map_tensors(moved, self._example)

    def _measure(self) -> None:
        network, example = self._network, self._example
        self._dense = outputs_of(network, example)
        before = state_of(network)
        cost = measure(network, example)
        require_untouched(before, network, "measure")
        require(cost == measure(self._fresh(), example), "measured twice is the same")
        deployed = deployed_copy(network, example)
        require_untouched(before, network, "deployed_copy")
        counted = count_macs(deployed, example).total
        require(cost[Resource.macs].value == counted, "measured MACs are those counted")
        require(cost[Resource.flops].value == 2 * counted, "FLOPs are twice the MACs")
        require(cost[Resource.params].value == count_params(deployed), "measured parameters")
        share = _tolerance(network)
        require_close(self._dense, outputs_of(deployed, example), share, "deployed is trained")
        other = self._other()
        require_close(
            outputs_of(network, other), outputs_of(deployed, other), share, "deployed is trained"
        )

    def _prune(self) -> None:
        network, example = self._network, self._example
        before = state_of(network)
        # groups are found and widths priced with one sample, as in a fit
        example = with_batch_size(self._example, 1)
        dense = measure(network, example)
        problem = PruningProblem.of(
            network,
            example,
            rules=ChannelRules(multiple=1),
            limits={Resource.macs: KEPT_MACS * dense[Resource.macs].value},
            preview=lambda pruned: pruned,
            hardware=None,
            dense_cost=dense,
        )
        problem.require_reachable()
        grouping = problem.grouping
        saliency = group_saliency(network, grouping)
        require_untouched(before, network, "finding channel groups")
        path = GlobalRanking.transformed(saliency).path()
        place = path.first_within(problem.pricer, problem.limits)
        require(place is not None, "a reachable budget is reached")
        plan = path.plan_at(place or 0)
        change = removal(grouping, plan)
        for tried in (network, randomised(copy.deepcopy(network))):
            pruned, silenced = operated(tried, change), masked(tried, grouping, plan)
            for batch in (self._example, self._other()):
                expected, found = outputs_of(silenced, batch), outputs_of(pruned, batch)
                require_close(expected, found, 10 * _tolerance(network), "masked is operated")
        require_untouched(before, network, "operated and masked")
        predicted = problem.pricer.price_plan(plan)
        deployed = deployed_copy(operated(network, change), example)
        for resource, value in {
            Resource.macs: count_macs(deployed, example).total,
            Resource.params: count_params(deployed),
            Resource.size_bytes: size_bytes(deployed),
        }.items():
            told = f"predicted {predicted[resource]:g} {resource}, counted {value:g}"
            require(predicted[resource] == value, told)
        require(predicted[Resource.macs] <= problem.limits[Resource.macs], "the budget is kept")
        self._cut(change)

    def _cut(self, change: Any) -> None:
        """Apply ``change`` in the middle of training."""
        network, example = self._network, self._example
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        if not trained:
            apply_change(network, change)
            return
        modes = [module.training for module in network.modules()]
        # an epsilon that half precision can hold
        optimizer = torch.optim.AdamW(trained, lr=1e-3, eps=1e-4)
        _step(network, example, optimizer)
        state = {id(p): dict(optimizer.state.get(p, {})) for p in trained}
        swaps = apply_change(network, change)
        swap_parameters(optimizer, swaps)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        ours = {id(p) for p in network.parameters() if p.requires_grad}
        require(ours == held, "every trainable parameter is in the optimizer, and nothing else")
        for swap in swaps:
            if swap.old is None or swap.new is None:
                continue
            for key, old in state.get(id(swap.old), {}).items():
                for dim, index in swap.kept.items():
                    if old.dim() == swap.old.dim() and old.shape[dim] == swap.old.shape[dim]:
                        old = old.index_select(dim, index)
                new = optimizer.state[swap.new][key]
                require(torch.equal(old, new), "the optimizer's state is the old one's selection")
        before = {name: p.detach().clone() for name, p in network.named_parameters()}
        _step(network, example, optimizer)
        for name, parameter in network.named_parameters():
            if parameter.requires_grad and parameter.grad is not None:
                moves = bool((parameter.grad != 0).any())
                is_coarse = torch.finfo(parameter.dtype).eps > 1e-4
                is_still = torch.equal(parameter, before[name])
                require(not (moves and is_still) or is_coarse, f"{name} moves on")
        network.zero_grad(set_to_none=True)
        for module, mode in zip(network.modules(), modes, strict=True):
            module.training = mode

    def _quantise(self) -> None:
        network, example = self._network, self._example
        before = state_of(network)
        change = plan_quantization(network, example, "int8")
        require_untouched(before, network, "planning quantisation")
        expected = outputs_of(network, example)
        tried = copy.deepcopy(network)
        apply_change(tried, change)
        calibrate(tried, [example])
        prepared = outputs_of(tried, example)
        for one, other in zip(expected, prepared, strict=True):
            if one.is_floating_point() and one.abs().max() > 1e-6:
                share = noise_share(one, other)
                told = f"quantised is near the float network: noise of {share:.2f}"
                require(share <= self._case.noise, told)
        self._network = tried
        parameters = [p for p in tried.parameters() if p.requires_grad]
        if parameters:
            optimizer = torch.optim.SGD(parameters, lr=1e-4)
            for _ in range(2):
                _step(tried, example, optimizer)
            tried.zero_grad(set_to_none=True)
        tried.eval()
        before = state_of(tried)
        converted = faithful_copy(tried, example)
        require_untouched(before, tried, "converting")
        for batch in (example, self._other()):
            found, expected = outputs_of(converted, batch), outputs_of(tried, batch)
            require_close(expected, found, 1e-2, "converted is prepared")

    def _export(self) -> None:
        path = self._folder / "network.onnx"
        network, example = self._network, self._example
        before = state_of(network)
        export(network, path, example)
        require_untouched(before, network, "export")
        require_integer_weights(network, example, path)
        deployed = deployed_copy(network, example)
        # integers are rounded the other way here and there
        share = 0.06 if is_prepared(network) else 1e-3
        for batch in () if self._case.is_random else (example, self._other()):
            expected = outputs_of(deployed, batch)
            with open_file(path, runtime="onnxruntime", num_threads=1) as session:
                found = [torch.as_tensor(array) for array in session.run(batch)]
            require_close(expected, found, share, "a runtime gives what PyTorch does")

    def _resume(self) -> None:
        network, example = self._network, self._example
        path = self._folder / "network.ckpt"
        changes = json.loads(json.dumps(lineage_to_list(lineage_of(network))))
        torch.save(
            {
                CHECKPOINT_KEY: {"network": "network", "changes": changes},
                "state_dict": {f"network.{key}": v for key, v in network.state_dict().items()},
            },
            path,
        )
        loaded = load_compressed(self._fresh(), path)
        expected = outputs_of(network, example)
        require_equal(expected, outputs_of(loaded, example), "reloaded is saved")
        require(count_params(loaded) == count_params(network), "reloaded has the parameters")
        if is_prepared(network):
            packed = save_packed(network, self._folder / "network.packed")
            deployed = outputs_of(deployed_copy(network, example), example)
            unpacked = load_packed(self._fresh(), packed)
            require_equal(deployed, outputs_of(unpacked, example), "unpacked is packed")

    def _fit(self) -> None:
        has_cut = "prune" not in self.outcome.refused
        is_quantised = "quantise" not in self.outcome.refused
        if not (has_cut or is_quantised):
            return
        fits.require_resumable(
            self._fresh, self._example, self._folder, prunes=has_cut, quantises=is_quantised
        )


def _step(network: nn.Module, example: Any, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    torch.manual_seed(5)
    fits.loss_of(run_forward(network.train(), example)).backward()
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()


def _tolerance(network: nn.Module) -> float:
    """How exact a sum in another order is, in the types of ``network``."""
    kinds = {p.dtype for p in network.parameters() if p.is_floating_point()}
    return max((30 * torch.finfo(kind).eps for kind in kinds), default=1e-5)
