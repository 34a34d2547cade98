"""Images that are there twice, within a split and across."""

import numpy as np
import pytest

from shiftbench.data import duplicates


def test_copies_and_leaks_are_counted(capsys):
    duplicates.warn("mine", train=[1, 1, 1, 2, 3], test=[3, 1, 4, 4])
    said = capsys.readouterr().err
    assert "mine: 3 of 9 images are copies of others in their split." in said
    assert "mine: 2 of 4 test images are also in train" in said


def test_nothing_is_said_of_different_images(capsys):
    duplicates.warn("mine", train=[1, 2], test=[3])
    assert capsys.readouterr().err == ""


def test_pixels(capsys):
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    images[4] = images[1]
    prints = duplicates.of_pixels(images)
    assert prints[4] == prints[1]
    assert len(set(prints)) == 5


@pytest.mark.parametrize("place", [0, 9_999, 5_000])
def test_files_that_differ_in_one_byte(tmp_path, place):
    content = bytearray(10_000)
    for name in "abc":
        (tmp_path / name).write_bytes(content)
    content[place] ^= 1
    (tmp_path / "d").write_bytes(content)
    (tmp_path / "e").write_bytes(content + b"0")
    (tmp_path / "empty").write_bytes(b"")
    prints = duplicates.of_files([tmp_path / name for name in (*"abcde", "empty")])
    assert prints[0] == prints[1] == prints[2]
    assert len(set(prints)) == 4
