"""Rows of a sweep for the tests of what is made of them."""

from lightning_cost.report.sweep.rows import SweepRow


def rows_of(numbers, limit=None, unfaithful=()):
    return [
        SweepRow(
            run=str(at),
            title="",
            settings={},
            metric="acc",
            values={"macs": cost, "acc": accuracy},
            cost={},
            dense_cost={},
            dense_metric=None,
            limits={} if limit is None else {"macs": limit},
            broken=(),
            is_faithful=at not in unfaithful,
        )
        for at, (cost, accuracy) in enumerate(numbers)
    ]
