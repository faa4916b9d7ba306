"""One rank alone; several are in tests/integration/test_ddp.py."""

from lightning_cost.network.ranks import Ranks


def test_a_process_without_others_talks_to_itself():
    ranks = Ranks.here()
    assert ranks == Ranks()
    assert ranks.is_first
    assert ranks.broadcast({"a": 1}) == {"a": 1}
    assert ranks.gather([2]) == [[2]]
