"""The official corrupted sets, in their own layouts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shiftbench.corruptions import corrupt
from shiftbench.corruptions.export import write_set
from shiftbench.data.corrupted import load_cifar_c
from shiftbench.data.shifts import resolve
from shiftbench.errors import InputError
from shiftbench.images import ImageFiles, centre_crop, chunks
from shiftbench.records import Condition, Dataset, Split

LABELS = np.array([2, 0, 1, 2, 0, 1])
WNIDS = ("n01440764", "n02119789", "n03445777", "n07747607")


def noise(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def corrupted(tmp_path):
    images = noise(6, 3, 32, 32)
    write_set(tmp_path / "CIFAR-10-C", images, LABELS, names=["fog", "spatter"], table="cifar")
    return tmp_path / "CIFAR-10-C", images


def cifar(images, root, labels=LABELS, name="cifar10"):
    split = Split(images, labels)
    return Dataset(name, split, split, ("a", "b", "c"), root=str(root))


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_a_written_set_reads_back(corrupted, severity):
    folder, images = corrupted
    split = load_cifar_c(folder, "fog", severity)
    assert torch.equal(split.images, corrupt(images, "fog", severity, table="cifar"))
    assert split.labels.tolist() == LABELS.tolist()


def test_sets_that_cannot_be_read(corrupted):
    folder = corrupted[0]
    with pytest.raises(InputError, match="holds no whole snow"):
        load_cifar_c(folder, "snow", 1)
    with pytest.raises(InputError, match="severity must be"):
        load_cifar_c(folder, "fog", 6)
    np.save(folder / "fog.npy", np.zeros((7, 32, 32, 3), np.uint8))
    with pytest.raises(InputError, match="must be uint8"):
        load_cifar_c(folder, "fog", 1)
    (folder / "fog.npy").write_bytes(b"")
    with pytest.raises(InputError, match="holds no whole fog"):
        load_cifar_c(folder, "fog", 1)
    (folder / "labels.npy").unlink()
    with pytest.raises(InputError, match=r"labels\.npy"):
        load_cifar_c(folder, "spatter", 1)


def test_a_set_is_mapped_and_not_read(corrupted):
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("this system does not list what is mapped")
    split = load_cifar_c(corrupted[0], "fog", 2)
    assert str(corrupted[0] / "fog.npy") in maps.read_text()
    del split
    assert str(corrupted[0] / "fog.npy") not in maps.read_text()


def test_official_arrays_are_paired_conditions(corrupted, capsys):
    folder, images = corrupted
    found = resolve(["cifar10_c"], cifar(images, folder.parent), table="imagenet", seed=0)
    assert [one.label for one in found] == ["clean", *(f"cifar10_c-fog-{s}" for s in range(1, 6))]
    assert "holds fog, spatter, not all of the 15" in " ".join(capsys.readouterr().err.split())
    sample = found[Condition("cifar10_c", "fog", 4, "official")]
    assert torch.equal(sample.images, corrupt(images, "fog", 4, table="cifar"))
    assert sample.rows.tolist() == list(range(6))
    assert sample.labels.tolist() == LABELS.tolist()
    assert len({one.content for one in found.values()}) == 6


def test_extra_corruptions_by_name(corrupted):
    folder, images = corrupted
    found = resolve(["cifar10_c-spatter-2"], cifar(images, folder.parent), table="cifar", seed=0)
    assert [one.label for one in found] == ["clean", "cifar10_c-spatter-2"]
    (folder / "fog.npy").unlink()
    assert len(resolve(["cifar10_c"], cifar(images, folder.parent), table="cifar", seed=0)) == 6


def test_another_set_has_another_digest(corrupted, tmp_path):
    folder, images = corrupted
    write_set(tmp_path / "other" / "cifar10_c", images, LABELS, names=["fog"], table="cifar", seed=1)
    one, two = (
        resolve(["cifar10_c-fog-1"], cifar(images, root), table="cifar", seed=0)
        for root in (folder.parent, tmp_path / "other")
    )
    assert list(one) == list(two)
    assert [s.content for s in one.values()][1] != [s.content for s in two.values()][1]


def test_superclasses_of_fine_labels_are_accepted(tmp_path):
    images = noise(6, 3, 32, 32)
    write_set(tmp_path / "CIFAR-100-C", images, [7, 3, 9, 7, 5, 9], names=["fog"], table="cifar")
    data = cifar(images, tmp_path, labels=np.array([2, 0, 1, 2, 0, 1]), name="cifar100_20")
    found = resolve(["cifar100_c"], data, table="cifar", seed=0)
    assert len(found) == 6
    assert all(sample.labels.tolist() == [2, 0, 1, 2, 0, 1] for sample in found.values())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([2, 2, 1, 0, 0, 1]), "not the labels of cifar10's test split"),
        (LABELS[:5], r"fog\.npy in .* holds 6 images per severity"),
    ],
)
def test_arrays_of_another_test_split(corrupted, labels, message):
    folder, images = corrupted
    with pytest.raises(InputError, match=message):
        resolve(["cifar10_c"], cifar(images[: len(labels)], folder.parent, labels), table="cifar", seed=0)


def test_a_folder_without_corruptions(tmp_path):
    (tmp_path / "cifar-10-c").mkdir()
    with pytest.raises(InputError, match="holds none of the corruptions"):
        resolve(["cifar10_c"], cifar(noise(6, 3, 32, 32), tmp_path), table="cifar", seed=0)
    with pytest.raises(InputError, match="no ImageNet-C or imagenet_c"):
        resolve(["imagenet_c"], cifar(noise(6, 3, 32, 32), tmp_path, name="imagenet"), table="cifar", seed=0)


def draw(file, value, size=16):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(file, quality=95)


def imagenet(root, in_memory=False):
    """Three classes, two val images each, called as ImageNet's are: grey of value 10 * class + place."""
    files, labels = [], []
    for c, wnid in enumerate(WNIDS[:3]):
        for i in range(2):
            file = root / "imagenet" / "val" / wnid / f"ILSVRC2012_val_{10 * (2 - c) + i:08}.JPEG"
            draw(file, 10 * c + i, size=24)
            files.append(str(file))
            labels.append(c)
    images = ImageFiles(files, 16, centre_crop)
    split = Split(images[:] if in_memory else images, np.array(labels))
    return Dataset("imagenet10", split, split, ("fish", "fox", "ball"), WNIDS[:3], str(root))


