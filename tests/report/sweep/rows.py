"""Rows of a sweep for the tests of what is made of them."""

from lightning_cost.report.sweep.rows import SweepRow


def rows_of(numbers, limit=None):
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
        )
        for at, (cost, accuracy) in enumerate(numbers)
    ]
