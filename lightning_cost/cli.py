"""The command line: a verb, then Hydra overrides."""

import itertools
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from hydra.experimental.callback import Callback as HydraCallback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lightning_cost.budget.model import ModelBudget
from lightning_cost.hardware.catalogue import conf_dir
from lightning_cost.job import (
    BAD_INPUT,
    INTERRUPTED,
    KEPT,
    ComposedJob,
    build,
    fit_composed,
    fit_saved,
    recalled,
    to_run_config,
)
from lightning_cost.recipe.config import RunConfig
from lightning_cost.recipe.plan import (
    NO_DATA,
    PlanConfig,
    plan_run,
    plan_transformer,
)
from lightning_cost.recipe.plan_table import plan_line, plan_text, sweep_text
from lightning_cost.recipe.profile import ProfileConfig, import_results, profile_run
from lightning_cost.recipe.run_dir import CONFIG_NAME
from lightning_cost.recipe.run_plan import RunPlan
from lightning_cost.recipe.shared_search import announce
from lightning_cost.refusal import FULL_ERROR, REFUSALS, raising, refusal, unnamed_group
from lightning_cost.report.files import REPORT_NAME
from lightning_cost.report.html import write_report
from lightning_cost.report.sweep.page import sweep_table, write_sweep
from lightning_cost.report.sweep.rows import collect
from lightning_cost.sweep.job_record import record_times, records_since
from lightning_cost.sweep.launchers import chosen_launcher, launcher_overrides, require_launcher
from lightning_cost.sweep.reported_study import reported_study
from lightning_cost.sweep.total import spend_of, total_of

BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
USAGE = """usage: lightning-cost fit [-m] [OVERRIDE ...]      train, compress, deploy, report
       lightning-cost plan [-m] [OVERRIDE ...]     what that would cost, before it starts
       lightning-cost profile [OVERRIDE ...]       measure a latency table on this device
       lightning-cost report RUN_DIR | SWEEP_DIR   write the report anew

Overrides are Hydra's: hardware=local budget.latency_ms=2 model=resnet20 data=fashion_mnist.
With -m, values separated by commas are swept: budget.macs=70%,50%,25%.
For a network or data of your own, write model/NAME.yaml or data/NAME.yaml with its _target_ into a
folder: --config-dir FOLDER model=NAME data=NAME.
A run again, from the configuration that it kept: --config-path RUN_DIR.
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
        "job": _job,
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


class SweepReport(HydraCallback):
    """Before a sweep: the tightest budget of its runs. After it: a table and a page over all."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write down which budget the runs search for, as one search serves them all."""
        self._before = record_times(Path(config.hydra.sweep.dir))
        if config.hydra.sweeper._target_ != BASIC_SWEEPER:
            return  # which budgets there will be is not known
        budgets: list[ModelBudget] = []
        try:
            for words in _single_runs(list(config.hydra.overrides.task)):
                composed = recalled(hydra.compose(config.hydra.job.config_name, words), words)
                budget = OmegaConf.to_object(composed.budget)
                assert isinstance(budget, ModelBudget)
                budgets.append(budget)
        except (ValueError, TypeError, OSError, HydraException, OmegaConfBaseException):
            return  # the run that it belongs to will say so
        announce(Path(config.hydra.sweep.dir), budgets)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write them into the sweep's directory."""
        sweep_dir = Path(config.hydra.sweep.dir)
        ended = records_since(sweep_dir, self._before)
        for name, record in ended.items():
            if record.error is not None and record.pid != os.getpid():
                print(f"lightning-cost: job {name}: {record.error}", file=sys.stderr)
        found = collect(sweep_dir)
        try:
            study = reported_study(sweep_dir)
            path = write_sweep(found, study)
        except ValueError as error:  # no run came to an end: each has said why
            print(f"lightning-cost: {error}", file=sys.stderr)
        else:
            if found.rows:
                print(sweep_table(found, study))
                runs = {row.run: spend_of(row.spend) for row in found.rows}
                print(total_of(runs, found.searches))
            print(f"report: {path}")
            print(sweep_dir)
        sys.exit(max((record.exit_code for record in ended.values()), default=KEPT))


