"""Natural shifts, in the formats in which they are distributed."""

import gzip
import json

import numpy as np
import pytest
import torch
from PIL import Image

from shiftbench.data.base import load_dataset
from shiftbench.data.imagenet import IMAGENET10, IMAGENET_DOGS15, imagenet_names
from shiftbench.data.natural import member_wnids
from shiftbench.data.shifts import resolve
from shiftbench.errors import InputError
from shiftbench.images import resize
from shiftbench.records import CLEAN, Condition, Dataset, Skipped, Split
from shiftbench.registry import SHIFTS

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def noise(n, size=32, seed=0):
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def dataset(root, name="cifar10", classes=CIFAR10, ids=(), each=2, size=32):
    labels = np.tile(np.arange(len(classes)), each)
    split = Split(noise(len(labels), size), labels)
    return Dataset(name, split, split, classes, ids, str(root))


def one_shift(name, data):
    """Its condition and sample; the clean ones are looked at by other tests."""
    found = resolve([name], data, table="cifar", seed=0)
    assert next(iter(found)) == CLEAN
    return list(found.items())[-1]


def said(capsys):
    return " ".join(capsys.readouterr().err.split())


def draw(file, value, size=(40, 30)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).save(file)


# CIFAR-10.1 and CIFAR-10.2

LENGTHS = {"v4": 2021, "v6": 2000}


def write_cifar101(folder, version, **changed):
    n = LENGTHS[version]
    arrays = {
        "data": np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8),
        "labels": (np.arange(n) % 10).astype(np.int32),
    } | changed
    folder.mkdir(parents=True, exist_ok=True)
    for part, array in arrays.items():
        if array is not None:
            np.save(folder / f"cifar10.1_{version}_{part}.npy", array)
    return arrays


@pytest.mark.parametrize("version", LENGTHS)
@pytest.mark.parametrize("folder", [".", "CIFAR-10.1/datasets", "cifar-10.1"])
def test_cifar101(tmp_path, version, folder):
    arrays = write_cifar101(tmp_path / folder, version)
    condition, sample = one_shift(f"cifar10.1_{version}", dataset(tmp_path))
    assert condition == Condition(f"cifar10.1_{version}")
    np.testing.assert_array_equal(sample.images.permute(0, 2, 3, 1), arrays["data"])
    np.testing.assert_array_equal(sample.labels, arrays["labels"])
    assert sample.labels.dtype == np.int64
    assert sample.rows is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data": np.zeros((2021, 32, 32, 3), np.uint8)}, r"must be uint8 \(2000, 32, 32, 3\), not uint8 \(2021, 32"),
        ({"data": np.zeros((2000, 3, 32, 32), np.uint8)}, r"must be uint8 \(2000, 32, 32, 3\)"),
        ({"data": np.zeros((2000, 32, 32, 3), np.float32)}, "not float32"),
        (
            {"labels": np.zeros(1999, np.int32)},
            r"labels .* must be integers \(2000,\) from 0 to 9, not int32 \(1999,\)",
        ),
        ({"labels": np.arange(2000)}, "from 0 to 1999"),
        ({"labels": np.linspace(0, 1, 2000)}, "not float64"),
        ({"labels": np.array([{}] * 2000)}, "not a whole .npy file of plain numbers"),
        ({"labels": None}, "no cifar10.1_v6_labels.npy"),
    ],
)
def test_cifar101_of_other_shapes(tmp_path, changed, message):
    write_cifar101(tmp_path, "v6", **changed)
    with pytest.raises(InputError, match=message):
        one_shift("cifar10.1_v6", dataset(tmp_path))
    found = resolve(["natural"], dataset(tmp_path), table="cifar", seed=0)
    assert isinstance(found[Condition("cifar10.1_v6")], Skipped)


def test_copies_are_said_and_kept(tmp_path, capsys):
    data = np.random.default_rng(0).integers(0, 256, (2000, 32, 32, 3), dtype=np.uint8)
    data[5] = data[1500] = data[3]
    write_cifar101(tmp_path, "v6", data=data)
    assert len(one_shift("cifar10.1_v6", dataset(tmp_path))[1].images) == 2000
    assert "cifar10.1_v6: 2 of 2,000 images are copies" in said(capsys)


def test_other_images_have_another_digest(tmp_path):
    write_cifar101(tmp_path / "a", "v6")
    write_cifar101(tmp_path / "b", "v6", data=np.ones((2000, 32, 32, 3), np.uint8))
    one, two = (one_shift("cifar10.1_v6", dataset(tmp_path / part))[1].content for part in "ab")
    assert one != two