def imagenet_c(root, data, folders=("noise/gaussian_noise", "fog"), drop=()):
    """The val images and those of a class that the data set has not, brighter by 40 per severity."""
    for folder in folders:
        for severity in range(1, 6):
            for c, wnid in enumerate(WNIDS):
                for i in range(2):
                    name = f"ILSVRC2012_val_{10 * (2 - c) + i:08}.JPEG" if c < 3 else f"ILSVRC2012_val_{90 + i:08}.JPEG"
                    if (c, i) not in drop:
                        draw(root / "ImageNet-C" / folder / str(severity) / wnid / name, 10 * c + i + 40 * severity)


@pytest.mark.parametrize("in_memory", [False, True])
def test_official_folders_are_paired_by_file_name(tmp_path, in_memory):
    data = imagenet(tmp_path, in_memory)
    imagenet_c(tmp_path, data)
    found = resolve(["imagenet_c"], data, table="imagenet", seed=0)
    assert [one.label for one in found][1:] == [
        *(f"imagenet_c-gaussian_noise-{s}" for s in range(1, 6)),
        *(f"imagenet_c-fog-{s}" for s in range(1, 6)),
    ]
    for condition, sample in list(found.items())[1:]:
        assert condition.split == "test"
        assert sample.rows.tolist() == list(range(6))
        assert sample.labels.tolist() == [0, 0, 1, 1, 2, 2]
        clean = torch.cat([chunk for _, chunk in chunks(data.test.images, 4)])
        pixels = torch.cat([chunk for _, chunk in chunks(sample.images, 4)])
        assert pixels.shape == (6, 3, 16, 16)
        assert ((pixels.int() - clean.int() - 40 * condition.severity).abs() <= 2).all()
    assert len({sample.content for sample in found.values()}) == 6  # both corruptions draw the same pictures here


