"""The gauntlet's table, for people."""

from collections.abc import Sequence

from tests.gauntlet.row import Row, total

_COUNTS = ("tried", "passed", "refused", "failed", "lost", "hung", "silent")


def table(rows: Sequence[Row]) -> str:
    """All cases, the sums of the sections and of the whole, and what went wrong.

    Rows of the same case are summed.

    >>> print(table([Row(section="kills", case="SIGKILL", tried=2, passed=2, seconds=3.0)]))
    section  case     tried  passed  refused  failed  lost  hung  silent  seconds
    kills    SIGKILL      2       2        0       0     0     0       0        3
    kills    total        2       2        0       0     0     0       0        3
    all      total        2       2        0       0     0     0       0        3
    """
    sections = list(dict.fromkeys(row.section for row in rows))
    lines: list[Row] = []
    for section in sections:
        own = [row for row in rows if row.section == section]
        cases = {case: [row for row in own if row.case == case] for case in (r.case for r in own)}
        lines += [total(found, section, case) for case, found in cases.items()]
        lines.append(total(own, section))
    lines.append(total(rows, "all"))
    cells = [["section", "case", *_COUNTS, "seconds"]]
    cells += [
        [
            row.section,
            row.case,
            *(str(getattr(row, name)) for name in _COUNTS),
            f"{row.seconds:.0f}",
        ]
        for row in lines
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    text = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    bad = [f"{row.section}: {row.case}: {row.note}" for row in rows if row.num_bad]
    return "\n".join([*text, *bad])
