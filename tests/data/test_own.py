"""The user's own shift in one line."""

import numpy as np
import pytest
import torch
from PIL import Image

from shiftbench.data.shifts import resolve
from shiftbench.errors import InputError
from shiftbench.images import resize
from shiftbench.records import Condition, Dataset, Split

CLASSES, IDS = ("cat", "dog", "frog", "horse"), ("n1", "n2", "n3", "n4")


def noise(n, size=32):
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def dataset(classes=CLASSES, ids=IDS):
    split = Split(noise(8), np.arange(8) % 4)
    return Dataset("animals", split, split, classes, ids)


def unlabelled():
    split = Split(noise(8), None)
    return Dataset("animals", split, split, ())


def last(name, data=None):
    return list(resolve([name], data or dataset(), table="cifar", seed=0).items())[-1]


def said(capsys):
    return " ".join(capsys.readouterr().err.split())


def draw(file, value):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 50, 3), value, np.uint8)).save(file)


@pytest.fixture
def mine(tmp_path):
    """Four folders, called by name and by id, with an image each."""
    for i, name in enumerate(["n1", "dog", "frog", "horse"]):
        draw(tmp_path / "mine" / name / "a.png", 10 * i)
    return tmp_path / "mine"


def test_a_folder_by_names_and_ids(mine):
    condition, sample = last(f"folder:{mine}")
    assert condition == Condition("mine")
    order = ["dog", "frog", "horse", "cat"]  # as the folders sort, "n1" being the cat's id
    assert [CLASSES[i] for i in sample.labels] == order
    assert sample.images[:][:, 0, 0, 0].tolist() == [10, 20, 30, 0]
    assert sample.images.shape == (4, 3, 32, 32)
    assert sample.rows is None


def test_a_folder_of_some_classes(mine, capsys):
    draw(mine / "extra" / "a.png", 1)
    (mine / "n1" / "a.png").unlink()
    (mine.parent / "map.yaml").write_text("extra: null\n")
    found = resolve([f"folder:{mine}?classes={mine.parent}/map.yaml"], dataset(), table="cifar", seed=0)
    assert [one.label for one in found] == ["clean", "clean[mine]", "mine"]
    assert list(found.values())[1].rows.tolist() == [1, 2, 3, 5, 6, 7]
    message = said(capsys)
    assert "no images of the class n1" in message
    assert "3 of the 4 classes of animals" in message


def test_classes_are_mapped(mine):
    (mine / "dog").rename(mine / "Hund")
    (mine / "frog").rename(mine / "3")
    (mine.parent / "map.yaml").write_text("Hund: dog\n3: n3\n")
    _, sample = last(f"folder:{mine}?classes={mine.parent}/map.yaml&name=german")
    assert sorted(sample.labels.tolist()) == [0, 1, 2, 3]
    by_shade = dict(zip(sample.images[:][:, 0, 0, 0].tolist(), sample.labels.tolist(), strict=True))
    assert by_shade == {0: 0, 10: 1, 20: 2, 30: 3}


def test_a_line_of_a_class_map_that_fits_nothing_is_said(mine, capsys):
    (mine.parent / "map.yaml").write_text("dog: dog\nHnd: dog\n")
    last(f"folder:{mine}?classes={mine.parent}/map.yaml")
    assert "the class map names Hnd, and there are no such images" in said(capsys)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Hund: dgo", "says `Hund: dgo`, which is no class of animals; the nearest is 'dog'"),
        ("Hund: n7", "says `Hund: n7`, which is no class of animals; the nearest is 'n"),
        ("other: dog", "'Hund' is no class of animals; it has cat, dog, frog, horse"),
        ("- Hund", "must hold lines"),
        ("Hund: [dog]", "must hold lines"),
        ("Hund: [dog", "Cannot read the class map"),
    ],
)
def test_class_maps_that_cannot_be_used(mine, content, message):
    (mine / "dog").rename(mine / "Hund")
    (mine.parent / "map.yaml").write_text(content)
    with pytest.raises(InputError, match=message):
        last(f"folder:{mine}?classes={mine.parent}/map.yaml")


def test_an_unknown_class_says_how_to_map_it(mine):
    (mine / "frog").rename(mine / "forg")
    with pytest.raises(InputError, match=r"'forg' .* nearest is 'frog'\..*`forg: frog`, or `forg: null`"):
        last(f"folder:{mine}")


def test_unlabelled_images(tmp_path):
    for i in range(3):
        draw(tmp_path / "photos" / f"{i}.png", i)
    condition, sample = last(f"folder:{tmp_path}/photos")
    assert condition == Condition("photos")
    assert sample.labels is None
    assert sample.images.shape == (3, 3, 32, 32)
    assert last(f"folder:{tmp_path}/photos", unlabelled())[1].labels is None


def test_labels_are_not_used_where_the_data_set_has_none(mine):
    condition, sample = last(f"folder:{mine}", unlabelled())
    assert sample.labels is None
    assert condition.split == "test"


