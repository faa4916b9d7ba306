import os
import threading

import pytest

from tests.gauntlet.read_only import read_only


def test_nobody_writes_to_it(tmp_path, capsys):
    """In a thread of its own: what it gives away it does not get back."""
    found = []

    def look():
        folder = read_only(tmp_path)
        found.append(os.access(folder, os.W_OK))
        with pytest.raises(OSError, match=r"denied|[Nn]ot a directory|[Rr]ead-only"):
            (folder / "file").write_text("x")
        found.append(folder)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found[0] is False
    assert found[1].parent in (tmp_path, tmp_path / "file")
    assert "no disk: " in capsys.readouterr().out
