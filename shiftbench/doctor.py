"""What is installed, what this machine has, which data are found, and what a checkpoint would load."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from shiftbench import compat
from shiftbench.data import load_dataset
from shiftbench.encoders import load_encoder
from shiftbench.errors import InputError
from shiftbench.provenance import hardware, versions
from shiftbench.registry import DATASETS

PROBE = 64


def examine(checkpoint: str | None = None) -> Iterator[str]:
    """Lines for the terminal.

    Args:
        checkpoint: an encoder to load and try on random images; no data set is needed for that.

    Raises:
        InputError: the checkpoint cannot be loaded, as :func:`shiftbench.load_encoder` says.
    """
    yield "versions   " + ", ".join(f"{name} {version}" for name, version in versions().items())
    machine = hardware()
    yield f"hardware   {machine['cpu']}, {machine['cores']} cores, GPU: {machine['gpu'] or 'none'}"
    yield f"disk       {shutil.disk_usage(Path.cwd()).free / 1e9:,.0f} GB free in {Path.cwd()}"
    for name, adapter in {
        "torchvision": compat.torchvision, "imagecorruptions": compat.imagecorruptions, "robustbench": compat.robustbench
    }.items():  # fmt: skip
        yield f"upstream   {name}: {_works(adapter)}"
    yield f"data       SHIFTBENCH_DATA={os.environ.get('SHIFTBENCH_DATA', '(not set)')}"
    for name in DATASETS:
        if name not in ("folder", "npz"):
            yield f"data       {name}: {_found(name)}"
    if checkpoint is not None:
        yield from _try(checkpoint)


def _works(adapter: Callable[[], object]) -> str:
    try:
        adapter()
    except Exception as error:  # whatever an upstream raises is the diagnosis
        return f"does not import ({type(error).__name__}: {error})"
    return "ok"


def _found(name: str) -> str:
    try:
        data = load_dataset(name)
    except InputError as error:
        return f"not found. {error}"
    return f"{len(data.train):,} train, {len(data.test):,} test, {tuple(data.test.images.shape[1:])}"


def _try(checkpoint: str) -> Iterator[str]:
    encoder = load_encoder(checkpoint)
    yield f"encoder    {encoder.name}, fingerprint {encoder.fingerprint[:12]}, {encoder.origin or 'no origin known'}"
    images = torch.randint(0, 256, (PROBE, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    begun = time.perf_counter()
    try:
        features = encoder.features(images)
    except InputError:
        raise
    except Exception as error:  # an encoder may be anyone's code
        raise InputError(f"{encoder.name} fails on 64 random images: {type(error).__name__}: {error}") from error
    rate = PROBE / (time.perf_counter() - begun)
    for name, values in features.items():
        default = " (default)" if name == encoder.feature_name() else ""
        finite = "finite" if bool(torch.isfinite(values).all()) else "NOT FINITE"
        yield f"encoder    feature {name}{default}: {values.shape[1]} dimensions, {finite}"
    yield f"encoder    {rate:,.0f} images/s"
