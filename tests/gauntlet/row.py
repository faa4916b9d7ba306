"""One line of the gauntlet's table: what one case tried, and what came of it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What came of the tries of one case; each try is counted under exactly one outcome.

    Args:
        section: Name of the section that tried.
        case: What was tried, in a few words.
        tried: Number of tries.
        passed: Went on or through, with the right result.
        refused: Turned down with an argument, a rule, a value and a remedy.
        failed: Ended with an error that does not help, or a law that does not hold.
        lost: Work that was done and could not be gone on with.
        hung: Had not ended when its time was up.
        silent: Came to a wrong result without a word.
        seconds: Taken by all tries together.
        note: The first of what went wrong, for whoever looks into it.

    Raises:
        ValueError: If the outcomes do not sum to the tries.
    """

    section: str
    case: str
    tried: int
    passed: int = 0
    refused: int = 0
    failed: int = 0
    lost: int = 0
    hung: int = 0
    silent: int = 0
    seconds: float = 0.0
    note: str = ""

    def __post_init__(self) -> None:
        outcomes = self.passed + self.refused + self.num_bad
        if outcomes != self.tried:
            raise ValueError(
                f"tried must be the sum of the outcomes, got {self.tried} and {outcomes} in "
                f"{self.section}: {self.case}; count each try once"
            )

    @property
    def num_bad(self) -> int:
        """Tries of which none may happen."""
        return self.failed + self.lost + self.hung + self.silent

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))


def read_rows(path: Path) -> list[Row]:
    """The rows of a file of results."""
    return [Row(**json.loads(line)) for line in path.read_text().splitlines()]


def total(rows: Iterable[Row], section: str, case: str = "total") -> Row:
    """The sum of ``rows``, as one row, with the notes of those in which something went wrong.

    >>> total([Row(section="a", case="b", tried=2, passed=1, lost=1)], "all").lost
    1
    """
    counts = ("tried", "passed", "refused", "failed", "lost", "hung", "silent", "seconds")
    rows = list(rows)
    sums = {name: sum(getattr(row, name) for row in rows) for name in counts}
    note = "\n".join(row.note for row in rows if row.num_bad)
    return Row(section=section, case=case, note=note, **sums)
