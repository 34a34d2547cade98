"""The user's own images: folders and npz archives, whole, split, unlabelled and broken."""

import numpy as np
import pytest
import torch
from PIL import Image

from shiftbench.data import load_dataset
from shiftbench.errors import InputError


def draw(folder, name="a.png", value=100, size=(40, 32), mode="RGB"):
    folder.mkdir(parents=True, exist_ok=True)
    grey = np.full((size[1], size[0]), value, dtype=np.uint8)
    Image.fromarray(grey).convert(mode).save(folder / name)


@pytest.fixture
def folder(tmp_path):
    for split, count in (("train", 3), ("test", 2)):
        for c, name in enumerate(("cat", "dog")):
            for i in range(count):
                draw(tmp_path / split / name, f"{i}.png", value=50 * (c + 1) + i)
    return tmp_path


def test_folder_with_splits(folder):
    data = load_dataset("folder", path=str(folder), size=16)
    assert data.classes == ("cat", "dog")
    assert data.train.images.shape == (6, 3, 16, 16)
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert data.test.images[:, 0, 0, 0].tolist() == [50, 51, 100, 101]


def test_folder_without_splits_is_divided_the_same_way_each_time(tmp_path):
    for i in range(10):
        draw(tmp_path / f"class{i % 2}", f"{i}.png", value=i)
    one, two = (load_dataset("folder", path=str(tmp_path)) for _ in range(2))
    assert (len(one.train), len(one.test)) == (8, 2)
    assert torch.equal(one.test.images, two.test.images)
    values = torch.cat([one.train.images, one.test.images])[:, 0, 0, 0]
    assert sorted(values.tolist()) == list(range(10))


def test_flat_folder_has_no_labels(tmp_path):
    for i in range(6):
        draw(tmp_path, f"{i}.png", value=i)
    data = load_dataset("folder", path=str(tmp_path))
    assert data.train.labels is None
    assert data.classes == ()


def test_grey_palette_and_cmyk_images_become_rgb(tmp_path):
    for i, (mode, suffix) in enumerate([("L", "png"), ("P", "png"), ("CMYK", "jpg"), ("1", "png"), ("RGBA", "png")]):
        draw(tmp_path / "c", f"{i}.{suffix}", mode=mode, value=255)
    assert load_dataset("folder", path=str(tmp_path)).train.images.shape == (4, 3, 32, 32)


def test_centre_square_of_the_resized_image(tmp_path):
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 255  # only the middle third is white
    for i in range(5):
        (tmp_path / "c").mkdir(exist_ok=True)
        Image.fromarray(wide).save(tmp_path / "c" / f"{i}.png")
    assert load_dataset("folder", path=str(tmp_path), size=32).test.images.min() == 255


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda p: None, "No images in"),
        (lambda p: draw(p / "c"), "1 images are too few"),
        (lambda p: (draw(p / "train" / "a"), draw(p / "test" / "b")), "different classes"),
        (lambda p: (draw(p), draw(p / "c")), "both beside and inside"),
    ],
)
def test_unusable_folders(tmp_path, prepare, message):
    prepare(tmp_path)
    with pytest.raises(InputError, match=message):
        load_dataset("folder", path=str(tmp_path))


def test_truncated_image_is_named(folder):
    bad = folder / "test" / "cat" / "0.png"
    bad.write_bytes(bad.read_bytes()[:40])
    with pytest.raises(InputError, match=r"Cannot read the image .*0\.png"):
        load_dataset("folder", path=str(folder))


def test_missing_folder():
    with pytest.raises(InputError, match="No folder 'nowhere'"):
        load_dataset("folder", path="nowhere")


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
        ({"labels": np.arange(19)}, "labels must be integers"),
        ({"labels": np.linspace(0, 1, 20)}, "labels must be integers"),
    ],
)
def test_unusable_arrays(tmp_path, arrays, change, message):
    with pytest.raises(InputError, match=message):
        load_dataset("npz", path=save(tmp_path / "x.npz", **arrays | change))


def test_other_content(tmp_path):
    with pytest.raises(InputError, match="holds pixels"):
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
