"""Where the jobs of a sweep run: what Hydra's launchers need beside their configuration."""

import importlib
import importlib.util
import os
from collections.abc import Sequence

_PACKAGES = {
    "joblib": ("hydra_joblib_launcher", "joblib"),
    "ray": ("hydra_ray_launcher", "ray"),
    "submitit_local": ("hydra_submitit_launcher", "slurm"),
    "submitit_slurm": ("hydra_submitit_launcher", "slurm"),
}


def chosen_launcher(overrides: Sequence[str]) -> str:
    """The launcher that ``overrides`` name.

    >>> chosen_launcher(["-m", "hydra/launcher=ray"])
    'ray'
    """
    named = [word.partition("=")[2] for word in overrides if word.startswith("hydra/launcher=")]
    return named[-1] if named else "basic"


def require_launcher(name: str) -> None:
    """Check that the packages of a launcher are here, before Hydra looks for them.

    Raises:
        ImportError: If one is missing; names the extra to install.
    """
    if name not in _PACKAGES:
        return
    package, extra = _PACKAGES[name]
    if importlib.util.find_spec("hydra_plugins") is None or (
        importlib.util.find_spec(f"hydra_plugins.{package}") is None
    ):
        raise ImportError(
            f"hydra/launcher={name} needs the package {package.replace('_', '-')}, which is not "
            f"installed; pip install 'lightning-cost[{extra}]'"
        )
    if name == "ray":
        _require_ray()


def _require_ray() -> None:
    """Ray looks for graphics cards when it is imported, by packages that may fail in any way."""
    try:
        importlib.import_module("ray")
    except Exception as error:
        raise ImportError(
            f"hydra/launcher=ray needs a Ray that can be imported, got {type(error).__name__}: "
            f"{error}; use an environment without the package that fails, such as amdsmi on a "
            "machine without AMD's libraries"
        ) from error


def launcher_overrides(overrides: Sequence[str]) -> list[str]:
    """What keeps the jobs of a launcher from sharing cores, where it does not do so itself.

    submitit's local executor starts all that it is given at once; so Hydra's own sweeper gives it
    no more than there are cores.
    """
    keys = {word.lstrip("+").partition("=")[0] for word in overrides}
    if chosen_launcher(overrides) != "submitit_local" or "hydra/sweeper" in keys:
        return []
    if "hydra.sweeper.max_batch_size" in keys:
        return []
    per_job = [
        int(word.partition("=")[2])
        for word in overrides
        if word.startswith("hydra.launcher.cpus_per_task=")
    ]
    num_jobs = max(1, num_cores() // max(1, *per_job, 1))
    return [f"hydra.sweeper.max_batch_size={num_jobs}"]


def num_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
