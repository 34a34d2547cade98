"""ImageNet, its subsets and Tiny-ImageNet in their official folders, with a handful of small images."""

import numpy as np
import pytest
import torch
from PIL import Image

from shiftbench.data.base import load_dataset
from shiftbench.data.imagenet import IMAGENET10, IMAGENET_DOGS15, imagenet_names
from shiftbench.errors import InputError
from shiftbench.images import ImageFiles, take

OTHERS = ("n01440764", "n01443537", "n02012849", "n03126707")


def draw(folder, name, value, size=(50, 40)):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(folder / name, "JPEG")


def write_imagenet(folder, wnids, train=3, val=2):
    """Class c has grey level 20 * c, plus 1 in val."""
    for c, wnid in enumerate(wnids):
        for i in range(train):
            draw(folder / "train" / wnid, f"{wnid}_{i}.JPEG", 20 * c)
        for i in range(val):
            draw(folder / "val" / wnid, f"ILSVRC2012_val_{len(wnids) * i + c:08}.JPEG", 20 * c + 1)


def write_tiny(folder, wnids):
    """Class c has grey level 20 * c in train; val is in the reverse order of the classes."""
    for c, wnid in enumerate(wnids):
        for i in range(2):
            draw(folder / "train" / wnid / "images", f"{wnid}_{i}.JPEG", 20 * c, (64, 64))
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
        draw(folder / "val" / "images", f"val_{len(wnids) - c}.JPEG", 20 * c, (64, 64))
    lines = [f"val_{len(wnids) - c}.JPEG\t{wnid}\t0\t32\t44\t62\n" for c, wnid in enumerate(wnids)]
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "wnids.txt").write_text("\n".join(reversed(wnids)))
    (folder / "words.txt").write_text("".join(f"{wnid}\tthing {wnid[-2:]}, stuff\n" for wnid in (*wnids, "n99999999")))


def levels(images):
    """The grey level of each image, which JPEG keeps for uniform images."""
    return images[:, 0, 8, 8].tolist()


def test_the_names():
    names = imagenet_names()
    assert len(names) == len(set(names.values())) == 1000
    assert list(names) == sorted(names)
    assert (names["n01440764"], names["n15075141"]) == ("tench", "toilet tissue")
    assert names["n02012849"] == "crane (n02012849)"


def test_the_lists():
    assert (len(set(IMAGENET10)), len(set(IMAGENET_DOGS15))) == (10, 15)
    names = imagenet_names()
    assert [names[wnid] for wnid in IMAGENET10[:3]] == ["king penguin", "Maltese dog", "snow leopard"]
    dogs = [names[wnid] for wnid in IMAGENET_DOGS15]
    assert (dogs[0], dogs[-1]) == ("Maltese dog", "chow")
    assert all("n02085620" <= wnid <= "n02113978" for wnid in IMAGENET_DOGS15)  # where ImageNet has its dogs


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "wnids"), [("imagenet10", IMAGENET10), ("imagenet_dogs15", IMAGENET_DOGS15)])
def test_the_published_lists(real_data, name, wnids):
    assert (real_data / "lists" / f"{name}_wnids.txt").read_text().split() == list(wnids)


@pytest.mark.realdata
def test_real_photographs(real_data, tmp_path):
    """One real photograph per class of ImageNet-10 as train and val."""
    for part in ("train", "val"):
        (tmp_path / "imagenet10" / part).mkdir(parents=True)
        for wnid in IMAGENET10:
            (tmp_path / "imagenet10" / part / wnid).symlink_to(real_data / "imagenet-samples" / wnid)
    data = load_dataset("imagenet10", root=str(tmp_path), size=96)
    assert data.train.images[:].shape == (10, 3, 96, 96)
    assert data.train.images[:].float().std(dim=(1, 2, 3)).min() > 10


@pytest.mark.parametrize("place", ["imagenet10", "imagenet", "ILSVRC2012", "."])
def test_a_subset_alone_or_within_imagenet(tmp_path, place):
    write_imagenet(tmp_path / place, sorted({*IMAGENET10, *OTHERS}))
    data = load_dataset("imagenet10", root=str(tmp_path), size=32)
    assert (data.name, data.ids) == ("imagenet10", IMAGENET10)
    assert data.classes[0] == "king penguin"
    assert isinstance(data.train.images, ImageFiles)
    assert (data.train.images.shape, data.test.images.shape) == ((30, 3, 32, 32), (20, 3, 32, 32))
    assert data.test.labels.tolist() == np.repeat(np.arange(10), 2).tolist()
    assert data.test.labels.dtype == np.int64
    for split in (data.train, data.test):
        folders = [file.split("/")[-2] for file in split.images.files]
        assert folders == [IMAGENET10[label] for label in split.labels]


def test_the_subset_s_own_folder_comes_first(tmp_path):
    write_imagenet(tmp_path / "imagenet10", IMAGENET10, train=1, val=1)
    write_imagenet(tmp_path / "imagenet", IMAGENET10, train=2, val=2)
    assert len(load_dataset("imagenet10", root=str(tmp_path)).train) == 10


def test_dogs(tmp_path):
    write_imagenet(tmp_path / "imagenet_dogs15", IMAGENET_DOGS15, train=1, val=1)
    data = load_dataset("imagenet_dogs15", root=str(tmp_path))
    assert (data.ids, data.test.images.shape) == (IMAGENET_DOGS15, (15, 3, 224, 224))


def test_images_are_decoded_when_asked_for(tmp_path):
    write_imagenet(tmp_path / "imagenet", OTHERS)
    images = load_dataset("imagenet", root=str(tmp_path), size=16, classes=OTHERS).test.images
    assert levels(images[2:6]) == [21, 21, 41, 41]
    assert levels(take(images, np.array([7, 0]))[:]) == [61, 1]
    assert images[:0].shape == (0, 3, 16, 16)


