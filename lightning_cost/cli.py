"""The command line: a verb, then Hydra overrides."""

import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback as HydraCallback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning import Callback
from torch import nn

from lightning_cost.budget.model import ModelBudget
from lightning_cost.hardware.catalogue import conf_dir
from lightning_cost.recipe.config import RunConfig
from lightning_cost.recipe.fit import fit
from lightning_cost.recipe.plan import (
    NO_DATA,
    PlanConfig,
    plan_run,
    plan_transformer,
)
from lightning_cost.recipe.plan_table import plan_line, plan_text, sweep_text
from lightning_cost.recipe.profile import ProfileConfig, import_results, profile_run
from lightning_cost.recipe.run_dir import CONFIG_NAME, TRIAL_VARIABLE
from lightning_cost.recipe.run_plan import RunPlan
from lightning_cost.recipe.shared_search import announce, shared_search
from lightning_cost.report.html import write_report
from lightning_cost.report.pareto import sweep_table, write_pareto
from lightning_cost.report.sweep import collect

BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
KEPT = 0
BAD_INPUT = 2
BROKEN = 3
INTERRUPTED = 130
USAGE = """usage: lightning-cost fit [-m] [OVERRIDE ...]      train, compress, deploy, report
       lightning-cost plan [-m] [OVERRIDE ...]     what that would cost, before it starts
       lightning-cost profile [OVERRIDE ...]       measure a latency table on this device
       lightning-cost report RUN_DIR | SWEEP_DIR   write the report anew

Overrides are Hydra's: hardware=local budget.latency_ms=2 model=resnet20 data=fashion_mnist.
With -m, values separated by commas are swept: budget.macs=70%,50%,25%.
For a network or data of your own, write model/NAME.yaml or data/NAME.yaml with its _target_ into a
folder: --config-dir FOLDER model=NAME data=NAME.
A plan takes the same overrides, and where it would be trained: train_on=nvidia_a100 num_devices=8
utilisation=0.3. It ends with one line of JSON. For a transformer: transformer.num_layers=96
transformer.width=12288 transformer.tokens=300e9 hardware=nvidia_a100 num_devices=1024.
A profile: runtime=openvino table=FILE measuring.time_limit_s=300; compress=prune for float32.
For another device: bundle=FOLDER, run it there, results=FOLDER.
`lightning-cost fit --help` lists groups and settings."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after the command's name; ``None`` takes the process's own.

    Returns:
        The exit code: 0 when every limit is kept, 3 when one is broken, 2 on bad input.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    verbs: dict[str, Callable[[list[str]], int]] = {
        "fit": _fit,
        "plan": _plan,
        "profile": _profile,
        "report": _report,
    }
    if not words or words[0] not in verbs:
        print(USAGE, file=sys.stderr)
        return 0 if words in (["-h"], ["--help"]) else BAD_INPUT
    return verbs[words[0]](words[1:])


def register_schemas() -> None:
    """Make the configuration's dataclasses known to Hydra."""
    ConfigStore.instance().store(name="run_schema", node=RunConfig)
    ConfigStore.instance().store(name="plan_schema", node=PlanConfig)
    ConfigStore.instance().store(name="profile_schema", node=ProfileConfig)


def to_run_config(composed: DictConfig) -> RunConfig:
    """A composed configuration as the object that the library works with.

    Raises:
        ValueError: If a value is refused by one of the settings.
    """
    config = OmegaConf.to_object(composed)
    assert isinstance(config, RunConfig)
    return config


def build(config: RunConfig) -> tuple[nn.Module, Any]:
    """The network, freshly made from the run's seed, and the LightningDataModule of ``config``.

    Raises:
        ValueError: If the network leaves a size open that the data does not know.
        HydraException: If a ``_target_`` cannot be found or called.
    """
    data = build_data(config)
    return build_network(config, data), data


def build_data(config: RunConfig) -> Any:
    """The LightningDataModule of ``config``.

    Raises:
        HydraException: If its ``_target_`` cannot be found or called.
    """
    return hydra.utils.instantiate(config.data)


def build_network(config: RunConfig, data: Any) -> nn.Module:
    """The network of ``config`` for ``data``, freshly made from the run's seed.

    Raises:
        ValueError: If it leaves a size open that the data does not know.
        HydraException: If its ``_target_`` cannot be found or called.
    """
    model = _filled(config.model, data)
    torch.manual_seed(config.seed)
    network: nn.Module = hydra.utils.instantiate(model)
    return network


