"""What became of one network on its walk."""

from dataclasses import dataclass, field


class BrokenLawError(Exception):
    """A law of the library that a network does not keep."""


@dataclass(kw_only=True, slots=True)
class Outcome:
    """The end of one network's walk.

    Args:
        name: Of the network in the corpus.
        refused: What was refused, by stage, and how.
        failed: Errors that do not help, by stage.
        broken: Laws that do not hold, which is a wrong result without a word, by stage.
        unexpected: Refusals that the corpus does not expect, and expected ones that did not come.
        seconds: Of CPU time.
    """

    name: str
    refused: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    unexpected: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def word(self) -> str:
        """ "passed", "refused" (in some stage, as expected), "silent" or "failed"."""
        if self.broken:
            return "silent"
        if self.failed or self.unexpected:
            return "failed"
        return "refused" if self.refused else "passed"
