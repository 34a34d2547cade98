"""The user's own images: a folder of files, or arrays in an ``.npz``."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from shiftbench.errors import InputError
from shiftbench.records import Dataset, Split

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
TEST_SHARE = 0.2


def load_folder(path: str, size: int = 32) -> Dataset:
    """Images in folders: ``PATH/train/CLASS/*`` and ``PATH/test/CLASS/*``, or ``PATH/CLASS/*``, or unlabelled ``PATH/*``.

    Without train/ and test/ a fifth of the images, drawn with a fixed seed, is the test split.

    Args:
        path: the folder.
        size: the shorter side is resized to this (bilinear, antialiased), then the centre square is cut out.

    Raises:
        InputError: no such folder, no images in it, classes that differ between the splits, or an unreadable image.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise InputError(f"No folder {path!r}.")
    if not isinstance(size, int) or size < 8:
        raise InputError(f"data.size={size}: a whole number of pixels, at least 8, is needed.")
    parts = [root / "train", root / "test"]
    if all(part.is_dir() for part in parts):
        found = [_list(part) for part in parts]
        names = [{name for name, _ in part} for part in found]
        if names[0] != names[1]:
            raise InputError(f"{path!r}: train and test hold different classes ({sorted(names[0] ^ names[1])[:3]}).")
    else:
        found = _divide(_list(root))
    classes = sorted({name for name, _ in found[0] if name})
    train, test = (_read(part, classes, size) for part in found)
    return Dataset(root.resolve().name, train, test, tuple(classes))


def load_npz(path: str) -> Dataset:
    """Arrays: ``images`` uint8 (N, H, W, 3) or (N, H, W) and optionally ``labels`` (N,), or the same names with
    ``train_`` and ``test_`` in front.

    Without the split in the names a fifth of the images, drawn with a fixed seed, is the test split.

    Raises:
        InputError: no such file, not an ``.npz`` without pickles, or arrays of another shape or dtype.
    """
    file = Path(path).expanduser()
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except FileNotFoundError as error:
        raise InputError(f"No file {path!r}.") from error
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise InputError(f"{path!r} is not an .npz of plain arrays ({error}).") from error
    if "train_images" in arrays and "test_images" in arrays:
        splits = [_arrays(arrays, f"{part}_", path) for part in ("train", "test")]
    elif "images" in arrays:
        whole = _arrays(arrays, "", path)
        fit, score = _split_rows(len(whole))
        splits = [Split(whole.images[r], whole.labels[r] if whole.labels is not None else None) for r in (fit, score)]
    else:
        raise InputError(
            f"{path!r} holds {', '.join(arrays) or 'nothing'}; images, or train_images and test_images, are needed."
        )
    if (splits[0].labels is None) != (splits[1].labels is None):
        raise InputError(f"{path!r} has labels for one of its splits only: give both or none.")
    known = sorted({int(label) for split in splits if split.labels is not None for label in np.unique(split.labels)})
    rank = {label: i for i, label in enumerate(known)}
    train, test = (
        Split(s.images, None if s.labels is None else np.array([rank[int(v)] for v in s.labels], dtype=np.int64))
        for s in splits
    )
    return Dataset(file.stem, train, test, tuple(map(str, known)))


def _arrays(arrays: dict[str, np.ndarray], prefix: str, path: str) -> Split:
    images, labels = arrays[f"{prefix}images"], arrays.get(f"{prefix}labels")
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=3)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise InputError(
            f"{path!r}: {prefix}images must be uint8 (N, H, W, 3) or (N, H, W), not {images.dtype} {images.shape}."
        )
    if len(images) < 2:
        raise InputError(f"{path!r}: {prefix}images holds {len(images)} images; at least 2 are needed.")
    if labels is not None and (labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer)):
        raise InputError(
            f"{path!r}: {prefix}labels must be integers ({len(images)},), not {labels.dtype} {labels.shape}."
        )
    return Split(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), labels)


def _list(folder: Path) -> list[tuple[str, Path]]:
    """(class name, file) in sorted order; the class of a file directly in the folder is empty."""
    found = [(file.parent.name if file.parent != folder else "", file) for file in _walk(folder)]
    if not found:
        raise InputError(f"No images in {str(folder)!r}: CLASS/*{{{','.join(IMAGES)}}} are looked for.")
    if len({name == "" for name, _ in found}) == 2:
        raise InputError(f"{str(folder)!r} holds images both beside and inside class folders: sort them one way.")
    return sorted(found)


def _walk(folder: Path) -> Iterable[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            yield from (file for file in sorted(entry.iterdir()) if file.suffix.lower() in IMAGES)
        elif entry.suffix.lower() in IMAGES:
            yield entry


def _split_rows(n: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(0).permutation(n)
    n_test = max(1, round(n * TEST_SHARE))
    return np.sort(order[n_test:]), np.sort(order[:n_test])


def _divide(files: list[tuple[str, Path]]) -> list[list[tuple[str, Path]]]:
    if len(files) < 5:
        raise InputError(f"{len(files)} images are too few to split into train and test: at least 5 are needed.")
    return [[files[i] for i in rows] for rows in _split_rows(len(files))]


def _read(files: list[tuple[str, Path]], classes: list[str], size: int) -> Split:
    images = torch.from_numpy(np.stack([_square(file, size) for _, file in files]).transpose(0, 3, 1, 2).copy())
    labels = np.array([classes.index(name) for name, _ in files], dtype=np.int64) if classes else None
    return Split(images, labels)


def _square(file: Path, size: int) -> np.ndarray:
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(f"Cannot read the image {str(file)!r} ({type(error).__name__}).") from error
    scale = size / min(image.size)
    image = image.resize([max(size, round(side * scale)) for side in image.size], Image.Resampling.BILINEAR)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))