def _fit(overrides: list[str]) -> int:
    try:
        require_launcher(chosen_launcher(overrides))
    except ImportError as error:
        print(f"lightning-cost: {error}", file=sys.stderr)
        return BAD_INPUT
    words = [*_repeating(overrides), *launcher_overrides(overrides)]
    return _for_each_configuration("fit", overrides, words, fit_composed)


def _repeating(words: list[str]) -> list[str]:
    """``words`` where Hydra's ``--config-path`` is a run directory: the run is made again.

    Any other folder is left to Hydra.
    """
    left = list(words)
    for place, word in enumerate(words):
        flag, _, folder = word.partition("=")
        if flag not in ("--config-path", "-cp"):
            continue
        num_words = 1 if folder else 2
        folder = folder or "".join(words[place + 1 : place + 2])
        if (Path(folder) / CONFIG_NAME).is_file():
            quoted = QuotedString(folder, Quote.single).with_quotes()
            left[place : place + num_words] = [f"repeats={quoted}"]
    return left


def _job(words: list[str]) -> int:
    """The job of a sweep that trains on several devices, as the sweep itself starts it."""
    try:
        return fit_saved(Path(words[0]))
    except (ValueError, OSError, ImportError, HydraException) as error:
        print(f"lightning-cost: {error}", file=sys.stderr)
        return BAD_INPUT
    except SystemExit:
        return INTERRUPTED


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
    mistake = unnamed_group(words)
    if mistake is not None:
        print(f"lightning-cost: {mistake}", file=sys.stderr)
        return BAD_INPUT
    argv = sys.argv
    job = ComposedJob(program=argv[0], verb=verb, words=words, work=one)
    register_schemas()
    application = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=verb)
    sys.argv = [f"lightning-cost {verb}", *overrides]
    try:
        with raising(), warnings.catch_warnings():
            # it is what keeps our settings of a launcher within those that the launcher knows
            warnings.filterwarnings("ignore", r"\s*'hydra/launcher/.*validated against ConfigStore")
            application(job)()
    except REFUSALS as error:
        if FULL_ERROR in os.environ:
            raise
        print(f"lightning-cost: {refusal(error, words)}", file=sys.stderr)
        return max([*job.exit_codes, BAD_INPUT])
    except Exception:  # any: a defect, ours or of the user's code
        traceback.print_exc()
        return max([*job.exit_codes, BAD_INPUT])
    except SystemExit as stop:
        # Hydra's own word for a failure is 1; a sweep ends with the exit code of its jobs
        if stop.code not in (None, KEPT):
            codes = [*job.exit_codes, BAD_INPUT if stop.code == 1 else int(str(stop.code))]
            return max(codes)
    except KeyboardInterrupt:
        print("lightning-cost: interrupted; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    finally:
        sys.argv = argv
    return max(job.exit_codes, default=KEPT)


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


def _report(words: list[str]) -> int:
    asks_for_help = words in (["-h"], ["--help"])
    if asks_for_help or len(words) != 1:
        print(USAGE, file=sys.stderr)
        return KEPT if asks_for_help else BAD_INPUT
    directory = Path(words[0])
    try:
        if (directory / REPORT_NAME).exists():
            print(write_report(directory))
            return KEPT
        found, study = collect(directory), reported_study(directory)
        if study is None and not found.rows and not found.unreadable:
            holds = "without either" if directory.is_dir() else "which is no directory"
            raise ValueError(
                f"RUN_DIR must hold a {REPORT_NAME}, or SWEEP_DIR runs that do, got {words[0]!r} "
                f"{holds}; give the directory that `lightning-cost fit` printed"
            )
        print(write_sweep(found, study))
    except (ValueError, OSError) as error:
        print(f"lightning-cost: {error}", file=sys.stderr)
        return BAD_INPUT
    return KEPT


if __name__ == "__main__":
    sys.exit(main())
