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
from lightning_cost.recipe.fit import BROKEN, KEPT, fit
from lightning_cost.report.document import write_report
from lightning_cost.report.pareto import write_pareto

BAD_INPUT = 2
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
        print(write_pareto(sweep_dir))
        print(sweep_dir)


def _fit(overrides: list[str]) -> int:
    exit_codes: list[int] = []

    def job(composed: DictConfig) -> None:
        try:
            exit_codes.append(_fit_one(composed))
        except (ValueError, OSError) as error:
            print(f"lightning-cost: {error}", file=sys.stderr)
            exit_codes.append(BAD_INPUT)

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
    config = to_run_config(composed)
    if job.mode == RunMode.MULTIRUN:
        config.run_dir = job.runtime.output_dir
    if config.resume is not None:
        composed = OmegaConf.merge(composed, OmegaConf.load(Path(config.resume) / "config.yaml"))
    data = hydra.utils.instantiate(config.data)
    network = hydra.utils.instantiate(_filled(config.model, data))
    resolved = OmegaConf.to_container(composed, resolve=True)
    return KEPT if fit(config, network, data, resolved) else BROKEN


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
