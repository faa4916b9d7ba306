from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.report.markup import element, join, table


class Reader(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


VISIBLE = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1)


@given(text=VISIBLE, value=VISIBLE)
def test_any_text_comes_back_as_text_and_any_value_as_value(text, value):
    reader = Reader(element("p", text, title=value))
    assert reader.tags == [("p", {"title": value})]
    assert reader.text == text


def test_markup_is_not_escaped_twice():
    assert join([element("b", "a & b"), None, " < c"]) == "<b>a &amp; b</b> &lt; c"


def test_a_cell_carries_the_name_of_its_column():
    reader = Reader(table(["size"], [["3 <b>"]]))
    assert ("td", {"data-label": "size"}) in reader.tags
    assert reader.text == "size3 <b>"
