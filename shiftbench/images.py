"""Images in memory, or in files that are decoded when they are asked for; any file to 8-bit RGB."""

from __future__ import annotations

import hashlib
import math
import os
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from shiftbench.errors import InputError
from shiftbench.runtime.console import progress
from shiftbench.runtime.digests import file_digests

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
PIXELS = 178_956_970  # at most in one image: Pillow's own limit against decompression bombs
MARGIN = 256 / 224  # how much larger than the crop ImageNet's evaluation resizes to
IN_MEMORY = 1_500_000_000  # decoded bytes: Tiny-ImageNet, or the training split of ImageNet-Dogs-15 at 160 pixels
AHEAD = 2  # chunks decoded beyond the one in use
CHUNK = 512  # files decoded between two steps of the progress bar

File = str | Path


class ImageFiles:
    """Image files that look like a uint8 (N, 3, size, size) tensor: slicing decodes.

    Args:
        files: one per image; plain strings take the least memory.
        size: height and width of the decoded images.
        decode: (file, size) -> uint8 (size, size, 3): :func:`centre_square` or :func:`centre_crop`.
    """

    def __init__(self, files: Sequence[File], size: int, decode: Callable[[File, int], np.ndarray]) -> None:
        self.files = list(files)
        self.size = size
        self._decode = decode

    @cached_property
    def digest(self) -> str:
        """The hexadecimal sha256 of the bytes of all files, in their order, and of how they are decoded."""
        how = f"{getattr(self._decode, '__name__', repr(self._decode))} {self.size}"
        return hashlib.sha256("\n".join([how, *file_digests(self.files)]).encode()).hexdigest()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, 3, H, W)."""
        return len(self.files), 3, self.size, self.size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: slice | np.ndarray | torch.Tensor) -> torch.Tensor:
        """Decode the images of a slice or of int64 positions: uint8 (n, 3, size, size).

        Raises:
            InputError: a file is no image, truncated or too large.
        """
        files = self.files[rows] if isinstance(rows, slice) else [self.files[int(row)] for row in rows]
        pixels = np.empty((len(files), *self.shape[1:]), np.uint8)
        for place, file in zip(pixels, files, strict=True):
            place[:] = self._decode(file, self.size).transpose(2, 0, 1)
        return torch.from_numpy(pixels)

    def take(self, rows: np.ndarray) -> ImageFiles:
        """The images at these positions, still as files."""
        return ImageFiles([self.files[int(row)] for row in rows], self.size, self._decode)

    def join(self, other: ImageFiles) -> ImageFiles:
        """These files and then the others, decoded as these are."""
        return ImageFiles([*self.files, *other.files], self.size, self._decode)


Images = torch.Tensor | ImageFiles


def take(images: Images, rows: np.ndarray) -> Images:
    """The images at int64 positions ``rows``; files stay files."""
    return images.take(rows) if isinstance(images, ImageFiles) else images[torch.from_numpy(np.asarray(rows))]


def evenly_spaced(n: int, limit: int) -> np.ndarray:
    """The positions of up to ``limit`` of n images, as far apart as can be: int64, rising."""
    return np.unique(np.linspace(0, n - 1, min(limit, n)).round().astype(np.int64))


def chunks(images: Images, size: int, workers: int | None = None) -> Iterator[tuple[int, torch.Tensor]]:
    """(position of the first image, uint8 (n, 3, H, W)) for one chunk after another.

    Files are decoded ahead by threads, at most two chunks beyond the one in use: memory stays bounded however slow
    the consumer is, and a consumer that stops early stops the decoding.

    Args:
        images: N of them.
        size: images per chunk.
        workers: threads that decode; None for one per core.

    Raises:
        InputError: a file is no image, truncated or too large.
    """
    starts = range(0, len(images), size)
    if not isinstance(images, ImageFiles):
        for start in starts:
            yield start, images[start : start + size]
        return
    workers = workers or os.cpu_count() or 1
    pool = ThreadPoolExecutor(workers)
    waiting: deque[tuple[int, list[Future[torch.Tensor]]]] = deque()
    try:
        for start in starts:
            parts = np.array_split(np.arange(start, min(start + size, len(images))), workers)
            waiting.append((start, [pool.submit(images.__getitem__, part) for part in parts if len(part)]))
            if len(waiting) > AHEAD:
                yield _collect(*waiting.popleft())
        while waiting:
            yield _collect(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _collect(start: int, parts: Sequence[Future[torch.Tensor]]) -> tuple[int, torch.Tensor]:
    return start, torch.cat([part.result() for part in parts])


def image_files(folder: File, below: bool = False) -> list[str]:
    """The paths of the image files in a folder, sorted; ``below`` adds those in folders inside it, at any depth.

    Hidden files and folders are passed over. A folder that is not there holds none.
    """
    paths: list[str] = []
    for place, inner, names in os.walk(folder, followlinks=True):
        paths += [f"{place}{os.sep}{name}" for name in names if name.lower().endswith(SUFFIXES) and name[0] != "."]
        inner[:] = [name for name in inner if below and name[0] != "."]
    return sorted(paths)


def load(*parts: Images) -> list[Images]:
    """The parts of a data set decoded into memory, if all of them take at most 1.5 GB there; else as they are.

    Raises:
        InputError: a file is no image, truncated or too large.
    """
    if sum(math.prod(part.shape) for part in parts) > IN_MEMORY:
        return list(parts)
    with progress("Decoding", sum(map(len, parts))) as advance:
        return [_decode_all(part, advance) if isinstance(part, ImageFiles) else part for part in parts]


def _decode_all(files: ImageFiles, advance: Callable[[int], None]) -> torch.Tensor:
    pixels = torch.empty(files.shape, dtype=torch.uint8)
    for start, chunk in chunks(files, CHUNK):
        pixels[start : start + len(chunk)] = chunk
        advance(len(chunk))
    return pixels


def join(first: Images, second: Images) -> Images:
    """The images of both, in this order; files stay files if both are."""
    if isinstance(first, ImageFiles) and isinstance(second, ImageFiles):
        return first.join(second)
    return torch.cat([first[:], second[:]])


def resize(images: torch.Tensor, size: int | None) -> torch.Tensor:
    """Enlarge or reduce to a square: uint8 (N, 3, H, W) -> uint8 (N, 3, size, size); None leaves them as they are.

    Bilinear and antialiased, by Pillow, whose integer arithmetic gives the same bytes on every machine.

    Raises:
        InputError: ``size`` is not a whole number of at least 8.
    """
    if size is None or tuple(images.shape[2:]) == (size, size):
        return images
    check_size(size)
    resized = torch.empty((*images.shape[:2], size, size), dtype=torch.uint8)
    for place, pixels in zip(resized.numpy(), images.permute(0, 2, 3, 1).contiguous().numpy(), strict=True):
        image = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)
        place[:] = np.asarray(image).transpose(2, 0, 1)
    return resized


def check_size(size: object) -> None:
    """Raise InputError unless it is a number of pixels that an image may have."""
    if not isinstance(size, int) or isinstance(size, bool) or size < 8:
        raise InputError(f"data.size={size}: a whole number of pixels, at least 8, is needed.")


def centre_square(file: File, size: int) -> np.ndarray:
    """An image file as uint8 (size, size, 3): the shorter side is resized to ``size``, the centre square cut out.

    JPEGs are decoded at reduced scale where :func:`open_rgb` allows it, which changes pixels by about one grey level
    (root mean square) and takes a third of the time.

    Raises:
        InputError: the file is no image, truncated or too large.
    """
    return _square(open_rgb(file, size), file, size, size)


def centre_crop(file: File, size: int) -> np.ndarray:
    """An image file as uint8 (size, size, 3), as ImageNet is evaluated: resized to 256/224 of ``size``, then cropped.

    For ``size`` 224 these are the bytes of torchvision's ``Resize(256)`` and ``CenterCrop(224)``, except where EXIF
    says that the camera was turned, which torchvision does not look at.

    Raises:
        InputError: the file is no image, truncated or too large.
    """
    return _square(open_rgb(file), file, round(size * MARGIN), size)


def open_rgb(file: File, shorter: int = 0) -> Image.Image:
    """Any image file as 8-bit RGB, upright as its EXIF orientation says.

    16-bit grey is scaled to 8 bits, transparent pixels are laid over white, CMYK, palettes and grey are converted.

    Args:
        file: of any format that Pillow reads; of several frames the first.
        shorter: the size that the shorter side is wanted at. A JPEG of at least four times that size is decoded at a
            half, quarter or eighth, never to less than twice the wanted size, which saves most of the work.

    Raises:
        InputError: the file is no image, truncated, of a kind without a defined range (32 bits), or larger than
            179 million pixels.
    """
    try:
        with Image.open(file) as image:
            if image.width * image.height > PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are more than {PIXELS:,}")
            if shorter:
                image.draft(image.mode, (2 * shorter, 2 * shorter))
            ImageOps.exif_transpose(image, in_place=True)
            return _rgb(image)
    except FileNotFoundError as error:
        raise InputError(f"No image {str(file)!r}.") from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split()).replace(f" {str(file)!r}", "")
        raise InputError(f"Cannot read the image {str(file)!r} ({type(error).__name__}: {reason}).") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit integers have no defined range: save it with 8 or 16 bits")
        image = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floats have no defined range: save it with 8 or 16 bits")
    elif image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        pixels = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), pixels)
    return image.convert("RGB")


def _square(image: Image.Image, file: File, shorter: int, size: int) -> np.ndarray:
    """Resize the shorter side and cut out the centre, with the roundings of torchvision."""
    least, most = sorted(image.size)
    longer = int(shorter * most / least)
    if shorter * longer > PIXELS:
        raise InputError(f"{str(file)!r} is {most // least:,} times as long as wide: cut it to a picture first.")
    shape = (shorter, longer) if image.width <= image.height else (longer, shorter)
    image = image.resize(shape, Image.Resampling.BILINEAR)
    left, top = (round((side - size) / 2) for side in shape)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def evenly(images: Images, number: int = 64) -> torch.Tensor:
    """Up to ``number`` of the images, evenly spaced: uint8 (n, 3, H, W)."""
    return take(images, evenly_spaced(len(images), number))[:]
