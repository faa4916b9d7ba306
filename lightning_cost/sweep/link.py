"""What stands in a sweep's directory so that its study can be found."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lightning_cost.cost.documents import read_json
from lightning_cost.report.files import write_text

LINK_NAME = "study.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyLink:
    """What a process must know to find the study of a sweep.

    Args:
        url: Of the storage.
        study: Name in it.
        objectives: Names and directions.
        pruner: Its name.
        training: Limits on what all runs use together, by the names of ``TrainingBudget``.
    """

    url: str
    study: str
    objectives: Mapping[str, str]
    pruner: str
    training: Mapping[str, float] = field(default_factory=dict)

    def save(self, sweep_dir: Path) -> None:
        """Write it where the jobs of the sweep find it."""
        write_text(sweep_dir / LINK_NAME, json.dumps(asdict(self)))

    @classmethod
    def load(cls, sweep_dir: Path) -> "StudyLink":
        """What :meth:`save` wrote.

        Raises:
            ValueError: If it is damaged.
            OSError: If it is not there.
        """
        path = sweep_dir / LINK_NAME
        try:
            link = cls(**read_json(path))
            for name in ("url", "study", "pruner"):
                if not isinstance(getattr(link, name), str):
                    raise TypeError(f"{name} is no text")
            if not isinstance(link.objectives, Mapping):
                raise TypeError("objectives are no names and directions")
            return link
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path} must say where the sweep's study is, got a file that is cut off or "
                f"damaged ({error}); the sweep's own command writes it anew"
            ) from error
