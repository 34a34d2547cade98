"""What shifts have in common: where their files are, and how their classes become those of the data set."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Sequence
from pathlib import Path

import numpy as np

from shiftbench.data.sources import data_root
from shiftbench.errors import InputError
from shiftbench.images import SUFFIXES, File, Images, centre_crop, centre_square, take
from shiftbench.records import Condition, Dataset, Sample, Shift, Skipped
from shiftbench.runtime.console import say

Samples = dict[Condition, Sample | Skipped]

FEWEST_CLASSES = 3  # in common: with fewer, hardly any clustering is wrong
NAMED = 20  # class names that one message lists
WNIDS = "any set of ImageNet classes"  # in Shift.data: every data set whose classes have WordNet ids
WNID = re.compile(r"n\d{8}")


class NotFoundError(InputError):
    """The files of a shift are not on this disk."""


def find(dataset: Dataset, shift: str, names: Sequence[str], advice: str) -> Path:
    """The file or folder of a shift, whatever the case, dots and dashes of its name.

    Args:
        dataset: its ``root`` is searched; where that is None, ``$SHIFTBENCH_DATA``, else ``data``.
        shift: for the message.
        names: the paths below the root that it may have, the official path first. A ``/`` separates folders.
        advice: how to get it.

    Raises:
        NotFoundError: none of these paths exists.
    """
    root = data_root(dataset.root)
    for name in names:
        here: Path | None = root
        for part in name.split("/"):
            here = _entry(here, part) if here else None
        if here:
            return here
    raise NotFoundError(
        f"Shift {shift!r}: no {' or '.join(names)} in {str(root)!r}. {advice} "
        "Another folder is named with data.root=DIR or SHIFTBENCH_DATA; nothing is downloaded."
    )


def class_index(dataset: Dataset) -> dict[str, int]:
    """The data set's own index of a class, by its id and by its name."""
    return {name: i for names in (dataset.classes, dataset.ids) for i, name in enumerate(names)}


def has_wnids(dataset: Dataset) -> bool:
    """Whether its classes have WordNet ids, as those of ImageNet have."""
    ids = dataset.ids or dataset.classes
    return bool(ids) and all(WNID.fullmatch(name) for name in ids)


def fits(shift: Shift, dataset: Dataset) -> bool:
    """Whether a shift is a shift of this data set."""
    return not shift.data or dataset.name in shift.data or (WNIDS in shift.data and has_wnids(dataset))


def other_pictures(shift: str, dataset: Dataset, images: Images, labels: np.ndarray) -> Samples:
    """The condition of a shift that has other pictures of the same classes, or of some of them.

    Args:
        shift: its name.
        dataset: what it is a shift of.
        images: uint8 (N, 3, H, W).
        labels: int64 (N,), the data set's class indices; -1 for images of no class of it, which are left out.

    Returns:
        A single condition. Where classes are missing, its split is ``test[SHIFT]``; with fewer than three classes it is
        skipped.
    """
    assert dataset.test.labels is not None, "without labels there are no classes in common"
    here = np.unique(dataset.test.labels)
    kept = np.isin(labels, here)
    if not kept.all():
        images, labels = take(images, np.flatnonzero(kept)), labels[kept]
    present = np.unique(labels)
    whole = len(present) == len(here)
    if not whole and len(present) < FEWEST_CLASSES:
        return too_few(shift, len(present), dataset)
    if not whole:
        names = [dataset.classes[i] for i in present[:NAMED]] + ["…"] * (len(present) > NAMED)
        remain = f"{len(present):,} of the {len(here):,} classes of {dataset.name}"
        say(f"{shift} has {remain} and is compared on these alone: {', '.join(names)}")
    condition = Condition(shift, split="test" if whole else f"test[{shift}]")
    return {condition: Sample(labels, None, images)}


def too_few(shift: str, common: int, dataset: Dataset) -> Samples:
    """A shift with so few of the data set's classes that it is not scored."""
    reason = (
        f"{shift} has {common} of the {len(dataset.classes):,} classes of {dataset.name}; {FEWEST_CLASSES} are needed"
    )
    return {Condition(shift): Skipped(reason)}


def class_files(folder: Path, keep: Container[str] | None = None, skip: str = "") -> tuple[list[str], list[str]]:
    """The images in the class folders below a folder, class by class, in the order of their names.

    Args:
        folder: holds a folder for each class.
        keep: names of the class folders that are searched; None for all.
        skip: files whose names begin with this are left out; "" for none.

    Returns:
        N files, and the names of their N class folders.
    """
    pairs = [
        (file.path, entry.name)
        for entry in _listed(folder)
        if (keep is None or entry.name in keep) and entry.is_dir()
        for file in _listed(entry.path)
        if file.name.lower().endswith(SUFFIXES) and not (skip and file.name.startswith(skip))
    ]
    return [file for file, _ in pairs], [name for _, name in pairs]


def within_classes(dataset: Dataset, labels: np.ndarray) -> np.ndarray | None:
    """The test images that a shift's images are versions of, where its order is the test split's within each class.

    Args:
        dataset: what it is a shift of.
        labels: int64 (N,), the data set's class indices.

    Returns:
        int64 (N,), a permutation; None where the numbers of images of the classes differ.
    """
    assert dataset.test.labels is not None
    theirs, ours = (np.argsort(classes, kind="stable") for classes in (labels, dataset.test.labels))
    if not np.array_equal(labels[theirs], dataset.test.labels[ours]):
        return None
    rows = np.empty_like(ours)
    rows[theirs] = ours
    return rows


def decoder(dataset: Dataset) -> Callable[[File, int], np.ndarray]:
    """How photographs are cut for a data set: as ImageNet is evaluated, where it is ImageNet or a part of it."""
    return centre_crop if dataset.name.startswith("imagenet") else centre_square


def _listed(folder: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _entry(folder: Path, name: str) -> Path | None:
    """The entry of a folder whose name has the same letters, digits and ending."""
    if (folder / name).exists():
        return folder / name
    if not folder.is_dir():
        return None
    return next((entry for entry in sorted(folder.iterdir()) if _plain(entry.name) == _plain(name)), None)


def _plain(name: str) -> str:
    return re.sub(r"[-_. ]", "", name.lower())
