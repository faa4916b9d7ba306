"""A sum over all ranks of what each of them adds up by itself."""

from collections.abc import Callable


class RankSum:
    """The total over all ranks, without a word between them at every step.

    Between two calls of :meth:`sync` the other ranks are taken to do what this one does, which is
    so where their batches are equally large.

    Args:
        own: What this process has added up so far; it never falls.

    Attributes:
        num_alike: How many such processes there are.

    >>> done = [0]
    >>> flops = RankSum(lambda: done[0])
    >>> flops.num_alike = 2
    >>> done[0] = 10
    >>> before = flops.total
    >>> flops.sync(lambda own: own + 4)  # the other rank had smaller batches
    >>> before, flops.total
    (20, 14)
    """

    def __init__(self, own: Callable[[], float]) -> None:
        self.num_alike = 1
        self._own = own
        self._known: float = 0
        self._own_when_known: float = 0

    @property
    def total(self) -> float:
        """What all ranks together have done."""
        return self._known + self.num_alike * (self._own() - self._own_when_known)

    def sync(self, sum_over_ranks: Callable[[float], float]) -> None:
        """Ask all ranks; to be called on all of them."""
        own = self._own()
        self._known += sum_over_ranks(own - self._own_when_known)
        self._own_when_known = own

    def go_on_from(self, total: float) -> None:
        """Let what was done until now be ``total``."""
        self._known, self._own_when_known = total, self._own()
