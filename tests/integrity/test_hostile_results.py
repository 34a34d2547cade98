"""A results folder of a stranger: what its record says never becomes a path."""

import pytest

from shiftbench.reports import gallery


@pytest.mark.parametrize("slug", ["../../secret", "/secret", "..\\secret", "a/b", "secret\0", "../examples/w"])
def test_no_name_leads_out_of_the_folder(tmp_path, monkeypatch, slug):
    opened = []
    monkeypatch.setattr(gallery, "load", lambda path: opened.append(path))
    assert gallery.examples(tmp_path / "r", {"slug": slug}) is None
    assert opened == []


def test_a_plain_name_is_looked_for(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(gallery, "load", lambda path: opened.append(path))
    gallery.examples(tmp_path, {"slug": "w-seed0@1a2b3c"})
    assert opened == [tmp_path / "examples" / "w-seed0@1a2b3c.npz"]