class ParetoReport(HydraCallback):
    """Before a sweep: the tightest budget of its runs. After it: a table and a page over all."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write down which budget the runs search for, as one search serves them all."""
        if config.hydra.sweeper._target_ != BASIC_SWEEPER:
            return  # which budgets there will be is not known
        budgets: list[ModelBudget] = []
        try:
            for words in _single_runs(list(config.hydra.overrides.task)):
                composed = hydra.compose(config.hydra.job.config_name, words)
                budget = OmegaConf.to_object(composed.budget)
                assert isinstance(budget, ModelBudget)
                budgets.append(budget)
        except (ValueError, TypeError, HydraException, OmegaConfBaseException):
            return  # the run that it belongs to will say so
        announce(Path(config.hydra.sweep.dir), budgets)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write them into the sweep's directory."""
        sweep_dir = Path(config.hydra.sweep.dir)
        try:
            write_pareto(sweep_dir)
        except ValueError as error:  # no run came to an end: each has said why
            print(f"lightning-cost: {error}", file=sys.stderr)
            return
        print(sweep_table(collect(sweep_dir)))
        print(sweep_dir)


def _fit(overrides: list[str]) -> int:
    return _for_each_configuration("fit", overrides, overrides, _fit_one)


def _plan(overrides: list[str]) -> int:
    settings: list[str] = []
    plans: list[RunPlan] = []

    def one(composed: DictConfig) -> int:
        config = to_run_config(composed)
        assert isinstance(config, PlanConfig)
        is_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        plan = plan_transformer(config) if config.transformer.is_given else _plan_one(config)
        plans.append(plan)
        if is_sweep:
            settings.append(" ".join(HydraConfig.get().overrides.task))
        else:
            print(plan_text(plan))
        return KEPT

    # a plan leaves nothing behind, but Hydra's sweeper wants a directory
    with tempfile.TemporaryDirectory() as folder:
        words = [*overrides, f"hydra.sweep.dir={folder}"]
        exit_code = _for_each_configuration("plan", overrides, words, one)
    if settings:
        print(sweep_text(settings, plans))
    if plans:
        print(plan_line(settings, plans))
    return exit_code


def _plan_one(config: PlanConfig) -> RunPlan:
    try:
        network, data = build(config)
    except (OSError, ImportError) as error:
        raise ValueError(f"data must be on this machine, got: {error}; or {NO_DATA}") from error
    return plan_run(config, network, data)


def _profile(overrides: list[str]) -> int:
    def one(composed: DictConfig) -> int:
        config = to_run_config(composed)
        assert isinstance(config, ProfileConfig)
        if config.results is not None:
            print(import_results(config))
            return KEPT
        try:
            print(profile_run(config, *build(config)))
        except KeyboardInterrupt:
            print("lightning-cost: interrupted; the same command goes on", file=sys.stderr)
            return INTERRUPTED
        return KEPT

    return _for_each_configuration("profile", overrides, overrides, one)