def test_cifar102(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2000, 32, 32, 3), dtype=np.uint8)
    keywords = np.array(["a", None], dtype=object)  # the official file has pickled arrays too
    np.savez(tmp_path / "cifar102_test.npz", images=images, labels=np.arange(2000) % 10, keywords=keywords)
    _, sample = one_shift("cifar10.2", dataset(tmp_path))
    np.testing.assert_array_equal(sample.images.permute(0, 2, 3, 1), images)
    np.savez(tmp_path / "cifar102_test.npz", images=images)
    with pytest.raises(InputError, match="has no array 'labels'"):
        one_shift("cifar10.2", dataset(tmp_path))


# Class folders


@pytest.mark.parametrize("folder", ["CINIC-10", "cinic10", "cinic-10-imagenet"])
def test_cinic10_is_its_imagenet_part(tmp_path, folder):
    folder = tmp_path / folder / "test"
    for c, name in enumerate(CIFAR10):
        draw(folder / name / f"n0{c}_12.png", 10 * c, (32, 32))
        draw(folder / name / f"cifar10-test-{c}.png", 255, (32, 32))
    condition, sample = one_shift("cinic10", dataset(tmp_path))
    assert condition.split == "test"
    assert sample.labels.tolist() == list(range(10))
    assert sample.images[:][:, 0, 0, 0].tolist() == [10 * c for c in range(10)]


@pytest.mark.parametrize(
    ("shift", "folder"),
    [
        ("imagenet_v2_matched_frequency", "imagenetv2-matched-frequency-format-val"),
        ("imagenet_v2_threshold0.7", "imagenetv2-threshold0.7-format-val"),
        ("imagenet_v2_top_images", "imagenetv2-top-images-format-val"),
    ],
)
def test_imagenet_v2_folders_are_numbers(tmp_path, shift, folder):
    """All 1,000 folders, which sort as strings: 0, 1, 10, 100, 101, ..."""
    wnids = list(imagenet_names())
    for number, wnid in enumerate(wnids):
        if wnid in IMAGENET10 or number in (1, 2, 10, 100):
            draw(tmp_path / folder / str(number) / f"{number:040x}.jpeg", number % 250)
        else:
            (tmp_path / folder / str(number)).mkdir(parents=True)
    data = dataset(tmp_path, "imagenet10", IMAGENET10, IMAGENET10, size=16)
    condition, sample = one_shift(shift, data)
    assert condition == Condition(shift)
    expected = sorted((str(wnids.index(wnid)), i) for i, wnid in enumerate(IMAGENET10))
    assert sample.labels.tolist() == [i for _, i in expected]
    shades = sample.images[:][:, 0, 8, 8].int() - torch.tensor([int(number) % 250 for number, _ in expected])
    assert shades.abs().max() <= 1


@pytest.mark.parametrize(("shift", "folder"), [("imagenet_r", "imagenet-r"), ("imagenet_sketch", "sketch")])
def test_some_classes_are_compared_on_those(tmp_path, capsys, shift, folder):
    """ImageNet-R has three classes of ImageNet-10; a sketch folder that holds no more of them is treated alike."""
    common = sorted(set(IMAGENET10) & set(member_wnids("imagenet_r")))
    for i, wnid in enumerate([*common, "n01443537"]):
        draw(tmp_path / folder / wnid / "art_0.jpg", 50 * i)
    data = dataset(tmp_path, "imagenet10", IMAGENET10, IMAGENET10, size=16)
    found = resolve([shift], data, table="imagenet", seed=0)
    assert [one.label for one in found] == ["clean", f"clean[{shift}]", shift]
    _, clean, shifted = found.values()
    assert [IMAGENET10[i] for i in shifted.labels] == common
    assert clean.rows.tolist() == [i for i, label in enumerate(data.test.labels) if IMAGENET10[label] in common]
    assert f"{shift} has 3 of the 10 classes of imagenet10" in (message := said(capsys))
    assert all(wnid in message for wnid in common)


@pytest.mark.parametrize(
    ("shift", "data", "classes", "common"),
    [
        ("imagenet_r", "imagenet10", IMAGENET10, 3),
        ("imagenet_a", "imagenet10", IMAGENET10, 1),
        ("imagenet_r", "imagenet_dogs15", IMAGENET_DOGS15, 4),
        ("imagenet_a", "imagenet_dogs15", IMAGENET_DOGS15, 2),
    ],
)
def test_fewer_than_three_classes_in_common_are_skipped(tmp_path, shift, data, classes, common):
    made = dataset(tmp_path, data, classes, classes, size=16)
    assert len(set(classes) & set(member_wnids(shift))) == common
    if common < 3:
        condition, skipped = one_shift(shift, made)
        assert condition == Condition(shift)
        assert skipped.reason == f"{shift} has {common} of the {len(classes)} classes of {data}; 3 are needed"
    else:
        with pytest.raises(InputError, match="Unpack"):
            one_shift(shift, made)