def test_chosen_classes_in_their_order(tmp_path):
    write_imagenet(tmp_path / "imagenet", OTHERS)
    chosen = (OTHERS[3], OTHERS[0], OTHERS[2])
    data = load_dataset("imagenet", root=str(tmp_path), size=16, classes=list(chosen))
    assert (data.name, data.ids) == ("imagenet_3of1000", chosen)
    assert data.classes == ("crane (n03126707)", "tench", "crane (n02012849)")
    assert levels(data.test.images[:]) == [61, 61, 1, 1, 41, 41]
    assert data.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{wnid} a name\n" for wnid in chosen))
    assert load_dataset("imagenet", root=str(tmp_path), size=16, classes=str(listed)).fingerprint == data.fingerprint


def test_all_thousand_classes_are_needed(tmp_path):
    write_imagenet(tmp_path / "imagenet", OTHERS)
    with pytest.raises(InputError, match=r"train' lacks 996 of 1,000 class folders: n01484850, .* and 991 more\."):
        load_dataset("imagenet", root=str(tmp_path))


def test_another_number_of_images_is_said(tmp_path, capsys):
    write_imagenet(tmp_path / "imagenet10", IMAGENET10)
    load_dataset("imagenet10", root=str(tmp_path))
    assert "imagenet10: 30 train and 20 test images; the official set has 13,000 and 500" in capsys.readouterr().err


def test_a_missing_class_in_val(tmp_path):
    write_imagenet(tmp_path / "imagenet", IMAGENET10)
    (tmp_path / "imagenet" / "val" / IMAGENET10[4]).rename(tmp_path / "imagenet" / "val" / "elsewhere")
    with pytest.raises(InputError, match=rf"val' lacks 1 of 10 class folders: {IMAGENET10[4]}\."):
        load_dataset("imagenet10", root=str(tmp_path))


def test_an_empty_class(tmp_path):
    write_imagenet(tmp_path / "imagenet", IMAGENET10)
    for file in (tmp_path / "imagenet" / "train" / IMAGENET10[4]).iterdir():
        file.unlink()
    with pytest.raises(InputError, match=rf"The class folder '.*train/{IMAGENET10[4]}' holds no images"):
        load_dataset("imagenet10", root=str(tmp_path))


def test_a_flat_val(tmp_path):
    write_imagenet(tmp_path / "imagenet", IMAGENET10, val=0)
    draw(tmp_path / "imagenet" / "val", "ILSVRC2012_val_00000001.JPEG", 9)
    with pytest.raises(InputError, match=r"not sorted into val/WNID/\. .*ILSVRC2012_devkit_t12"):
        load_dataset("imagenet10", root=str(tmp_path))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["n01440764", "tench"], "'tench' is no id"),
        (["n01440764", "n01440764"], "two or more different ids"),
        (["n01440764"], "two or more different ids"),
        ("no/list.txt", r"data\.classes=no/list\.txt: no such list"),
    ],
)
def test_classes_that_are_none(tmp_path, classes, message):
    write_imagenet(tmp_path / "imagenet", OTHERS, val=1)
    with pytest.raises(InputError, match=message):
        load_dataset("imagenet", root=str(tmp_path), classes=classes)


@pytest.mark.parametrize("size", [0, 7, 2.5, "large", True])
def test_sizes_that_are_none(tmp_path, size):
    with pytest.raises(InputError, match=r"data\.size="):
        load_dataset("imagenet10", root=str(tmp_path), size=size)


def test_imagenet_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"no imagenet in .*image-net\.org"):
        load_dataset("imagenet", root=str(tmp_path))


def test_tiny_imagenet(tmp_path, capsys):
    write_tiny(tmp_path / "tiny-imagenet-200", OTHERS)
    data = load_dataset("tiny_imagenet", root=str(tmp_path))
    assert data.ids == OTHERS
    assert data.classes == ("thing 64", "thing 37", "thing 49", "thing 07")
    assert isinstance(data.train.images, torch.Tensor)
    assert data.train.images.shape == (8, 3, 64, 64)
    assert levels(data.train.images) == [0, 0, 20, 20, 40, 40, 60, 60]
    assert [20 * label for label in data.test.labels] == levels(data.test.images)
    assert "the official set has 100,000 and 10,000" in capsys.readouterr().err


def test_tiny_imagenet_s_size(tmp_path):
    write_tiny(tmp_path / "tiny-imagenet-200", OTHERS)
    assert load_dataset("tiny_imagenet", root=str(tmp_path), size=32).test.images.shape == (4, 3, 32, 32)


@pytest.mark.parametrize(
    ("line", "message"),
    [("", r"val_1\.JPEG' has no label in"), ("val_1.JPEG\tn00000000\t0\t1\n", r"has the unknown class 'n00000000' in")],
)
def test_tiny_imagenet_without_a_label(tmp_path, line, message):
    write_tiny(tmp_path / "tiny-imagenet-200", OTHERS)
    file = tmp_path / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]) + line)
    with pytest.raises(InputError, match=message):
        load_dataset("tiny_imagenet", root=str(tmp_path))


def test_tiny_imagenet_without_annotations(tmp_path):
    write_tiny(tmp_path / "tiny-imagenet-200", OTHERS)
    (tmp_path / "tiny-imagenet-200" / "val" / "val_annotations.txt").unlink()
    with pytest.raises(InputError, match=r"no val/val_annotations\.txt in .*leave it as it is"):
        load_dataset("tiny_imagenet", root=str(tmp_path))
