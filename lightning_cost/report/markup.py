"""HTML and SVG elements whose text is escaped unless it already is markup."""

import re
from collections.abc import Iterable
from html import escape
from importlib.resources import files

_VOID = {"meta", "br", "wbr"}
# nothing may be fetched or run, whatever a name in the report holds
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


class Markup(str):
    """Text that is finished HTML; every other string is escaped where it is put in."""

    __slots__ = ()


def element(tag: str, *children: str | None, **attributes: object) -> Markup:
    """One element; ``class_`` gives ``class``, ``stroke_width`` gives ``stroke-width``.

    >>> element("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    text = "".join(
        f' {name.strip("_").replace("_", "-")}="{escape(str(value), quote=True)}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{text}>")
    return Markup(f"<{tag}{text}>{join(children)}</{tag}>")


def join(parts: Iterable[str | None]) -> Markup:
    """Parts one after the other, escaped where they are not markup; ``None`` is left out."""
    return Markup(
        "".join(
            part if isinstance(part, Markup) else escape(part, quote=True)
            for part in parts
            if part is not None
        )
    )


def path_name(name: str) -> Markup:
    """The name of a layer or a setting, which may be broken after its dots and underscores.

    >>> path_name("stem.conv_1")
    'stem.<wbr>conv_<wbr>1'
    """
    parts = re.split(r"(?<=[._])(?=.)", name)
    return join([parts[0], *(join([element("wbr"), part]) for part in parts[1:])])


def section(heading: str, *children: str | None, hint: str | None = None) -> Markup:
    """One part of a page: its heading in the margin, its content beside it."""
    hint_line = element("p", hint, class_="hint") if hint else None
    head = element("div", element("h2", heading), hint_line, class_="margin")
    return element("section", head, element("div", *children, class_="content"))


def table(header: Iterable[str], rows: Iterable[Iterable[str]], class_: str = "") -> Markup:
    """A table that turns into one card per row where the page is narrow."""
    names = list(header)
    head = element("tr", *(element("th", name, scope="col") for name in names))
    body = [
        element(
            "tr",
            *(
                element("td", element("div", cell), data_label=name)
                for name, cell in zip(names, row, strict=True)
            ),
        )
        for row in rows
    ]
    thead, tbody = element("thead", head), element("tbody", *body)
    return element("div", element("table", thead, tbody, class_=class_ or None), class_="scroll")


def pairs(items: Iterable[tuple[str, str]]) -> Markup:
    """Names and what they stand for, one pair a line."""
    lines = [element("div", element("dt", name), element("dd", value)) for name, value in items]
    return element("dl", *lines)


def page(title: str, *children: str | None) -> str:
    """A whole document that needs nothing but itself."""
    style = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(style)),
    )
    body = element("body", element("main", *children))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"
