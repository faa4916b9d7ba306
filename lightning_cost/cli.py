"""The command line: a verb, then Hydra overrides."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback as HydraCallback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from lightning_cost.hardware.catalogue import conf_dir
from lightning_cost.recipe.config import RunConfig
from lightning_cost.recipe.fit import fit
from lightning_cost.recipe.run_dir import CONFIG_NAME
from lightning_cost.report.html import write_report
from lightning_cost.report.pareto import sweep_table, write_pareto
from lightning_cost.report.sweep import collect

KEPT = 0
BAD_INPUT = 2
BROKEN = 3
INTERRUPTED = 130
USAGE = """usage: lightning-cost fit [-m] [OVERRIDE ...]      train, compress, deploy, report
       lightning-cost report RUN_DIR | SWEEP_DIR   write the report anew

Overrides are Hydra's: hardware=local budget.latency_ms=2 model=resnet20 data=fashion_mnist.
With -m, values separated by commas are swept: budget.macs=70%,50%,25%.
`lightning-cost fit --help` lists groups and settings."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after the command's name; ``None`` takes the process's own.

    Returns:
        The exit code: 0 when every limit is kept, 3 when one is broken, 2 on bad input.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    verbs: dict[str, Callable[[list[str]], int]] = {"fit": _fit, "report": _report}
    if not words or words[0] not in verbs:
        print(USAGE, file=sys.stderr)
        return 0 if words in (["-h"], ["--help"]) else BAD_INPUT
    return verbs[words[0]](words[1:])


def register_schemas() -> None:
    """Make the configuration's dataclasses known to Hydra."""
    ConfigStore.instance().store(name="run_schema", node=RunConfig)


def to_run_config(composed: DictConfig) -> RunConfig:
    """A composed configuration as the object that the library works with.

    Raises:
        ValueError: If a value is refused by one of the settings.
    """
    config = OmegaConf.to_object(composed)
    assert isinstance(config, RunConfig)
    return config


class ParetoReport(HydraCallback):
    """After a sweep: one table and one page over all its runs."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write them into the sweep's directory."""
        sweep_dir = Path(config.hydra.sweep.dir)
        write_pareto(sweep_dir)
        print(sweep_table(collect(sweep_dir)))
        print(sweep_dir)


def _fit(overrides: list[str]) -> int:
    exit_codes: list[int] = []

    def job(composed: DictConfig) -> None:
        try:
            exit_codes.append(_fit_one(composed))
        except (ValueError, OSError) as error:
            print(f"lightning-cost: {error}", file=sys.stderr)
            exit_codes.append(BAD_INPUT)
        except SystemExit:  # what Lightning makes of ctrl-C
            print("lightning-cost: interrupted; go on with resume=RUN_DIR", file=sys.stderr)
            exit_codes.append(INTERRUPTED)

    register_schemas()
    application = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="fit")
    argv, sys.argv = sys.argv, ["lightning-cost fit", *overrides]
    try:
        application(job)()
    except SystemExit as stop:
        if stop.code not in (None, 0):
            return BAD_INPUT
    finally:
        sys.argv = argv
    return max(exit_codes, default=KEPT)


def _fit_one(composed: DictConfig) -> int:
    job = HydraConfig.get()
    if composed.resume is not None:
        composed = _resumed(composed.resume, list(job.overrides.task))
    if job.mode == RunMode.MULTIRUN:
        composed.run_dir = job.runtime.output_dir
    config = to_run_config(composed)
    data = hydra.utils.instantiate(config.data)
    network = hydra.utils.instantiate(_filled(config.model, data))
    resolved = OmegaConf.to_yaml(composed, resolve=True)
    return KEPT if fit(config, network, data, resolved) else BROKEN


def _resumed(run_dir: str, overrides: list[str]) -> DictConfig:
    """The configuration that a run was started with, changed by the overrides of its resumption."""
    saved = Path(run_dir) / CONFIG_NAME
    if not saved.exists():
        raise ValueError(
            f"resume must be the directory of an interrupted run, got {run_dir!r} without "
            f"{CONFIG_NAME}; give the directory that the run printed"
        )
    schema = OmegaConf.structured(RunConfig)
    merged = OmegaConf.merge(schema, OmegaConf.load(saved), OmegaConf.from_dotlist(overrides))
    assert isinstance(merged, DictConfig)
    return merged


def _filled(model: dict[str, Any], data: Any) -> dict[str, Any]:
    """``model`` with the sizes that only the data knows, where they are left open."""
    known = {"in_channels": data.in_channels, "num_classes": data.num_classes}
    return {
        name: known[name] if value is None and name in known else value
        for name, value in model.items()
    }


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
