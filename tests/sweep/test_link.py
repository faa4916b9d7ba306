import pytest

from lightning_cost.sweep.link import StudyLink


def test_a_link_comes_back(tmp_path):
    link = StudyLink(url="sqlite:///x", study="sweep", objectives={"a": "minimize"}, pruner="none")
    link.save(tmp_path)
    assert StudyLink.load(tmp_path) == link


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"url": "x"}',
        '{"other": 1}',
        "",
        "[" * 100_000,
        '{"url": 1, "study": "s", "objectives": {}, "pruner": "x"}',
        '{"url": "u", "study": "s", "objectives": [], "pruner": "x"}',
        '{"url": "u", "url": "v", "study": "s", "objectives": {}, "pruner": "x"}',
    ],
)
def test_a_damaged_link(tmp_path, text):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(ValueError, match=r"must say where the sweep's study is, got a file"):
        StudyLink.load(tmp_path)