def test_copies_are_said(mine, capsys):
    draw(mine / "dog" / "again.png", 10)
    assert len(last(f"folder:{mine}")[1].images) == 5
    assert "mine: 1 of 5 images are copies" in said(capsys)


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_arrays_by_name_by_index_and_without_labels(tmp_path):
    images = noise(6, 20).permute(0, 2, 3, 1).numpy()
    expected = resize(torch.from_numpy(images).permute(0, 3, 1, 2), 32)
    by_name = save(tmp_path / "a.npz", images=images, labels=np.array(["dog", "n1", "frog", "horse", "dog", "cat"]))
    by_index = save(tmp_path / "b.npz", images=images, labels=np.array([1, 0, 2, 3, 1, 0]))
    for path in (by_name, by_index):
        condition, sample = last(f"npz:{path}")
        assert condition.split == "test"
        assert sample.labels.tolist() == [1, 0, 2, 3, 1, 0]
        assert torch.equal(sample.images, expected)
    assert last(f"npz:{save(tmp_path / 'c.npz', images=images[..., 0])}")[1].labels is None


def test_a_label_that_is_a_class_name_is_no_index(tmp_path):
    """Digits called 1 to 4: label 1 is the first class, not the second."""
    path = save(tmp_path / "x.npz", images=noise(4).permute(0, 2, 3, 1).numpy(), labels=np.array([1, 2, 3, 4]))
    data = dataset(classes=("1", "2", "3", "4"), ids=())
    assert last(f"npz:{path}", data)[1].labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": np.zeros(3)}, "holds no images"),
        ({"images": np.zeros((4, 8, 8, 3))}, "must be uint8"),
        ({"images": np.zeros((0, 8, 8, 3), np.uint8)}, "must be uint8"),
        ({"images": np.zeros((4, 8, 8, 3), np.uint8), "labels": np.zeros(3, int)}, "labels must be"),
        ({"images": np.zeros((4, 8, 8, 3), np.uint8), "labels": np.zeros(4)}, "labels must be"),
        (
            {"images": np.zeros((4, 8, 8, 3), np.uint8), "labels": np.full(4, 4)},
            "'4' is no class of animals; the nearest is 'n4'",
        ),
        ({"images": np.array([{}], dtype=object)}, "is not an .npz of plain arrays"),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path, arrays, message):
    with pytest.raises(InputError, match=message):
        last(f"npz:{save(tmp_path / 'x.npz', **arrays)}")


def test_other_files(tmp_path):
    (tmp_path / "x.npz").write_text("hello")
    np.save(tmp_path / "y.npy", np.zeros(3))
    for name in ("x.npz", "y.npy"):
        with pytest.raises(InputError, match=r"is not an \.npz of plain arrays"):
            last(f"npz:{tmp_path}/{name}")
    with pytest.raises(InputError, match="No file"):
        last(f"npz:{tmp_path}/none.npz")


def test_paired_images_are_the_test_images_in_their_order(tmp_path):
    images = (noise(8).permute(0, 2, 3, 1) // 2).numpy()
    condition, sample = last(f"npz:{save(tmp_path / 'darker.npz', images=images)}?paired=true")
    assert condition == Condition("darker")
    assert sample.rows.tolist() == list(range(8))
    np.testing.assert_array_equal(sample.labels, dataset().test.labels)
    assert torch.equal(sample.images, dataset().test.images // 2)


@pytest.mark.parametrize(
    ("n", "labels", "message"),
    [
        (7, None, "has 7 images and the test split of animals 8"),
        (8, np.arange(8)[::-1] % 4, "image 0 has another class"),
    ],
)
def test_images_that_are_not_paired(tmp_path, n, labels, message):
    arrays = {"images": noise(n).permute(0, 2, 3, 1).numpy()} | ({} if labels is None else {"labels": labels})
    with pytest.raises(InputError, match=message):
        last(f"npz:{save(tmp_path / 'x.npz', **arrays)}?paired=true")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("paird=true", "Did you mean 'paired'"),
        ("paired=yes", "paired must be true or false"),
        ("name=clean", "cannot be called 'clean'"),
        ("name=fog", "cannot be called 'fog'"),
        ("name=%3F", "cannot be called ''"),
        ("classes=none.yaml", "Cannot read the class map"),
    ],
)
def test_options_that_cannot_be_used(mine, query, message):
    with pytest.raises(InputError, match=message):
        last(f"folder:{mine}?{query}")


def test_unusable_folders(tmp_path, mine):
    with pytest.raises(InputError, match="No folder"):
        last("folder:nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="No images in"):
        last(f"folder:{tmp_path}/empty")
    draw(mine / "a.png", 1)
    with pytest.raises(InputError, match="both beside and inside"):
        last(f"folder:{mine}")


def test_a_name_is_fit_for_files_and_belongs_to_one_shift(mine, tmp_path):
    assert last(f"folder:{mine}?name=my photos/2")[0].label == "my-photos-2"
    assert last(f"folder:{mine.rename(tmp_path / 'v1.5')}")[0].label == "v1.5"
    (tmp_path / "v1.5").rename(mine)
    for i in range(2):
        draw(tmp_path / "other" / "mine" / f"{i}.png", i)
    both = [f"folder:{mine}", f"folder:{tmp_path}/other/mine"]
    with pytest.raises(InputError, match=r"are both called mine: add \?name="):
        resolve(both, dataset(), table="cifar", seed=0)
    found = resolve([both[0], f"{both[1]}?name=second", both[0]], dataset(), table="cifar", seed=0)
    assert [one.label for one in found] == ["clean", "mine", "second"]


def test_truncated_images_are_named_when_they_are_decoded(mine):
    file = mine / "dog" / "a.png"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(InputError, match=r"dog/a\.png"):
        last(f"folder:{mine}")[1].images[:]
