"""Random plans for a grouping."""

from hypothesis import strategies as st

from lightning_cost.pruning.structure.plan import Plan


@st.composite
def plans(draw, grouping, within=None):
    """A plan, or one that keeps part of what ``within`` keeps."""
    start = within or Plan.dense(grouping)
    kept = {
        name: tuple(sorted(draw(st.sets(st.sampled_from(channels), min_size=1))))
        for name, channels in start.kept.items()
    }
    return Plan(kept=kept, num_channels=grouping.num_channels)
