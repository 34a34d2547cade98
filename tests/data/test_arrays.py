"""The user's own images in an npz archive: split, whole, unlabelled and broken."""

import numpy as np
import pytest

from shiftbench.data.base import load_dataset
from shiftbench.errors import InputError


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {"images": rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8), "labels": np.arange(20) % 4 + 7}


def save(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def test_npz_is_divided_and_labels_are_ranked(tmp_path, arrays):
    data = load_dataset("npz", path=save(tmp_path / "mine.npz", **arrays))
    assert data.name == "mine"
    assert (len(data.train), len(data.test)) == (16, 4)
    assert data.classes == ("7", "8", "9", "10")
    both = np.concatenate([data.train.labels, data.test.labels])
    np.testing.assert_array_equal(np.bincount(both), [5, 5, 5, 5])


def test_npz_with_named_splits_keeps_them(tmp_path, arrays):
    parts = {f"train_{k}": v[:15] for k, v in arrays.items()} | {f"test_{k}": v[15:] for k, v in arrays.items()}
    data = load_dataset("npz", path=save(tmp_path / "x.npz", **parts))
    np.testing.assert_array_equal(data.test.images.permute(0, 2, 3, 1), arrays["images"][15:])
    np.testing.assert_array_equal(data.test.labels, arrays["labels"][15:] - 7)


def test_npz_with_named_classes(tmp_path, arrays):
    arrays["labels"] = np.array(["dog", "cat"])[arrays["labels"] % 2]
    data = load_dataset("npz", path=save(tmp_path / "x.npz", **arrays))
    assert data.classes == ("cat", "dog")
    both = np.concatenate([data.train.labels, data.test.labels])
    np.testing.assert_array_equal(np.bincount(both), [10, 10])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_labels": np.arange(5)}, "different classes"),
        ({"test_labels": None}, "labels for one of its splits only"),
        ({"test_images": np.zeros((5, 8, 8, 3), np.uint8)}, "of different sizes"),
    ],
)
def test_splits_that_do_not_fit_each_other(tmp_path, arrays, change, message):
    parts = {f"train_{k}": v[:15] for k, v in arrays.items()} | {f"test_{k}": v[15:] for k, v in arrays.items()}
    parts = {name: array for name, array in (parts | change).items() if array is not None}
    with pytest.raises(InputError, match=message):
        load_dataset("npz", path=save(tmp_path / "x.npz", **parts))


def test_duplicates_are_said_and_kept(tmp_path, arrays, capsys):
    arrays["images"][1] = arrays["images"][0]
    arrays["images"][18] = arrays["images"][0]
    parts = {f"train_{k}": v[:15] for k, v in arrays.items()} | {f"test_{k}": v[15:] for k, v in arrays.items()}
    assert len(load_dataset("npz", path=save(tmp_path / "mine.npz", **parts)).train) == 15
    said = capsys.readouterr().err
    assert "mine: 1 of 20 images are copies" in said
    assert "mine: 1 of 5 test images are also in train" in said


def test_other_arrays_are_not_read(tmp_path, arrays):
    data = load_dataset("npz", path=save(tmp_path / "x.npz", notes=np.array([{"a": 1}], dtype=object), **arrays))
    assert len(data.train) == 16


def test_a_damaged_archive(tmp_path, arrays):
    file = tmp_path / "x.npz"
    np.savez_compressed(file, **arrays)
    content = bytearray(file.read_bytes())
    content[2000:2100] = bytes(100)
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.npz' is not an \.npz of plain arrays"):
        load_dataset("npz", path=str(file))


def test_a_bare_array(tmp_path, arrays):
    np.save(tmp_path / "x.npy", arrays["images"])
    with pytest.raises(InputError, match=r"x\.npy' is not an \.npz of plain arrays"):
        load_dataset("npz", path=str(tmp_path / "x.npy"))


def test_grey_npz_without_labels(tmp_path, arrays):
    data = load_dataset("npz", path=save(tmp_path / "x.npz", images=arrays["images"][..., 0]))
    assert data.train.images.shape == (16, 3, 16, 16)
    assert data.test.labels is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((20, 16, 16, 3), np.float32)}, "must be uint8"),
        ({"images": np.zeros((20, 16, 16, 4), np.uint8)}, "must be uint8"),
        ({"images": np.zeros((1, 16, 16, 3), np.uint8), "labels": np.zeros(1, int)}, "at least 2"),
        ({"images": np.zeros((20, 3, 16, 16), np.uint8)}, "must be uint8"),
        ({"images": np.zeros((20, 0, 16, 3), np.uint8)}, "must be uint8"),
        ({"images": np.zeros((4, 16, 16, 3), np.uint8), "labels": np.zeros(4, int)}, "4 images are too few"),
        ({"labels": np.arange(19)}, "labels must be integers"),
        ({"labels": np.arange(20)[:, None]}, "labels must be integers"),
        ({"labels": np.array([{"a": 1}] * 20, dtype=object)}, "not an .npz of plain arrays"),
        ({"labels": np.linspace(0, 1, 20)}, "labels must be integers"),
    ],
)
def test_unusable_arrays(tmp_path, arrays, change, message):
    with pytest.raises(InputError, match=message):
        load_dataset("npz", path=save(tmp_path / "x.npz", **arrays | change))


def test_other_content(tmp_path):
    with pytest.raises(InputError, match="holds no array images"):
        load_dataset("npz", path=save(tmp_path / "x.npz", pixels=np.zeros(3)))
    for content in ("", "hello"):
        (tmp_path / "text.npz").write_text(content)
        with pytest.raises(InputError, match="not an"):
            load_dataset("npz", path=str(tmp_path / "text.npz"))
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(InputError, match="not an"):
        load_dataset("npz", path=str(tmp_path / "text.npz"))
    with pytest.raises(InputError, match="not an"):
        load_dataset("npz", path=save(tmp_path / "p.npz", images=np.array([{"a": 1}], dtype=object)))
    with pytest.raises(InputError, match="No file"):
        load_dataset("npz", path=str(tmp_path / "none.npz"))
