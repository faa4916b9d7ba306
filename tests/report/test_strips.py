import re

from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.report.strips import NUM_CELLS, Strip, strip_list


def cells(row, style):
    """The cells that a strip fills with a style."""
    (path,) = re.findall(rf'<path d="([^"]*)" class="{style}"', row)
    runs = re.findall(r"M(\d+) 0H(\d+)V10H\1z", path)
    return {cell for start, end in runs for cell in range(int(start), int(end))}


@given(st.permutations(range(12)), st.integers(1, 11), st.data())
def test_every_channel_has_a_cell_of_its_own_in_a_small_network(order, cut, data):
    sides = sorted(order[:cut]), sorted(order[cut:])
    kept = [data.draw(st.integers(0, len(side))) for side in sides]
    strips = [
        Strip(name=name, ranks=ranks, num_kept=left)
        for name, ranks, left in zip("ab", sides, kept, strict=True)
    ]
    _, *rows = strip_list(strips, [])
    for strip, row in zip(strips, rows, strict=True):
        num_removed = len(strip.ranks) - strip.num_kept
        assert cells(row, "went") == set(strip.ranks[:num_removed])
        assert cells(row, "stays") == set(strip.ranks[num_removed:])


def test_a_strip_does_not_grow_with_the_network():
    strips = [
        Strip(name=str(place), ranks=range(place, 200_000, 2), num_kept=50_000)
        for place in range(2)
    ]
    _, row, _ = strip_list(strips, [1000])
    assert len(row) < 10 * NUM_CELLS
    assert cells(row, "went") == set(range(NUM_CELLS // 2))
    assert cells(row, "stays") == set(range(NUM_CELLS // 2, NUM_CELLS))


def test_numbers_of_lines_that_stand_close_together_share_a_label():
    strips = [Strip(name="a", ranks=range(1000), num_kept=500)]
    head, row = strip_list(strips, [100, 480, 500])
    assert re.findall(r">(\d[^<]*)</i>", head) == ["1", "2–3"]
    assert row.count('class="cut"') == 3