def test_a_folder_that_lacks_classes_counts_as_what_it_holds(tmp_path):
    for wnid in IMAGENET10[:2]:
        draw(tmp_path / "imagenet-sketch" / wnid / "a.jpg", 1)
    (tmp_path / "imagenet-sketch" / IMAGENET10[2]).mkdir()  # an empty class
    data = dataset(tmp_path, "imagenet10", IMAGENET10, IMAGENET10, size=16)
    assert "has 2 of the 10 classes" in one_shift("imagenet_sketch", data)[1].reason


def test_any_folder_of_wnids_has_imagenets_shifts(tmp_path):
    """A user's ImageFolder has the wnids as its classes' names."""
    common = sorted(member_wnids("imagenet_r"))[:4]
    for wnid in common:
        draw(tmp_path / "imagenet-r" / wnid / "a.jpg", 9)
    condition, sample = one_shift("imagenet_r", dataset(tmp_path, "mine", tuple(common), size=16))
    assert condition.split == "test"
    assert sample.labels.tolist() == [0, 1, 2, 3]


def test_imagenet_o_has_no_labels(tmp_path):
    for wnid in ("n03000000", "n03000001"):
        draw(tmp_path / "imagenet-o" / wnid / "a.JPEG", 7)
    condition, sample = one_shift("imagenet_o", dataset(tmp_path, "imagenet10", IMAGENET10, IMAGENET10, size=16))
    assert condition == Condition("imagenet_o")
    assert sample.labels is None
    assert sample.images.shape == (2, 3, 16, 16)


def test_an_empty_folder(tmp_path):
    (tmp_path / "imagenet-o").mkdir()
    (tmp_path / "CINIC-10" / "test" / "cat").mkdir(parents=True)
    with pytest.raises(InputError, match="No images in"):
        one_shift("imagenet_o", dataset(tmp_path, "imagenet10", IMAGENET10, IMAGENET10))
    with pytest.raises(InputError, match="No images of the classes of cifar10"):
        one_shift("cinic10", dataset(tmp_path))


@pytest.mark.realdata
def test_the_lists_are_the_official_ones(real_data):
    lists = real_data / "lists"
    for name in ("imagenet_a", "imagenet_r"):
        assert list(member_wnids(name)) == (lists / f"{name}_synsets.txt").read_text().split()
        indices = [int(line) for line in (lists / f"{name}_indices.txt").read_text().split()]
        assert [list(imagenet_names())[i] for i in indices] == list(member_wnids(name))


@pytest.mark.realdata
def test_every_imagenet_v2_folder_is_the_official_class(real_data):
    """The authors' own table of class numbers, and every file of the matched-frequency set."""
    wnids = list(imagenet_names())
    info = json.loads((real_data / "lists" / "imagenetv2_class_info.json").read_text())
    assert {entry["cid"]: entry["wnid"] for entry in info} == dict(enumerate(wnids))
    with gzip.open(real_data / "lists" / "imagenetv2_matched_frequency_files.tsv.gz", "rt") as table:
        rows = [line.rstrip("\n").split("\t") for line in table]
    assert len(rows) == 10_000
    assert all(wnids[int(number)] == wnid for number, wnid, _ in rows)


@pytest.mark.realdata
def test_imagenet_v2_tree_of_the_official_names(real_data, tmp_path):
    """The official tree of the Dogs' files, by name; what is in them does not matter to their labels."""
    with gzip.open(real_data / "lists" / "imagenetv2_matched_frequency_files.tsv.gz", "rt") as table:
        for line in table:
            number, wnid, name = line.rstrip("\n").split("\t")
            if wnid in IMAGENET_DOGS15:
                file = tmp_path / "imagenetv2-matched-frequency-format-val" / number / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(b"")
    data = dataset(tmp_path, "imagenet_dogs15", IMAGENET_DOGS15, IMAGENET_DOGS15, size=16)
    _, sample = one_shift("imagenet_v2_matched_frequency", data)
    assert np.bincount(sample.labels).tolist() == [10] * 15


# Another data set's test images


def test_stl10_and_cifar10_share_nine_classes(tmp_path, monkeypatch, capsys):
    stl = dataset(tmp_path, "stl10", STL10, size=96, each=1)
    cifar = dataset(tmp_path, classes=CIFAR10, each=1)
    serve(monkeypatch, stl10=stl, cifar10=cifar)
    found = resolve(["stl10"], cifar, table="cifar", seed=0)
    _, clean, sample = found.values()
    assert [CIFAR10[i] for i in sample.labels] == [c.replace("car", "automobile") for c in STL10 if c != "monkey"]
    assert sample.images.shape == (9, 3, 32, 32)
    kept = [i for i in range(10) if STL10[i] != "monkey"]
    assert torch.equal(sample.images, resize(stl.test.images, 32)[kept])
    assert [CIFAR10[i] for i in clean.labels] == [c for c in CIFAR10 if c != "frog"]
    assert "9 of the 10 classes" in said(capsys)
    _, _, back = resolve(["cifar10"], stl, table="cifar", seed=0).values()
    assert [STL10[i] for i in back.labels] == [c.replace("automobile", "car") for c in CIFAR10 if c != "frog"]
    assert back.images.shape == (9, 3, 96, 96)


