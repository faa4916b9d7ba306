"""Links from a sweep's page to those of its runs."""

from urllib.parse import quote

from lightning_cost.report.html import PAGE_NAME
from lightning_cost.report.markup import Markup, element


def run_link(run: str) -> Markup:
    """The run's name, which leads to its page.

    >>> run_link("7")
    '<a href="./7/report.html">7</a>'
    """
    return element("a", run, href=f"./{quote(run)}/{PAGE_NAME}")
