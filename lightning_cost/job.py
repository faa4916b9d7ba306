"""One run as a job of its own: what any launcher starts, in this process or in another."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning import Callback
from torch import nn

from lightning_cost.cost.documents import UnreadableError, read_yaml
from lightning_cost.hardware.catalogue import conf_dir
from lightning_cost.recipe.config import RunConfig
from lightning_cost.recipe.fit import fit
from lightning_cost.recipe.run_dir import CONFIG_NAME, TRIAL_VARIABLE, is_finished
from lightning_cost.recipe.shared_search import shared_search
from lightning_cost.refusal import REFUSALS, refusal
from lightning_cost.report.files import read_report
from lightning_cost.report.limits import keeps_its_word
from lightning_cost.sweep.job_record import JobRecord, records_dir

KEPT = 0
BAD_INPUT = 2
BROKEN = 3
INTERRUPTED = 130
_OF_PLACE = ("run_dir", "resume", "repeats", "shared_search")
"""Settings that say where a run is carried out and comes from, and not what it does."""


@dataclass(kw_only=True)
class ComposedJob:
    """The function that Hydra calls with each configuration; it can be sent to other processes.

    Args:
        program: What the process was started as.
        verb: Of the command line.
        words: What the user wrote after the verb.
        work: Does it; returns the exit code.
        exit_codes: Of what ran in this process.
    """

    program: str
    verb: str
    words: list[str]
    work: Callable[[DictConfig], int]
    exit_codes: list[int] = field(default_factory=list)

    def __call__(self, composed: DictConfig) -> int:
        """Do the work; an error is printed, and its exit code kept."""
        # Lightning starts further ranks by this process's own words
        hydras, sys.argv = sys.argv, [self.program, self.verb, *self.words]
        try:
            return self._ended(self.work(composed))
        except (*REFUSALS, ValueError, OSError, ImportError) as error:
            said = refusal(error, self.words)
            print(f"lightning-cost: {said}", file=sys.stderr)
            return self._ended(BAD_INPUT, said)
        except (SystemExit, KeyboardInterrupt):  # the first is what Lightning makes of ctrl-C
            if self.verb == "fit":
                print(f"lightning-cost: interrupted; {_way_on(composed)}", file=sys.stderr)
            self._ended(INTERRUPTED)
            raise SystemExit(INTERRUPTED) from None  # it ends a sweep as a whole
        finally:
            sys.argv = hydras

    def _ended(self, exit_code: int, error: str | None = None) -> int:
        self.exit_codes.append(exit_code)
        job = HydraConfig.get()
        if self.verb == "fit" and job.mode == RunMode.MULTIRUN:
            name = Path(job.runtime.output_dir).name
            record = JobRecord(exit_code=exit_code, error=error, pid=os.getpid())
            record.save(Path(job.sweep.dir), name)
        return exit_code


def _way_on(composed: DictConfig) -> str:
    job = HydraConfig.get()
    if job.mode != RunMode.MULTIRUN:
        return f"go on with resume={composed.resume or composed.run_dir}"
    return (
        f"the sweep goes on with the same command and hydra.sweep.dir={job.sweep.dir}, this run "
        f"alone with resume={composed.resume or composed.run_dir}"
    )


def fit_composed(composed: DictConfig) -> int:
    """Carry out a run as Hydra composed it, alone or as a job of a sweep.

    Raises:
        ValueError: If the configuration asks for what cannot be.
    """
    job = HydraConfig.get()
    composed = recalled(composed, list(job.overrides.task))
    if job.mode != RunMode.MULTIRUN:
        return _fit(composed)
    sweep_dir = Path(job.sweep.dir)
    composed.run_dir = job.runtime.output_dir
    composed.shared_search = shared_search(sweep_dir)
    if composed.resume is None and TRIAL_VARIABLE not in os.environ:
        run_dir = Path(composed.run_dir)
        if _is_of(run_dir, composed):  # the sweep was started before
            if is_finished(run_dir):
                return KEPT if keeps_its_word(read_report(run_dir)) else BROKEN
            composed.resume = composed.run_dir
    if to_run_config(composed).trainer.devices != 1:
        return _in_own_process(composed, sweep_dir)
    return _fit_in_sweep(composed)


def recalled(composed: DictConfig, overrides: list[str]) -> DictConfig:
    """``composed``, or the configuration of the run that it resumes or repeats.

    Args:
        composed: By Hydra.
        overrides: Of this command line, which change what was saved.

    Raises:
        ValueError: If there is no such run, or an override does not fit its configuration.
        OSError: If its configuration cannot be read.
    """
    if composed.resume is not None:
        return _saved("resume", composed.resume, overrides)
    if composed.repeats is None:
        return composed
    found = _saved("repeats", composed.repeats, overrides)
    found.run_dir, found.resume, found.shared_search = composed.run_dir, None, None
    return found


def _is_of(run_dir: Path, composed: DictConfig) -> bool:
    """Whether ``run_dir`` is of a run with the configuration ``composed``, wherever that lay."""
    saved = run_dir / CONFIG_NAME
    try:
        kept = read_yaml(saved) if saved.exists() else None
    except UnreadableError:
        return False
    if not isinstance(kept, dict):
        return False
    # by way of YAML, as the other one
    ours = OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(composed, resolve=True)))
    assert isinstance(ours, dict)
    return all(ours.get(key) == kept.get(key) for key in {*ours, *kept} - {*_OF_PLACE})


def fit_saved(path: Path) -> int:
    """Carry out a job of a sweep from its resolved configuration, on each of its ranks.

    Raises:
        ValueError: If the file is none of a sweep's.
        OSError: If it cannot be read.
    """
    composed = OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.load(path))
    if not isinstance(composed, DictConfig) or composed.shared_search is None:
        raise ValueError(
            f"the file must hold the configuration of a sweep's job, got {str(path)!r}"
        )
    return _fit_in_sweep(composed)


def _in_own_process(composed: DictConfig, sweep_dir: Path) -> int:
    """Leave the job to a process of its own, whose words are all that further ranks need.

    Lightning starts further ranks by the words of the process, which here are those of the whole
    sweep; and what it leaves in the environment belongs to one job alone.
    """
    path = records_dir(sweep_dir) / f"{Path(composed.run_dir).name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(OmegaConf.to_yaml(composed, resolve=True))
    command = [sys.executable, "-m", "lightning_cost.cli", "job", str(path.absolute())]
    code = subprocess.run(command, check=False).returncode
    if code < 0 or code == INTERRUPTED:
        raise SystemExit(INTERRUPTED)
    return code


def _fit_in_sweep(composed: DictConfig) -> int:
    number = os.environ.get(TRIAL_VARIABLE)
    if number is None:
        return _fit(composed)
    from lightning_cost.sweep.job import run_trial  # needs an extra that other runs do without

    sweep_dir, run_dir = Path(composed.shared_search.folder), Path(composed.run_dir)
    run_trial(sweep_dir, int(number), run_dir, lambda observers: _fit(composed, observers))
    return KEPT


def _fit(composed: DictConfig, observers: Sequence[Callback] = ()) -> int:
    config = to_run_config(composed)
    network, data = build(config)
    resolved = OmegaConf.to_yaml(composed, resolve=True)
    return KEPT if fit(config, network, data, resolved, observers=observers) else BROKEN


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


def _saved(name: str, run_dir: str, overrides: list[str]) -> DictConfig:
    """The configuration that a run was started with, changed by overrides.

    Args:
        name: Of the setting that asks for it.
        run_dir: Of that run.
        overrides: Of this command line.
    """
    saved = Path(run_dir) / CONFIG_NAME
    kind = "an interrupted run" if name == "resume" else "a run"
    if not saved.exists():
        raise ValueError(
            f"{name} must be the directory of {kind}, got {run_dir!r} without {CONFIG_NAME}; give "
            "the directory that the run printed, or start it anew where it had not begun"
        )
    parsed = OverridesParser.create().parse_overrides(overrides)
    groups = [
        str(entry.input_line) for entry in parsed if (conf_dir() / entry.key_or_group).is_dir()
    ]
    if groups:
        raise ValueError(
            f"{name} takes the configuration of {kind}, of which single settings can be changed, "
            f"got the whole of {', '.join(groups)}; leave it out, or name the setting, as in "
            "trainer.progress_bar=false"
        )
    schema = OmegaConf.structured(RunConfig)
    try:
        kept = OmegaConf.create(read_yaml(saved))
    except UnreadableError as error:
        raise ValueError(
            f"{name} must be the directory of {kind}, got {str(saved)!r} with {error}; copy the "
            "directory again, or start the run anew"
        ) from None
    try:
        started = OmegaConf.merge(schema, kept)
        merged = OmegaConf.merge(started, _changes(name, parsed))
        assert isinstance(started, DictConfig)
        assert isinstance(merged, DictConfig)
        # it is saved resolved: what was ${seed} is a number there, which would not follow
        has_one_seed = started.data.get("seed") == started.seed
        is_kept = all(entry.key_or_group != "data.seed" for entry in parsed)
        if name == "repeats" and has_one_seed and is_kept:
            merged.data.seed = merged.seed
    except OmegaConfBaseException as error:
        raise ValueError(
            f"{name} must go with overrides that fit {str(saved)!r}, got: {error}; leave them out"
        ) from error
    return merged


def _changes(name: str, overrides: list[Override]) -> DictConfig:
    """What ``overrides`` set, as a nested configuration."""
    changes = OmegaConf.create()
    for entry in overrides:
        if entry.is_delete():
            raise ValueError(
                f"{name} must go with overrides that set something, got {entry.input_line!r}; set "
                f"it to null, as in {entry.key_or_group}=null"
            )
        OmegaConf.update(changes, entry.key_or_group, entry.value(), merge=True, force_add=True)
    return changes


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
