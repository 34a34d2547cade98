"""The user's own images in folders: split, whole, unlabelled, large and broken."""

import numpy as np
import pytest
import torch
from PIL import Image

from shiftbench.data.base import load_dataset
from shiftbench.errors import InputError
from shiftbench.images import ImageFiles


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
        (
            lambda p: [draw(p / part) for part in ("train/a", "train/c", "test/c", "test/b")],
            "different classes \\('a' only in train; 'b' only in test\\)",
        ),
        (lambda p: (draw(p), draw(p / "c")), "images beside folders \\('c'\\)"),
        (lambda p: draw(p / "train" / "c"), "holds train; train, and test or val beside it, are needed"),
        (lambda p: (draw(p / "test" / "c"), draw(p / "val" / "c")), "holds test and val; train, and"),
        (lambda p: (draw(p / "train"), draw(p / "test" / "c")), "class folders in test only: sort both parts"),
        (lambda p: (draw(p / "train" / "c"), draw(p / "val")), "class folders in train only: sort both parts"),
        (lambda p: (draw(p / "c"), (p / "d").mkdir()), r"The class folder '.*/d' holds no images"),
        (lambda p: (draw(p / "c"), draw(p / "d" / "e", ".hidden.png")), r"The class folder '.*/d' holds no images"),
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


def test_val_is_the_test_split_where_there_is_no_other(folder):
    (folder / "test").rename(folder / "val")
    assert len(load_dataset("folder", path=str(folder)).test) == 4
    draw(folder / "test" / "cat")
    draw(folder / "test" / "dog")
    assert len(load_dataset("folder", path=str(folder)).test) == 2


def test_folders_inside_class_folders_belong_to_the_class(folder):
    draw(folder / "train" / "dog" / "puppies" / "small", "a.png", value=7)
    train = load_dataset("folder", path=str(folder)).train
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert 7 in train.images[3:, 0, 0, 0]


def test_hidden_files_are_passed_over(folder):
    draw(folder / "train" / ".thumbnails", "a.png")
    draw(folder / "train" / "cat", "._0.png")
    assert len(load_dataset("folder", path=str(folder)).train) == 6


def test_a_large_folder_is_decoded_while_it_is_used(folder, monkeypatch):
    whole = load_dataset("folder", path=str(folder), size=16)
    monkeypatch.setattr("shiftbench.images.IN_MEMORY", 10 * 3 * 16 * 16 - 1)
    streamed = load_dataset("folder", path=str(folder), size=16)
    for one, other in ((whole.train, streamed.train), (whole.test, streamed.test)):
        assert isinstance(other.images, ImageFiles)
        assert torch.equal(one.images, other.images[:])
        np.testing.assert_array_equal(one.labels, other.labels)


def test_duplicates_are_said_and_kept(folder, capsys):
    draw(folder / "train" / "dog", "copy.png", value=50)  # the first cat
    draw(folder / "test" / "dog", "copy.png", value=51)  # a cat of train and of test
    data = load_dataset("folder", path=str(folder))
    said = capsys.readouterr().err
    assert (len(data.train), len(data.test)) == (7, 5)
    assert "2 of 12 images are copies of others" in said
    assert "5 of 5 test images are also in train" in said


def test_missing_folder():
    with pytest.raises(InputError, match="No folder 'nowhere'"):
        load_dataset("folder", path="nowhere")
