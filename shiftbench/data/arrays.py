"""The user's own images as arrays in an ``.npz``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from shiftbench.data import duplicates
from shiftbench.data.division import divide
from shiftbench.errors import InputError
from shiftbench.records import Dataset, Split
from shiftbench.runtime.compat import NPZ_ERRORS

KEYS = tuple(f"{part}{kind}" for part in ("", "train_", "test_") for kind in ("images", "labels"))


def load_npz(path: str) -> Dataset:
    """Arrays: ``images`` uint8 (N, H, W, 3) or (N, H, W) and optionally ``labels`` (N,), or the same names with
    ``train_`` and ``test_`` in front.

    Labels are whole numbers, in any numbering, or strings. Where the names tell no split, a fifth of the images, drawn
    with a fixed seed, is the test split. Images that occur twice are reported, and kept.

    Raises:
        InputError: no such file, no ``.npz`` of plain arrays, arrays of another shape or dtype, or splits with different
            classes.

    Examples:
        >>> np.savez("photos.npz", images=np.zeros((10, 8, 8), np.uint8), labels=np.arange(10) % 2)
        >>> dataset = load_npz("photos.npz")
        >>> len(dataset.train), len(dataset.test), dataset.classes
        (8, 2, ('0', '1'))
    """
    file = Path(path).expanduser()
    arrays = read_npz(file, KEYS)
    if "train_images" in arrays and "test_images" in arrays:
        parts = [_part(arrays, f"{part}_", path) for part in ("train", "test")]
    elif "images" in arrays:
        images, labels = _part(arrays, "", path)
        parts = [(images[rows], None if labels is None else labels[rows]) for rows in divide(len(images))]
    else:
        raise InputError(f"{path!r} holds no array images, nor both train_images and test_images.")
    if parts[0][0].shape[1:] != parts[1][0].shape[1:]:
        raise InputError(f"{path!r}: train_images and test_images are of different sizes.")
    classes = _classes([labels for _, labels in parts], path, named="train_images" in arrays)
    train, test = (
        Split(_channels_first(images), None if labels is None else np.searchsorted(classes, labels).astype(np.int64))
        for images, labels in parts
    )
    duplicates.warn(file.stem, *(duplicates.of_pixels(images) for images, _ in parts))
    return Dataset(file.stem, train, test, tuple(map(str, classes)))


def read_npz(file: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """The named arrays, as far as an ``.npz`` holds them; other arrays are not read.

    Raises:
        InputError: no such file, or a file or an array that does not hold plain numbers or strings.

    Examples:
        >>> np.savez("photos.npz", images=np.zeros((10, 8, 8), np.uint8), labels=np.arange(10) % 2)
        >>> list(read_npz(Path("photos.npz"), ["labels", "weights"]))
        ['labels']
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in keys if key in archive}
    except FileNotFoundError as error:
        raise InputError(f"No file {str(file)!r}.") from error
    except (*NPZ_ERRORS, AttributeError) as error:
        raise InputError(f"{str(file)!r} is not an .npz of plain arrays ({error}).") from error


def _part(arrays: dict[str, np.ndarray], prefix: str, path: str) -> tuple[np.ndarray, np.ndarray | None]:
    images, labels = arrays[f"{prefix}images"], arrays.get(f"{prefix}labels")
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=3)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:]:
        raise InputError(
            f"{path!r}: {prefix}images must be uint8 (N, H, W, 3) or (N, H, W), not {images.dtype} {images.shape}."
        )
    if len(images) < 2:
        raise InputError(f"{path!r}: {prefix}images holds {len(images)} images; at least 2 are needed.")
    if labels is not None and (labels.shape != images.shape[:1] or labels.dtype.kind not in "iuU"):
        raise InputError(
            f"{path!r}: {prefix}labels must be integers or strings ({len(images)},), not {labels.dtype} {labels.shape}."
        )
    return images, labels


def _classes(labels: list[np.ndarray | None], path: str, named: bool) -> np.ndarray:
    """The distinct labels, sorted; empty where nothing is labelled."""
    known = [np.unique(part) for part in labels if part is not None]
    if len(known) == 1:
        raise InputError(f"{path!r} has labels for one of its splits only: give labels for both or for none.")
    if not known:
        return np.empty(0, np.int64)
    train, test = known
    if named and not np.array_equal(train, test):
        lone = np.setxor1d(train, test)[0]
        raise InputError(
            f"{path!r}: train_labels and test_labels hold different classes ({lone} is in only one of the two)."
        )
    return np.union1d(train, test)


def _channels_first(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
