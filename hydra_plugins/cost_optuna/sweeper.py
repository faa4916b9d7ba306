"""The sweeper ``cost_optuna``, thin enough that Hydra may import it without Optuna."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from typing_extensions import override


class CostOptunaSweeper(Sweeper):
    """Searches with Optuna, and trains nothing that cannot keep its budget.

    Args:
        params: Parameters by key, in Hydra's override syntax; the command line comes after them.
        settings: See ``lightning_cost.sweep.settings.SweepSettings``.
    """

    def __init__(self, params: dict[str, Any] | None = None, **settings: Any) -> None:
        self.params = dict(params or {})
        self.settings = settings
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None
        self.hydra_context: HydraContext | None = None

    @override
    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    @override
    def sweep(self, arguments: list[str]) -> Any:
        """Carry out the sweep.

        Raises:
            CompactHydraException: If it cannot be, see ``lightning_cost.sweep.sweeper.sweep``.
        """
        try:
            return self._sweep(arguments)
        except (ValueError, OSError, ImportError) as error:
            raise CompactHydraException(f"lightning-cost: {error}") from error

    def _sweep(self, arguments: list[str]) -> Any:
        try:
            from lightning_cost.sweep.plan import plan_sweep
            from lightning_cost.sweep.plan_text import sweep_plan_line, sweep_plan_text
            from lightning_cost.sweep.settings import SweepSettings
            from lightning_cost.sweep.space import Space
            from lightning_cost.sweep.sweeper import HydraSide, sweep
        except ModuleNotFoundError as error:
            raise ImportError(
                f"hydra/sweeper=cost_optuna needs the package {error.name}, which is not "
                "installed; pip install 'lightning-cost[sweep]'"
            ) from error
        from lightning_cost.job import build_data, build_network
        from lightning_cost.recipe.plan import PlanConfig

        assert self.config is not None
        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        parser = OverridesParser.create(config_loader=loader)
        words = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        master = self.config
        space = Space.of(parser.parse_overrides(words))
        settings = SweepSettings.of(
            {
                name: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
                for name, value in self.settings.items()
            }
        )
        hydra_side = HydraSide(
            compose=lambda overrides: loader.load_sweep_config(master, list(overrides)),
            is_group=lambda key: bool(loader.get_group_options(key)),
            launch=self._launch,
            build_data=build_data,
            build_network=build_network,
        )
        if OmegaConf.get_type(master) is PlanConfig:
            plan = plan_sweep(space, settings, master, hydra_side)
            print(f"{sweep_plan_text(plan)}\n{sweep_plan_line(plan)}")
            return None
        return sweep(space, settings, Path(master.hydra.sweep.dir), hydra_side)

    def _launch(self, overrides: Sequence[Sequence[str]]) -> list[BaseException | None]:
        assert self.launcher is not None
        returned = self.launcher.launch([list(words) for words in overrides], initial_job_idx=0)
        return [_error_of(job) for job in returned]


def _error_of(job: JobReturn) -> BaseException | None:
    """With what a job failed, if it did."""
    if job.status is JobStatus.COMPLETED:
        return None
    found = job._return_value
    return found if isinstance(found, BaseException) else RuntimeError("the job was lost")
