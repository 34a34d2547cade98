"""The user's own shift: ``folder:PATH`` or ``npz:PATH``, with options behind a ``?``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import torch

from shiftbench.data import duplicates
from shiftbench.data.arrays import read_npz
from shiftbench.data.lookup import NAMED, Samples, class_files, class_index, decoder, other_pictures
from shiftbench.errors import InputError, unknown
from shiftbench.images import SUFFIXES, ImageFiles, Images, resize
from shiftbench.records import Condition, Dataset, Sample, Shift
from shiftbench.registry import CORRUPTIONS, SHIFTS
from shiftbench.runtime.console import say
from shiftbench.runtime.plain_yaml import read_yaml

OPTIONS = ("classes", "name", "paired")

Read = Callable[[Path, Dataset], tuple[Images, Sequence[str] | None]]


def folder(argument: str) -> Shift:
    """Images in ``PATH/CLASS/*``, or unlabelled in ``PATH/*``; decoded as the test images are.

    Args:
        argument: the path, and perhaps ``?classes=map.yaml&name=NAME&paired=true``, see :class:`OwnShift`.

    Raises:
        InputError: an option that does not exist or cannot be used.

    Examples:
        >>> folder("photos/evening?paired=true").name
        'evening'
    """
    return _shift(argument, _read_folder)


def npz(argument: str) -> Shift:
    """Arrays ``images`` uint8 (N, H, W, 3) or (N, H, W), and perhaps ``labels``: integers or names (N,).

    Images are resized to the size of the test images. Labels are names or ids of the data set's classes, or its indices.

    Args:
        argument: the path, and perhaps options, as of :func:`folder`.

    Raises:
        InputError: an option that does not exist or cannot be used.

    Examples:
        >>> npz("arrays.npz?name=rain").name
        'rain'
    """
    return _shift(argument, _read_arrays)


@dataclass(frozen=True)
class OwnShift:
    """Options of a user's shift.

    Attributes:
        path: the folder or file.
        name: what results call it; by default the path's last part.
        classes: a YAML file that gives for a class of the shift the class of the data set, by name or id; null leaves
            the class out. Classes that it does not list have the same name in both.
        paired: whether the shift holds the test images in their order, each changed in some way.

    Examples:
        >>> OwnShift(Path("photos"), name="photos", classes=None, paired=False).name
        'photos'
    """

    path: Path
    name: str
    classes: Path | None
    paired: bool


def _shift(argument: str, read: Read) -> Shift:
    own = _parse(argument)
    return Shift(own.name, "own", own.paired, partial(_samples, own, read), source=str(own.path))


def _parse(argument: str) -> OwnShift:
    path, _, query = argument.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    for option in options:
        if option not in OPTIONS:
            raise unknown("option of your own shift", option, OPTIONS)
    if options.get("paired", "false") not in ("true", "false"):
        raise InputError(f"{argument!r}: paired must be true or false.")
    where = Path(path).expanduser()
    name = re.sub(r"[^\w.@=-]+", "-", options.get("name") or where.resolve().name.removesuffix(".npz")).strip(".-")
    if not name or name in SHIFTS or name in CORRUPTIONS:
        raise InputError(f"{argument!r}: a shift cannot be called {name!r}; give it another with ?name=NAME.")
    classes = Path(options["classes"]).expanduser() if "classes" in options else None
    return OwnShift(where, name, classes, options.get("paired") == "true")


def _samples(own: OwnShift, read: Read, dataset: Dataset, table: str, seed: int) -> Samples:
    images, names = read(own.path, dataset)
    keys = duplicates.of_files(images.files) if isinstance(images, ImageFiles) else duplicates.of_pixels(images.numpy())
    duplicates.warn(own.name, [], keys)
    labels = None if names is None or dataset.test.labels is None else _labels(own, names, dataset)
    if own.paired:
        return {Condition(own.name): _paired(own, images, labels, dataset)}
    if labels is None:
        return {Condition(own.name): Sample(None, None, images)}
    return other_pictures(own.name, dataset, images, labels)


def _paired(own: OwnShift, images: Images, labels: np.ndarray | None, dataset: Dataset) -> Sample:
    if len(images) != len(dataset.test):
        raise InputError(
            f"{str(own.path)!r} has {len(images):,} images and the test split of {dataset.name} {len(dataset.test):,}: "
            "paired=true needs the same images in the same order."
        )
    if labels is not None and (labels != dataset.test.labels).any():
        first = int(np.flatnonzero(labels != dataset.test.labels)[0])
        raise InputError(
            f"{str(own.path)!r}: paired=true needs the order of the test split, but image {first} has another class."
        )
    return Sample(dataset.test.labels, np.arange(len(images)), images)


def _labels(own: OwnShift, names: Sequence[str], dataset: Dataset) -> np.ndarray:
    """int64 (N,): the data set's class index of each image, -1 for an image of a class that is left out."""
    index = class_index(dataset)
    theirs = dict.fromkeys(names)
    renamed = _read_map(own.classes) if own.classes else {}
    if not renamed and not set(theirs) <= set(index) and all(_is_index(name, dataset) for name in theirs):
        return np.array([int(name) for name in names], dtype=np.int64)
    if unused := sorted(set(renamed) - set(theirs)):
        say(f"Shift {own.name!r}: the class map names {', '.join(unused[:NAMED])}, and there are no such images")
    ours: dict[str, int] = {}
    for name in theirs:
        wanted = renamed.get(name, name)
        if wanted is not None and wanted not in index:
            raise InputError(f"Shift {own.name!r}: {_no_class(own, name, wanted, name in renamed, dataset)}")
        ours[name] = -1 if wanted is None else index[wanted]
    return np.array([ours[name] for name in names], dtype=np.int64)


def _no_class(own: OwnShift, name: str, wanted: str, mapped: bool, dataset: Dataset) -> str:
    near = difflib.get_close_matches(wanted, list(class_index(dataset)), n=1, cutoff=0.5)
    known = f"the nearest is {near[0]!r}" if near else f"it has {', '.join(dataset.classes[:NAMED])}"
    if mapped:
        return (
            f"the class map {str(own.classes)!r} says `{name}: {wanted}`, which is no class of {dataset.name}; {known}."
        )
    return (
        f"{wanted!r} is no class of {dataset.name}; {known}. A class map (?classes=map.yaml) says what it is: "
        f"`{name}: {near[0] if near else dataset.classes[0]}`, or `{name}: null` to leave it out."
    )


def _is_index(name: str, dataset: Dataset) -> bool:
    return name.isdecimal() and int(name) < len(dataset.classes)


def _read_map(path: Path) -> Mapping[str, str | None]:
    try:
        content = read_yaml(path)
    except (OSError, InputError) as error:
        raise InputError(f"Cannot read the class map {str(path)!r} ({' '.join(str(error).split())}).") from error
    if not isinstance(content, dict) or any(isinstance(value, dict | list) for value in content.values()):
        raise InputError(f"The class map {str(path)!r} must hold lines `their class: class or id of the data set`.")
    return {str(key): None if value is None else str(value) for key, value in content.items()}


def _read_folder(path: Path, dataset: Dataset) -> tuple[Images, Sequence[str] | None]:
    if not path.is_dir():
        raise InputError(f"No folder {str(path)!r}.")
    flat = [str(entry) for entry in sorted(path.iterdir()) if entry.suffix.lower() in SUFFIXES]
    files, names = class_files(path)
    if flat and files:
        raise InputError(f"{str(path)!r} holds images both beside and inside class folders: move all in, or all out.")
    if not flat and not files:
        raise InputError(f"No images in {str(path)!r}: CLASS/*{{{','.join(SUFFIXES)}}} are looked for.")
    empty = sorted({entry.name for entry in path.iterdir() if entry.is_dir()} - set(names))
    if files and empty:
        say(f"{str(path)!r}: no images of the class {', '.join(empty)}")
    size = dataset.test.images.shape[-1]
    return ImageFiles(files or flat, size, decoder(dataset)), names or None


def _read_arrays(path: Path, dataset: Dataset) -> tuple[Images, Sequence[str] | None]:
    arrays = read_npz(path, ["images", "labels"])
    images, labels = arrays.get("images"), arrays.get("labels")
    if images is None:
        raise InputError(f"{str(path)!r} holds no images: the array `images` is needed.")
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=3)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not len(images):
        raise InputError(
            f"{str(path)!r}: images must be uint8 (N, H, W, 3) or (N, H, W), not {images.dtype} {images.shape}."
        )
    if labels is not None and (labels.shape != images.shape[:1] or labels.dtype.kind not in "iuU"):
        raise InputError(
            f"{str(path)!r}: labels must be integers or names ({len(images)},), not {labels.dtype} {labels.shape}."
        )
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return resize(pixels, dataset.test.images.shape[-1]), None if labels is None else [str(label) for label in labels]