def serve(monkeypatch, **sets):
    """Stands in for data sets whose official files are not here; their loaders have tests of their own."""
    from shiftbench.data import natural
    from shiftbench.data.sources import Status

    monkeypatch.setattr(natural, "status", lambda name, root: Status(True, "", ""))
    load = load_dataset
    monkeypatch.setattr(
        natural, "load_dataset", lambda name, **options: sets[name] if name in sets else load(name, **options)
    )


@pytest.mark.parametrize("name", ["mnist", "usps"])
def test_digits_are_a_shift_of_other_digits(tmp_path, name):
    data = dataset(tmp_path, name, tuple("0123456789"), size=28)
    condition, sample = one_shift("digits", data)
    official = load_dataset("digits", size=28).test
    assert condition == Condition("digits")
    assert torch.equal(sample.images, official.images)
    np.testing.assert_array_equal(sample.labels, official.labels)


def test_mnist_and_usps_are_resized(tmp_path, monkeypatch):
    small = dataset(tmp_path, "usps", tuple("0123456789"), size=16)
    serve(monkeypatch, usps=small)
    _, sample = one_shift("usps", dataset(tmp_path, "mnist", tuple("0123456789"), size=28))
    assert torch.equal(sample.images, resize(small.test.images, 28))
    np.testing.assert_array_equal(sample.labels, small.test.labels)


@pytest.mark.realdata
@pytest.mark.parametrize("part", ["mnist_test", "usps_test"])
def test_real_digits_for_the_digits(real_data, part):
    data = load_dataset("digits")
    found = resolve([f"npz:{real_data}/digits/{part}.npz"], data, table="cifar", seed=0)
    condition, sample = list(found.items())[-1]
    assert condition == Condition(part)
    with np.load(real_data / "digits" / f"{part}.npz") as arrays:
        np.testing.assert_array_equal(sample.labels, arrays["labels"])
        means = arrays["images"].mean(axis=(1, 2))
    assert sample.images.shape[1:] == (3, 32, 32)
    assert np.abs(sample.images.float().mean(dim=(1, 2, 3)).numpy() - means).max() < 1.5


# The JPEG copy


def test_jpegs_are_paired_within_their_class(tmp_path):
    data = dataset(tmp_path)
    order = np.argsort(data.test.labels, kind="stable")
    for row in order:
        c = int(data.test.labels[row])
        place = int((data.test.labels[:row] == c).sum())
        draw(tmp_path / "CIFAR-10-images" / "test" / CIFAR10[c] / f"{place:04}.jpg", 10 * row, (32, 32))
    condition, sample = one_shift("cifar10_jpeg", data)
    assert condition == Condition("cifar10_jpeg")
    assert sample.rows.tolist() == list(range(20))
    np.testing.assert_array_equal(sample.labels, data.test.labels)
    assert (sample.images[:][:, 0, 0, 0].int() - 10 * torch.arange(20)).abs().max() <= 1
    (tmp_path / "CIFAR-10-images" / "test" / "cat" / "0001.jpg").unlink()
    with pytest.raises(InputError, match=r"must hold 20 images, .* it holds 19"):
        one_shift("cifar10_jpeg", data)


@pytest.mark.realdata
def test_real_jpegs_are_their_originals(real_data):
    data = load_dataset("cifar10", root=str(real_data))
    _, sample = one_shift("cifar10_jpeg", data)
    np.testing.assert_array_equal(sample.rows, np.arange(10_000))
    official = np.load(real_data / "cifar10-jpeg" / "canonical_test.npy")  # by matching pixels, in the order of paths
    np.testing.assert_array_equal(official, np.argsort(data.test.labels, kind="stable"))
    rows = np.arange(0, 10_000, 37)
    away = (sample.images[rows].float() - data.test.images[rows].float()).square().mean(dim=(1, 2, 3)).sqrt()
    assert away.mean() == pytest.approx(7.8, abs=0.5)  # what was measured between the two sets when they were made
    assert away.max() < 25  # an unrelated image is at 60 or more


def test_the_records_say_where_from_and_whom_to_cite():
    for name in SHIFTS.names("natural"):
        shift = SHIFTS.load(name)
        assert shift.name == name
        assert shift.kind == "natural"
        assert shift.source
        assert shift.citation or name == "cifar10_jpeg"
