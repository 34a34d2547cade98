"""The user's own images in a folder of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shiftbench.data import duplicates
from shiftbench.data.division import divide
from shiftbench.errors import InputError
from shiftbench.images import SUFFIXES, ImageFiles, Images, centre_square, check_size, image_files, load
from shiftbench.records import Dataset, Split

NAMED = 3  # classes that one message lists

Listed = list[tuple[str, str]]  # (class, file); the class is empty where nobody labelled the images


def load_folder(path: str, size: int = 32) -> Dataset:
    """Images in folders: ``PATH/train/CLASS/*`` and ``PATH/test/CLASS/*`` (or ``val``), or ``PATH/CLASS/*``, or
    unlabelled ``PATH/*``. Class folders may have folders inside.

    Without train and test, a fifth of the images, drawn with a fixed seed, is the test split. Images that together take
    up to 1.5 GB decoded are kept in memory; more are decoded while they are used. Files that occur twice are reported,
    and kept.

    Args:
        path: the folder.
        size: the shorter side is resized to this (bilinear, antialiased), then the centre square is cut out.

    Raises:
        InputError: no such folder, no images in it or in one of its class folders, classes that differ between the
            splits, or an image that cannot be read.

    Examples:
        >>> from PIL import Image
        >>> for name in ("cat", "dog"):
        ...     Path("photos", name).mkdir(parents=True)
        ...     for i in range(3):
        ...         Image.new("RGB", (40, 30), (i, 0, 0)).save(f"photos/{name}/{i}.png")
        >>> dataset = load_folder("photos", size=16)
        >>> dataset.train.images.shape, dataset.classes
        (torch.Size([5, 3, 16, 16]), ('cat', 'dog'))
    """
    check_size(size)
    root = Path(path).expanduser()
    if not root.is_dir():
        raise InputError(f"No folder {path!r}.")
    train, test = _parts(root)
    name = root.resolve().name
    same = duplicates.of_files([file for _, file in (*train, *test)])
    duplicates.warn(name, same[: len(train)], same[len(train) :])
    classes = sorted({label for label, _ in (*train, *test) if label})
    images = load(*(ImageFiles([file for _, file in part], size, centre_square) for part in (train, test)))
    return Dataset(name, _split(images[0], train, classes), _split(images[1], test, classes), tuple(classes))


def _parts(root: Path) -> tuple[Listed, Listed]:
    parts = [name for name in ("train", "test", "val") if (root / name).is_dir()][:2]
    if not parts:
        images = _list(root)
        fit, score = divide(len(images))
        return [images[i] for i in fit], [images[i] for i in score]
    if len(parts) < 2 or parts[0] != "train":
        raise InputError(f"{str(root)!r} holds {' and '.join(parts)}; train, and test or val beside it, are needed.")
    train, test = (_list(root / name) for name in parts)
    labels = ({label for label, _ in part} for part in (train, test))
    _check_classes(root, dict(zip(parts, labels, strict=True)))
    return train, test


def _check_classes(root: Path, classes: dict[str, set[str]]) -> None:
    """Raise InputError unless both parts have the same classes, or both have none."""
    common = set.intersection(*classes.values())
    only = {part: sorted(names - common) for part, names in classes.items()}
    if {""} in classes.values() and not common:
        labelled = next(part for part, names in classes.items() if names != {""})
        raise InputError(f"{str(root)!r} has class folders in {labelled} only: sort both parts or none.")
    if any(only.values()):
        where = [f"{', '.join(map(repr, names[:NAMED]))} only in {part}" for part, names in only.items() if names]
        raise InputError(f"{str(root)!r}: its parts hold different classes ({'; '.join(where)}).")


def _list(folder: Path) -> Listed:
    """(class, file) in sorted order."""
    beside = image_files(folder)
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if beside and classes:
        raise InputError(
            f"{str(folder)!r} holds images beside folders ({classes[0]!r}): move them into folders, or out."
        )
    inside = {name: image_files(folder / name, below=True) for name in classes}
    empty = [name for name, files in inside.items() if not files]
    if empty and len(empty) < len(classes):
        raise InputError(f"The class folder {str(folder / empty[0])!r} holds no images: remove it or fill it.")
    images = [("", file) for file in beside] + [(name, file) for name, files in inside.items() for file in files]
    if not images:
        raise InputError(f"No images in {str(folder)!r}: CLASS/*{{{','.join(SUFFIXES)}}} are looked for.")
    return images


def _split(images: Images, part: Listed, classes: list[str]) -> Split:
    index = {name: label for label, name in enumerate(classes)}
    return Split(images, np.array([index[name] for name, _ in part], dtype=np.int64) if classes else None)
