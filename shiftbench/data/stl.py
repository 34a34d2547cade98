"""STL-10 from the official binary files (Coates et al. 2011)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from shiftbench.data.sources import data_root, locate, read_checked
from shiftbench.images import resize
from shiftbench.records import Dataset, Split

SIDE = 96
CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")

# As torchvision publishes them.
MD5 = {
    "train_X.bin": "918c2871b30a85fa023e0c44e0bee87f",
    "train_y.bin": "5a34089d4802c674881badbb80307741",
    "test_X.bin": "7f263ba9f9e0b06b93213547f721ac82",
    "test_y.bin": "36f9794fa4beb8a2c72628de14fa638e",
}


def load_stl10(root: str | None = None, size: int | None = None, download: bool = False) -> Dataset:
    """STL-10: 5,000 labelled images to fit on and 8,000 to score, uint8 (N, 3, 96, 96), official order.

    The 100,000 unlabelled images are not read, and need not be there.

    Args:
        root: the folder that holds ``stl10_binary``; default ``$SHIFTBENCH_DATA``, else ``data``.
        size: height and width that the images are resized to; default as they are.
        download: fetch what is not there.

    Raises:
        InputError: files that are missing or not the official files.

    Examples:
        >>> load_stl10("data", size=32).test.images.shape  # doctest: +SKIP
        torch.Size([8000, 3, 32, 32])
    """
    folder = locate("stl10", root, download)
    train, test = (_read(folder, part, size) for part in ("train", "test"))
    return Dataset("stl10", train, test, CLASSES, root=str(data_root(root)))


def _read(folder: Path, part: str, size: int | None) -> Split:
    pixels, labels = (
        np.frombuffer(read_checked(folder / name, MD5[name]), np.uint8) for name in (f"{part}_X.bin", f"{part}_y.bin")
    )
    images = torch.from_numpy(pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 1, 3, 2).copy())  # stored by columns
    return Split(resize(images, size), labels.astype(np.int64) - 1)