def test_official_folders_of_a_part_of_the_images_are_compared_with_that_part(tmp_path, capsys):
    data = imagenet(tmp_path)
    imagenet_c(tmp_path, data, ["fog"], drop=[(0, 1), (1, 0)])
    found = resolve(["imagenet_c-fog-1"], data, table="imagenet", seed=0)
    assert [one.label for one in found] == ["clean", "clean[imagenet_c]", "imagenet_c-fog-1"]
    _, clean, fog = found.values()
    assert clean.rows.tolist() == fog.rows.tolist() == [0, 3, 4, 5]
    assert "imagenet_c has 4 images of 3 classes and is compared on these images alone" in " ".join(
        capsys.readouterr().err.split()
    )
    assert len(fog.images.take(np.array([0, 2]))) == 2


def test_other_file_names_are_not_paired(tmp_path, capsys):
    data = imagenet(tmp_path)
    imagenet_c(tmp_path, data, ["fog"])
    for severity in range(1, 6):
        folder = tmp_path / "ImageNet-C" / "fog" / str(severity) / WNIDS[0]
        for file in sorted(folder.iterdir()):
            file.rename(file.with_name(f"x{file.name}"))
    [_, fog] = resolve(["imagenet_c-fog-1"], data, table="imagenet", seed=0).values()
    assert fog.rows is None
    assert fog.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert "is not paired" in " ".join(capsys.readouterr().err.split())


def test_images_of_two_classes_are_too_few(tmp_path):
    data = imagenet(tmp_path)
    imagenet_c(tmp_path, data, ["fog"], drop=[(1, 0), (1, 1)])
    found = resolve(["imagenet_c"], data, table="imagenet", seed=0)
    assert found[Condition("imagenet_c")].reason == "imagenet_c has 2 of the 3 classes of imagenet10; 3 are needed"


def test_a_severity_that_lacks_a_class(tmp_path):
    data = imagenet(tmp_path)
    imagenet_c(tmp_path, data, ["fog"])
    for file in (tmp_path / "ImageNet-C" / "fog" / "4" / WNIDS[1]).iterdir():
        file.unlink()
    with pytest.raises(InputError, match=f"lacks {WNIDS[1]}/ILSVRC2012_val_00000010.JPEG"):
        resolve(["imagenet_c"], data, table="imagenet", seed=0)


def test_our_own_folders_are_read_too(tmp_path):
    """What ``shiftbench corrupt --layout imagefolder`` writes."""
    images = noise(6, 3, 16, 16)
    labels = [0, 0, 1, 1, 2, 2]
    write_set(
        tmp_path / "tiny_imagenet_c", images, labels, layout="imagefolder", names=["fog"], table="tiny_imagenet",
        classes=WNIDS[:3],
    )  # fmt: skip
    split = Split(images, np.array(labels))
    data = Dataset("tiny_imagenet", split, split, ("fish", "fox", "ball"), WNIDS[:3], str(tmp_path))
    found = resolve(["tiny_imagenet_c"], data, table="imagenet", seed=0)
    assert len(found) == 6
    sample = found[Condition("tiny_imagenet_c", "fog", 5, "official")]
    assert sample.rows.tolist() == list(range(6))
    expected = corrupt(images, "fog", 5, table="tiny_imagenet").float().flatten(1)
    nearest = torch.cdist(sample.images[:].float().flatten(1), expected).argmin(dim=1)
    assert nearest.tolist() == list(range(6))  # not the same bytes, since JPEG changed them
