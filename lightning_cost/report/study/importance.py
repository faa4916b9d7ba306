"""Which parameters a study's objectives depend on."""

from lightning_cost.report.markup import Markup, element, join, path_name, section, table
from lightning_cost.report.quantities import label, percent
from lightning_cost.report.study.record import Study

_HINT = (
    "By PED-ANOVA: how much the best quarter of the finished trials differs from all of them in "
    "each parameter. An estimate; with few trials a rough one."
)


def importance(study: Study) -> Markup | None:
    """One table of bars for each objective, or why there is none."""
    parts: list[Markup] = []
    for objective, found in study.importances.items():
        parts.append(element("h3", f"for {label(objective)}"))
        if found.reason is not None:
            parts.append(element("p", f"Not known: {found.reason}.", class_="empty"))
            continue
        rows = [
            [path_name(name), study.space.get(name, ""), _bar(share)]
            for name, share in sorted(found.shares.items(), key=lambda each: -each[1])
        ]
        parts.append(table(["parameter", "drawn from", "share"], rows, "steps"))
    return section("What mattered", *parts, hint=_HINT) if parts else None


def _bar(share: float) -> Markup:
    bar = element("i", class_="final", style=f"width:{100 * share:.2f}%")
    return join(
        [element("span", bar, class_="track"), element("span", percent(share), class_="share")]
    )