def _for_each_configuration(
    verb: str, words: list[str], overrides: list[str], one: Callable[[DictConfig], int]
) -> int:
    """Compose ``conf/VERB.yaml``, once or for a sweep, and give each configuration to ``one``.

    Args:
        verb: Names the primary configuration.
        words: What the user wrote after the verb.
        overrides: What Hydra is given.
        one: Does the work; returns its exit code.

    Returns:
        The highest exit code.
    """
    exit_codes: list[int] = []

    def job(composed: DictConfig) -> None:
        # Lightning starts further ranks by this process's own words
        hydras, sys.argv = sys.argv, [argv[0], verb, *words]
        try:
            exit_codes.append(one(composed))
        except (ValueError, OSError, ImportError, HydraException) as error:
            print(f"lightning-cost: {error}", file=sys.stderr)
            exit_codes.append(BAD_INPUT)
        except SystemExit:  # what Lightning makes of ctrl-C; it ends a sweep as a whole
            run_dir = composed.resume or composed.run_dir
            print(f"lightning-cost: interrupted; go on with resume={run_dir}", file=sys.stderr)
            exit_codes.append(INTERRUPTED)
            raise
        finally:
            sys.argv = hydras

    argv = sys.argv
    register_schemas()
    application = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=verb)
    sys.argv = [f"lightning-cost {verb}", *overrides]
    try:
        application(job)()
    except SystemExit as stop:
        if stop.code not in (None, 0):
            return INTERRUPTED if INTERRUPTED in exit_codes else BAD_INPUT
    except KeyboardInterrupt:
        print("lightning-cost: interrupted; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    finally:
        sys.argv = argv
    return max(exit_codes, default=KEPT)


def _fit_one(composed: DictConfig) -> int:
    job = HydraConfig.get()
    number = os.environ.get(TRIAL_VARIABLE)
    if number is None or job.mode != RunMode.MULTIRUN:
        return _fit_with(composed)
    from lightning_cost.sweep.job import run_trial  # needs an extra that other runs do without

    run_dir = Path(job.runtime.output_dir)
    run_trial(Path(job.sweep.dir), int(number), run_dir, lambda found: _fit_with(composed, found))
    return KEPT


def _fit_with(composed: DictConfig, observers: Sequence[Callback] = ()) -> int:
    job = HydraConfig.get()
    if composed.resume is not None:
        composed = _resumed(composed.resume, list(job.overrides.task))
    if job.mode == RunMode.MULTIRUN:
        composed.run_dir = job.runtime.output_dir
        composed.shared_search = shared_search(Path(job.sweep.dir))
    config = to_run_config(composed)
    if job.mode == RunMode.MULTIRUN and config.trainer.devices != 1:
        raise ValueError(
            f"trainer.devices must be 1 in a sweep, got {config.trainer.devices}, as each further "
            "rank would sweep anew; start one run for each setting"
        )
    network, data = build(config)
    resolved = OmegaConf.to_yaml(composed, resolve=True)
    return KEPT if fit(config, network, data, resolved, observers=observers) else BROKEN


def _single_runs(overrides: list[str]) -> list[list[str]]:
    """The overrides of each run of a sweep."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    choices = [
        [f"{entry.get_key_element()}={value}" for value in entry.sweep_string_iterator()]
        if entry.is_sweep_override()
        else [str(entry.input_line)]
        for entry in parsed
    ]
    return [list(words) for words in itertools.product(*choices)]


def _resumed(run_dir: str, overrides: list[str]) -> DictConfig:
    """The configuration that a run was started with, changed by the overrides of its resumption."""
    saved = Path(run_dir) / CONFIG_NAME
    if not saved.exists():
        raise ValueError(
            f"resume must be the directory of an interrupted run, got {run_dir!r} without "
            f"{CONFIG_NAME}; give the directory that the run printed"
        )
    groups = [word for word in overrides if "." not in word.partition("=")[0]]
    groups = [word for word in groups if (conf_dir() / word.partition("=")[0]).is_dir()]
    if groups:
        raise ValueError(
            "resume goes on with the configuration of the interrupted run, of which single "
            f"settings can be changed, got the whole of {', '.join(groups)}; leave it out, or "
            "name the setting, as in trainer.progress_bar=false"
        )
    schema = OmegaConf.structured(RunConfig)
    try:
        merged = OmegaConf.merge(schema, OmegaConf.load(saved), OmegaConf.from_dotlist(overrides))
    except OmegaConfBaseException as error:
        raise ValueError(
            f"resume must go with overrides that fit {str(saved)!r}, got: {error}; leave them out"
        ) from error
    assert isinstance(merged, DictConfig)
    return merged


def _filled(model: dict[str, Any], data: Any) -> dict[str, Any]:
    """``model`` with the sizes that only the data knows, where they are left open."""
    filled = dict(model)
    for name in ("in_channels", "num_classes"):
        if name not in model or model[name] is not None:
            continue
        filled[name] = getattr(data, name, None)
        if filled[name] is None:
            raise ValueError(
                f"model.{name} must be given where the data does not know it, got "
                f"{type(data).__name__} without an attribute {name!r}; set model.{name}="
            )
    return filled


def _report(words: list[str]) -> int:
    if len(words) != 1:
        print(USAGE, file=sys.stderr)
        return BAD_INPUT
    directory = Path(words[0])
    try:
        if (directory / "report.json").exists():
            print(write_report(directory))
        else:
            print(write_pareto(directory))
    except (ValueError, OSError) as error:
        print(f"lightning-cost: {error}", file=sys.stderr)
        return BAD_INPUT
    return KEPT
