"""ImageNet-1k, its ten- and fifteen-class subsets, and Tiny-ImageNet: class folders named by WordNet id."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.resources import as_file
from importlib.resources import files as package_files
from pathlib import Path

import numpy as np

from shiftbench.data.sources import data_root, locate
from shiftbench.errors import InputError
from shiftbench.images import ImageFiles, Images, centre_crop, centre_square, check_size, image_files, load
from shiftbench.records import Dataset, Split
from shiftbench.runtime.console import progress, say

NAMED = 5  # ids that one message lists

Labelled = tuple[list[str], np.ndarray]  # N files, and their labels, int64 (N,)

# Chang et al. 2017 (DAC); the order of the ids is the order of the classes.
IMAGENET10 = (
    "n02056570", "n02085936", "n02128757", "n02690373", "n02692877",
    "n03095699", "n04254680", "n04285008", "n04467665", "n07747607",
)  # fmt: skip
IMAGENET_DOGS15 = (
    "n02085936", "n02086646", "n02088238", "n02091467", "n02097130",
    "n02099601", "n02101388", "n02101556", "n02102177", "n02105056",
    "n02105412", "n02105855", "n02107142", "n02110958", "n02112137",
)  # fmt: skip

OFFICIAL = {  # numbers of train and test images
    "imagenet": (1_281_167, 50_000),
    "imagenet10": (13_000, 500),
    "imagenet_dogs15": (19_500, 750),
    "tiny_imagenet": (100_000, 10_000),
}


@cache
def imagenet_names() -> dict[str, str]:
    """WordNet id -> name of the 1,000 classes of ILSVRC2012, sorted by id; all names differ.

    A name is the first lemma of the synset; where two classes share a name ("crane"), the id is added.

    Examples:
        >>> len(imagenet_names()), imagenet_names()["n01440764"]
        (1000, 'tench')
    """
    with as_file(package_files("shiftbench.data") / "imagenet_classes.tsv") as file:
        return _distinct(_tab_separated(file))


def load_imagenet(
    root: str | None = None,
    size: int = 224,
    classes: Sequence[str] | str | None = None,
    download: bool = False,
) -> Dataset:
    """ImageNet-1k (Russakovsky et al. 2015): ``train/WNID/*.JPEG`` to fit on and ``val/WNID/*.JPEG`` to score.

    Images stay files, which are decoded while they are used, as :func:`shiftbench.images.centre_crop` says.

    Args:
        root: the folder that holds ``imagenet/train`` and ``imagenet/val``, or ``train`` and ``val`` themselves;
            default ``$SHIFTBENCH_DATA``, else ``data``.
        size: height and width: the shorter side is resized to 256/224 of it and the centre square is cut out.
        classes: WordNet ids of the classes to keep, in the order of the labels, or a text file with an id at the start
            of each line; default all 1,000, sorted. Folders of other classes need not be there.

    Returns:
        Labels follow the order of the classes; ``ids`` are the WordNet ids.

    Raises:
        InputError: a class folder that is missing or empty, a val that is not sorted into class folders, or an unknown
            id.

    Examples:
        >>> load_imagenet("data", classes=["n01440764", "n01443537"]).classes  # doctest: +SKIP
        ('tench', 'goldfish')
    """
    known = imagenet_names()
    if classes is None:
        return _load("imagenet", tuple(known), root, size, download)
    ids = _listed(classes) if isinstance(classes, str) else tuple(classes)
    strangers = [wnid for wnid in ids if wnid not in known]
    if strangers or len(set(ids)) < len(ids) or len(ids) < 2:
        why = f"{strangers[0]!r} is no id of its classes" if strangers else "two or more different ids are needed"
        raise InputError(f"data.classes of imagenet: {why}; ids look like n01440764.")
    return _load("imagenet", ids, root, size, download, name=f"imagenet_{len(ids)}of{len(known)}")


def load_imagenet10(root: str | None = None, size: int = 224, download: bool = False) -> Dataset:
    """ImageNet-10 (Chang et al. 2017): ten classes of ImageNet, alone or within all of it; see :func:`load_imagenet`.

    Examples:
        >>> len(load_imagenet10("data").test)  # doctest: +SKIP
        500
    """
    return _load("imagenet10", IMAGENET10, root, size, download)


def load_imagenet_dogs15(root: str | None = None, size: int = 224, download: bool = False) -> Dataset:
    """ImageNet-Dogs-15 (Chang et al. 2017): fifteen breeds, alone or within ImageNet; see :func:`load_imagenet`.

    Examples:
        >>> len(load_imagenet_dogs15("data").test)  # doctest: +SKIP
        750
    """
    return _load("imagenet_dogs15", IMAGENET_DOGS15, root, size, download)


def load_tiny_imagenet(root: str | None = None, size: int = 64, download: bool = False) -> Dataset:
    """Tiny-ImageNet-200 (Stanford CS231n 2015): 100,000 images to fit on and its 10,000 of val to score, 64x64.

    Args:
        root: the folder that holds ``tiny-imagenet-200`` as it is unpacked; default ``$SHIFTBENCH_DATA``, else ``data``.
        size: height and width that the images are resized to.
        download: nothing can be downloaded: where the files are missing, an error says how to get them.

    Returns:
        Labels follow the sorted WordNet ids, which are the ``ids``.

    Raises:
        InputError: missing files, or a val image without a label or with an unknown label.

    Examples:
        >>> load_tiny_imagenet("data").test.images.shape  # doctest: +SKIP
        torch.Size([10000, 3, 64, 64])
    """
    check_size(size)
    folder = locate("tiny_imagenet", root, download)
    ids = tuple(sorted((folder / "wnids.txt").read_text(encoding="utf-8").split()))
    names = _tab_separated(folder / "words.txt")
    classes = {wnid: names.get(wnid, wnid).split(",")[0] for wnid in ids}
    train = _class_files(folder / "train", ids, "images")
    test = _annotated_files(folder / "val", ids)
    images = load(*(ImageFiles(files, size, centre_square) for files, _ in (train, test)))
    return _dataset("tiny_imagenet", images, (train[1], test[1]), classes, root)


def _listed(file: str) -> tuple[str, ...]:
    try:
        lines = Path(file).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"data.classes={file}: no such list of WordNet ids ({type(error).__name__}).") from error
    return tuple(line.split()[0] for line in lines if line.strip())


def _load(
    source: str, ids: tuple[str, ...], root: str | None, size: int, download: bool, name: str | None = None
) -> Dataset:
    check_size(size)
    folder = locate(source, root, download)
    if not any(entry.is_dir() for entry in os.scandir(folder / "val")):
        raise InputError(
            f"The images in {str(folder / 'val')!r} are not sorted into val/WNID/. torchvision.datasets.ImageNet(ROOT, "
            "'val') sorts them from ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz, as does valprep.sh."
        )
    train, test = (_class_files(folder / part, ids) for part in ("train", "val"))
    images = [ImageFiles(files, size, centre_crop) for files, _ in (train, test)]
    classes = {wnid: imagenet_names()[wnid] for wnid in ids}
    return _dataset(name or source, images, (train[1], test[1]), classes, root)


def _dataset(
    name: str,
    images: Sequence[Images],
    labels: tuple[np.ndarray, np.ndarray],
    classes: dict[str, str],
    root: str | None,
) -> Dataset:
    sizes, official = tuple(map(len, images)), OFFICIAL.get(name)
    if official and sizes != official:
        say(
            f"{name}: {sizes[0]:,} train and {sizes[1]:,} test images; the official set has {official[0]:,} and "
            f"{official[1]:,}, so results compare with nobody else's."
        )
    train, test = map(Split, images, labels)
    return Dataset(name, train, test, tuple(_distinct(classes).values()), tuple(classes), str(data_root(root)))


def _class_files(folder: Path, ids: Sequence[str], inner: str = "") -> Labelled:
    """The images in ``folder/WNID/inner`` of each class, sorted, and their labels, int64 (N,)."""
    missing = [wnid for wnid in ids if not (folder / wnid).is_dir()]
    if missing:
        more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
        raise InputError(
            f"{str(folder)!r} lacks {len(missing):,} of {len(ids):,} class folders: {', '.join(missing[:NAMED])}{more}."
        )
    files: list[str] = []
    counts = []
    with progress(f"Listing {folder}", len(ids)) as advance:
        for wnid in ids:
            images = image_files(folder / wnid / inner)
            if not images:
                raise InputError(f"The class folder {str(folder / wnid / inner)!r} holds no images.")
            files += images
            counts.append(len(images))
            advance()
    return files, np.repeat(np.arange(len(ids)), counts)


def _annotated_files(folder: Path, ids: Sequence[str]) -> Labelled:
    """Tiny-ImageNet's val: the images in ``folder/images``, labelled in ``folder/val_annotations.txt``."""
    known = _tab_separated(folder / "val_annotations.txt")
    index = {wnid: label for label, wnid in enumerate(ids)}
    files = image_files(folder / "images")
    wnids = [known.get(Path(file).name, "").split("\t")[0] for file in files]
    for file, wnid in zip(files, wnids, strict=True):
        if wnid not in index:
            problem = f"the unknown class {wnid!r}" if wnid else "no label"
            raise InputError(f"{file!r} has {problem} in val_annotations.txt.")
    return files, np.array([index[wnid] for wnid in wnids], dtype=np.int64)


def _tab_separated(file: Path) -> dict[str, str]:
    """The text before the first tab of each line -> the text after it."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return {key: value for key, tab, value in (line.partition("\t") for line in lines) if tab}


def _distinct(names: dict[str, str]) -> dict[str, str]:
    """Names of classes by id, with the id added to names that several classes have."""
    count = Counter(names.values())
    return {wnid: f"{name} ({wnid})" if count[name] > 1 else name for wnid, name in names.items()}
