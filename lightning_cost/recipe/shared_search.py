"""One search for all runs of a sweep over budgets."""

import json
from collections.abc import Sequence
from pathlib import Path

from lightning_cost.budget.model import ModelBudget
from lightning_cost.budget.units import parse_quantity
from lightning_cost.network.whole_file import whole_file
from lightning_cost.pruning.search.run import SharedSearch

BUDGET_NAME = "tightest_budget.json"


def tightest(budgets: Sequence[ModelBudget]) -> ModelBudget:
    """The least of the limits that all of ``budgets`` set.

    A resource that some limit by a percentage and some by an amount has no least one known here.

    >>> tightest([ModelBudget(macs="70%", params=9), ModelBudget(macs="25%")]).macs
    '25%'
    """
    limits: dict[str, float | int | str] = {}
    for resource in set.intersection(*({*budget.resources} for budget in budgets)):
        name = resource.value
        written = [getattr(budget, name) for budget in budgets]
        if len({parse_quantity(limit, name).is_ratio for limit in written}) == 1:
            limits[name] = min(written, key=lambda limit: parse_quantity(limit, name).value)
    return ModelBudget.from_dict(limits)


def announce(sweep_dir: Path, budgets: Sequence[ModelBudget]) -> None:
    """Write down for the runs of a sweep which budget is the tightest of theirs."""
    budget = tightest(budgets)
    limits = {resource.value: getattr(budget, resource.value) for resource in budget.resources}
    sweep_dir.mkdir(parents=True, exist_ok=True)
    with whole_file(sweep_dir / BUDGET_NAME) as file:
        file.write(json.dumps(limits).encode())


def shared_search(sweep_dir: Path) -> SharedSearch:
    """The search that the runs below ``sweep_dir`` share, for the tightest budget if it is known.

    Raises:
        ValueError: If what :func:`announce` wrote there is damaged.
    """
    path = sweep_dir / BUDGET_NAME
    try:
        limits = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise ValueError(
            f"{BUDGET_NAME} must be what the sweep wrote, got something else in "
            f"{str(sweep_dir)!r}; delete it, and each run searches for its own budget"
        ) from error
    return SharedSearch(folder=str(sweep_dir), budget=ModelBudget.from_dict(limits))
