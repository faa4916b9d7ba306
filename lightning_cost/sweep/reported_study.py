"""The study of a sweep's directory as its report needs it, with or without Optuna."""

from pathlib import Path

from lightning_cost.cost.plain_data import read_as_written
from lightning_cost.report.study.record import Study
from lightning_cost.report.sweep.document import SWEEP_NAME, read_sweep
from lightning_cost.sweep.link import LINK_NAME, StudyLink


def reported_study(sweep_dir: str | Path) -> Study | None:
    """The study as it stands; ``None`` for a sweep without one.

    Where its storage or Optuna is not there, the study as ``sweep.json`` last had it.

    Raises:
        ValueError: If its storage is damaged or holds no such study; or if it is not there, and
            nor is a readable ``sweep.json`` with the study.
    """
    folder = Path(sweep_dir)
    if not (folder / LINK_NAME).exists():
        return None
    link = StudyLink.load(folder)
    try:
        from lightning_cost.sweep.storage import found_url, load_study
        from lightning_cost.sweep.study_record import study_record
    except ModuleNotFoundError as error:
        return _last_reported(folder, f"the package {error.name} is not installed")
    url = found_url(link.url, folder)
    if url is None:
        return _last_reported(folder, f"{link.url!r} is not there")
    return load_study(url, link.study, lambda study: study_record(study, folder))


def _last_reported(sweep_dir: Path, why: str) -> Study:
    try:
        study = read_sweep(sweep_dir)["study"]
    except ValueError as error:
        raise ValueError(
            f"the study of a sweep must be in its storage or in {SWEEP_NAME}, but {why}, and "
            f"{error}"
        ) from error
    if study is None:
        raise ValueError(
            f"the study of a sweep must be in its storage or in {SWEEP_NAME}, but {why}, and "
            f"{sweep_dir / SWEEP_NAME} holds none; bring the storage back"
        )
    with read_as_written(f"the study in {sweep_dir / SWEEP_NAME}", "bring its storage back"):
        return Study.from_dict(study)
