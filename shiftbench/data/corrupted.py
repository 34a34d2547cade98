"""Corrupted test images: made on the fly, or read from the official sets (Hendrycks & Dietterich 2019)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import overload

import numpy as np
import torch

from shiftbench.corruptions import SEVERITIES, corrupt
from shiftbench.data.lookup import (
    FEWEST_CLASSES,
    NotFoundError,
    Samples,
    class_files,
    class_index,
    find,
    too_few,
    within_classes,
)
from shiftbench.errors import InputError
from shiftbench.images import ImageFiles, centre_square
from shiftbench.records import Condition, Dataset, Sample, Shift, Split
from shiftbench.registry import CORRUPTIONS
from shiftbench.runtime.console import say
from shiftbench.runtime.digests import file_digests

CITATION = "Hendrycks & Dietterich 2019, arXiv:1903.12261"
ARCHIVES = ("noise", "blur", "weather", "digital", "extra")  # the tar files of ImageNet-C, folders in some copies


def corruption_samples(dataset: Dataset, table: str, seed: int) -> Samples:
    """Every registered corruption at 5 severities, drawn by the image's position in the test split.

    Examples:
        >>> from shiftbench.data.base import load_dataset
        >>> digits = load_dataset("digits")
        >>> len(corruption_samples(digits, table="cifar", seed=0))  # 19 corruptions, 5 severities
        95
    """
    rows = np.arange(len(dataset.test))
    return {
        Condition("corruption", name, severity, table): Sample(
            dataset.test.labels, rows, change=partial(_corrupt, name, severity, table, seed)
        )
        for name in CORRUPTIONS
        for severity in SEVERITIES
    }


def load_cifar_c(path: str | Path, corruption: str, severity: int) -> Split:
    """One severity of a corrupted set in the layout of CIFAR-10-C, official or written by ``shiftbench corrupt``.

    Args:
        path: the folder with ``NAME.npy``, uint8 (5 * N, H, W, 3) with severity 1 first, and ``labels.npy``.
        corruption: NAME.
        severity: 1 to 5.

    Returns:
        uint8 (N, 3, H, W), mapped from the file, in the order of the clean test split; and the labels.

    Raises:
        InputError: a file that is missing, damaged or of another shape, or a severity that does not exist.

    Examples:
        >>> from shiftbench.corruptions.export import write_set
        >>> _ = write_set("set", torch.zeros(2, 3, 32, 32, dtype=torch.uint8), [0, 1], names=["fog"])
        >>> load_cifar_c("set", "fog", severity=3).images.shape
        torch.Size([2, 3, 32, 32])
    """
    if severity not in SEVERITIES:
        raise InputError(f"severity must be 1, 2, 3, 4 or 5, not {severity!r}.")
    files = [Path(path) / f"{name}.npy" for name in (corruption, "labels")]
    try:
        # Copy-on-write, since torch warns of arrays that cannot be written.
        images, labels = (np.load(file, mmap_mode="c", allow_pickle=False) for file in files)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{str(path)!r} holds no whole {corruption}.npy and labels.npy ({error}).") from error
    n, rest = divmod(len(images), len(SEVERITIES))
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or rest or len(labels) not in (n, 5 * n):
        raise InputError(
            f"{str(files[0])!r} must be uint8 (5 * N, H, W, 3) with 5 * N labels, not {images.dtype} {images.shape} "
            f"with {len(labels)}."
        )
    rows = slice((severity - 1) * n, severity * n)
    return Split(
        torch.from_numpy(images[rows]).permute(0, 3, 1, 2),
        np.array(labels[rows] if len(labels) == 5 * n else labels, dtype=np.int64),
    )


def _arrays(shift: str, folder: str) -> Callable[[Dataset, str, int], Samples]:
    def samples(dataset: Dataset, table: str, seed: int) -> Samples:
        path = find(dataset, shift, [folder, shift], f"Unpack the official {folder}.tar there.")
        names = [name for name in CORRUPTIONS if (path / f"{name}.npy").is_file()]
        _announce(shift, path, names)
        return {
            Condition(shift, name, severity, "official"): _array_sample(path, name, severity, dataset)
            for name in names
            for severity in SEVERITIES
        }

    return samples


def _array_sample(path: Path, name: str, severity: int, dataset: Dataset) -> Sample:
    split = load_cifar_c(path, name, severity)
    if len(split) != len(dataset.test):
        raise InputError(
            f"{name}.npy in {str(path)!r} holds {len(split):,} images per severity; the test split of {dataset.name} "
            f"has {len(dataset.test):,}."
        )
    # Each class there must be within one class here; the labels of CIFAR-100-C are the 100 fine classes.
    pairs = np.unique(np.stack([split.labels, dataset.test.labels]), axis=1)  # type: ignore[list-item]
    if len(np.unique(pairs[0])) != pairs.shape[1]:
        raise InputError(f"{str(path / 'labels.npy')!r}: not the labels of {dataset.name}'s test split in its order.")
    assert isinstance(split.images, torch.Tensor)
    digest = f"{file_digests([path / f'{name}.npy'])[0]}, severity {severity}"
    return Sample(dataset.test.labels, np.arange(len(split)), split.images, digest=digest)


def _folders(shift: str, folder: str) -> Callable[[Dataset, str, int], Samples]:
    def samples(dataset: Dataset, table: str, seed: int) -> Samples:
        path = find(dataset, shift, [folder, shift], f"Unpack the official tar files of {folder} there.")
        parents = {name: _corruption_folder(path, name) for name in CORRUPTIONS}
        folders = {
            Condition(shift, name, severity, "official"): where / str(severity)
            for name, where in parents.items()
            if where
            for severity in SEVERITIES
            if (where / str(severity)).is_dir()
        }
        _announce(shift, path, list(dict.fromkeys(condition.corruption for condition in folders)))
        files = _Files(next(iter(folders.values())), shift, dataset)
        if (common := len(np.unique(files.labels))) < min(FEWEST_CLASSES, len(dataset.classes)):
            return too_few(shift, common, dataset)
        return {files.of(condition): files.sample(where) for condition, where in folders.items()}

    return samples


def _corruption_folder(path: Path, name: str) -> Path | None:
    return next(
        (where for where in (path / name, *(path / group / name for group in ARCHIVES)) if where.is_dir()), None
    )


class _Files:
    """The files of a severity's folder. They have the same names in all such folders, so millions are listed once only.

    Args:
        first: such a folder, with CLASS/FILE inside.
        shift: its name.
        dataset: what it is a shift of.
    """

    def __init__(self, first: Path, shift: str, dataset: Dataset) -> None:
        index = class_index(dataset)
        files, names = class_files(first, index)
        if not files:
            raise InputError(f"No images of the classes of {dataset.name} in {str(first)!r}: CLASS/*.JPEG are needed.")
        self.names = ["/".join(file.rsplit(os.sep, 2)[1:]) for file in files]
        self.labels = np.array([index[name] for name in names], dtype=np.int64)
        self.size = dataset.test.images.shape[-1]
        self.rows = _test_rows(dataset, files, self.labels)
        if self.rows is None:
            say(f"{shift}: its files cannot be matched to {dataset.name}'s test images, so it is not paired")
            whole = np.array_equal(np.unique(self.labels), np.unique(dataset.test.labels))  # type: ignore[arg-type]
        else:
            order = np.argsort(self.rows)
            self.names, self.labels, self.rows = [self.names[i] for i in order], self.labels[order], self.rows[order]
            whole = len(self.rows) == len(dataset.test)
        self.split = "test" if whole else f"test[{shift}]"
        if not whole:
            what = f"{len(files):,} images of {len(np.unique(self.labels)):,} classes"
            compared = "images" if self.rows is not None else "classes"
            say(f"{shift} has {what} and is compared on these {compared} alone")

    def of(self, condition: Condition) -> Condition:
        """The condition, with what it can be compared to."""
        return replace(condition, split=self.split)

    def sample(self, folder: Path) -> Sample:
        """The images of a severity's folder.

        Raises:
            InputError: a class is missing.
        """
        for name in {name.partition("/")[0]: name for name in reversed(self.names)}.values():
            if not (folder / name).is_file():
                raise InputError(f"{str(folder)!r} lacks {name}, which another severity has: unpack it again.")
        return Sample(self.labels, self.rows, _Below(folder, self.names, self.size))


class _Below(ImageFiles):
    """Files of given names below a folder; their paths are made when they are needed.

    The images already have the size of the test images' crop, so they are not cropped again.
    """

    def __init__(self, folder: Path, names: Sequence[str], size: int) -> None:
        super().__init__([], size, centre_square)
        self.files = _Paths(folder, names)  # type: ignore[assignment]


class _Paths(Sequence[str]):
    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, names

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, rows: int) -> str: ...
    @overload
    def __getitem__(self, rows: slice) -> list[str]: ...
    def __getitem__(self, rows: int | slice) -> str | list[str]:
        if isinstance(rows, slice):
            return [f"{self.folder}/{name}" for name in self.names[rows]]
        return f"{self.folder}/{self.names[rows]}"


def _test_rows(dataset: Dataset, files: Sequence[str], labels: np.ndarray) -> np.ndarray | None:
    """int64 (N,): the test image that each file is a version of; None where that cannot be told.

    By class and file name. Where the test images are in memory, by their order, which is that of the names.
    """
    if not isinstance(dataset.test.images, ImageFiles):
        return within_classes(dataset, labels)
    pairs = zip(dataset.test.images.files, dataset.test.labels, strict=True)  # type: ignore[arg-type]
    known = {(int(label), Path(file).stem): row for row, (file, label) in enumerate(pairs)}
    rows = [known.get((int(label), Path(file).stem), -1) for file, label in zip(files, labels, strict=True)]
    return None if -1 in rows else np.array(rows, dtype=np.int64)


def _announce(shift: str, path: Path, names: Sequence[str]) -> None:
    """Say which corruptions there are, where some of the official corruptions are missing."""
    common = CORRUPTIONS.names("common")
    if not names:
        raise NotFoundError(f"Shift {shift!r}: {str(path)!r} holds none of the corruptions ({', '.join(common)}).")
    if not set(common) <= set(names):
        say(f"{shift}: {str(path)!r} holds {', '.join(names)}, not all of the {len(common)} common corruptions")


def _corrupt(
    name: str, severity: int, table: str, seed: int, images: torch.Tensor, index: torch.Tensor
) -> torch.Tensor:
    return corrupt(images, name, severity, table=table, seed=seed, index=index)


corruption = Shift(
    "corruption", "corruption", paired=True, samples=corruption_samples, source="made on the fly", citation=CITATION
)
cifar10_c = Shift(
    "cifar10_c",
    "corruption",
    paired=True,
    samples=_arrays("cifar10_c", "CIFAR-10-C"),
    data=("cifar10",),
    source="zenodo.org/records/2535967",
    citation=CITATION,
)
cifar100_c = Shift(
    "cifar100_c",
    "corruption",
    paired=True,
    samples=_arrays("cifar100_c", "CIFAR-100-C"),
    data=("cifar100", "cifar100_20"),
    source="zenodo.org/records/3555552",
    citation=CITATION,
)
imagenet_c = Shift(
    "imagenet_c",
    "corruption",
    paired=True,
    samples=_folders("imagenet_c", "ImageNet-C"),
    data=("imagenet", "imagenet10", "imagenet_dogs15"),
    source="zenodo.org/records/2235448",
    citation=CITATION,
)
tiny_imagenet_c = Shift(
    "tiny_imagenet_c",
    "corruption",
    paired=True,
    samples=_folders("tiny_imagenet_c", "Tiny-ImageNet-C"),
    data=("tiny_imagenet",),
    source="zenodo.org/records/2536630",
    citation=CITATION,
)
