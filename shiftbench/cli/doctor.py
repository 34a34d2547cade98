"""What is installed, what this machine has, which data are found, what a checkpoint would load, what a run would take."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from shiftbench.corruptions import resolve_table
from shiftbench.data.base import load_dataset
from shiftbench.data.shifts import resolve
from shiftbench.data.sources import status
from shiftbench.encoders.base import Encoder
from shiftbench.encoders.load import load_encoder
from shiftbench.encoders.precision import has_fast_bfloat16
from shiftbench.encoders.settle import agreement, settle
from shiftbench.errors import InputError
from shiftbench.images import evenly
from shiftbench.records import Condition, Dataset, Sample, Skipped
from shiftbench.registry import DATASETS
from shiftbench.runtime import compat
from shiftbench.runtime.parallel import single_threaded
from shiftbench.runtime.provenance import hardware, versions

TRIAL_IMAGES = 64  # at most, to try an encoder on
PHOTOGRAPH = 32  # pixels per side, for encoders that take any
PATIENCE = 1.5  # seconds that one measurement of speed may take
OWN_DATA = ("folder", "npz")


@dataclass(frozen=True)
class Forecast:
    """What encoding one evaluation's images with one encoder takes.

    Attributes:
        encoder: its name.
        images: the training images and those of every condition.
        rate: images/s of one core.
        seconds: on all workers, for the encoding alone.
        cache: bytes of the default feature on disk; 0 where it is larger than the images and is not kept.
    """

    encoder: str
    images: int
    rate: float
    seconds: float
    cache: int


def examine(
    checkpoint: str | Sequence[str] | None = None, data: str | None = None, shift: str | Sequence[str] | None = None
) -> Iterator[str]:
    """Lines for the terminal.

    Args:
        checkpoint: encoders to load and try, on photographs that scikit-learn ships; no data set is needed for that.
        data: a data set (``cifar10``, ``folder:PATH``) to try them on instead, and to predict a run for.
        shift: the shifts of that run; None for the clean split alone.

    Raises:
        InputError: a checkpoint, data set or shift cannot be used.
    """
    yield "versions   " + ", ".join(f"{name} {version}" for name, version in versions().items())
    machine = hardware()
    yield f"hardware   {machine['cpu']}, {machine['cores']} cores, GPU: {machine['gpu'] or 'none'}"
    yield f"disk       {shutil.disk_usage(Path.cwd()).free / 1e9:,.0f} GB free in {Path.cwd()}"
    if checkpoint is None and data is None:
        yield from _installed()
    dataset = None if data is None else _dataset(data)
    encoders = [load_encoder(uri) for uri in ([checkpoint] if isinstance(checkpoint, str) else checkpoint or ())]
    for encoder in encoders:
        if encoder.needs_fit:
            encoder.fit(photographs(PHOTOGRAPH) if dataset is None else dataset.train.images)
        yield from _try(encoder, dataset)
    if dataset is not None:
        yield from _prediction(encoders, dataset, [shift] if isinstance(shift, str) else list(shift or ()))


def predict(
    encoders: Sequence[Encoder], dataset: Dataset, samples: Mapping[Condition, Sample | Skipped], workers: int
) -> list[Forecast]:
    """Time and space of encoding an evaluation's images, from the speed of a few of them here and now.

    Args:
        encoders: in the arithmetic that they will run in.
        dataset: its training images are encoded too, because clusters are fitted on them.
        samples: the conditions, as :func:`shiftbench.data.shifts.resolve` gives them.
        workers: conditions encoded at once, one core each.
    """
    tested = sum(_count(sample) for sample in samples.values() if isinstance(sample, Sample))
    total, pixels = len(dataset.train) + tested, int(np.prod(dataset.train.images.shape[1:]))
    images = evenly(dataset.train.images, TRIAL_IMAGES)
    forecasts = []
    for encoder in encoders:
        speed, width = rate(encoder, images), encoder(images[:2]).shape[1]
        cache = 4 * width * total if width < pixels else 0
        forecasts.append(Forecast(encoder.name, total, speed, total / speed / workers, cache))
    return forecasts


def rate(encoder: Encoder, images: torch.Tensor) -> float:
    """Images/s of one core, measured on as many of the images as take a second or two."""
    with single_threaded():
        encoder.features(images[:4])  # the first call makes buffers and kernels
        number = int(PATIENCE * 4 / _seconds(encoder, images[:4]))
        some = images[: max(4, number)]
        return len(some) / _seconds(encoder, some)


def photographs(size: int, number: int = TRIAL_IMAGES) -> torch.Tensor:
    """Square crops of the two photographs that scikit-learn ships: uint8 (number, 3, size, size), always the same."""
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(0)
    pictures = [torch.from_numpy(picture.copy()).permute(2, 0, 1) for picture in load_sample_images().images]
    crops = []
    for index in range(number):
        picture = pictures[index % len(pictures)]
        side = int(generator.integers(96, 257))
        top, left = (int(generator.integers(0, extent - side + 1)) for extent in picture.shape[1:])
        crop = picture[:, top : top + side, left : left + side].float()[None]
        crops.append(torch.nn.functional.interpolate(crop, (size, size), mode="bilinear", antialias=True))
    return torch.cat(crops).round().clamp(0, 255).to(torch.uint8)


def _installed() -> Iterator[str]:
    for name, adapter in {
        "torchvision": compat.torchvision, "imagecorruptions": compat.imagecorruptions, "robustbench": compat.robustbench
    }.items():  # fmt: skip
        yield f"upstream   {name}: {_works(adapter)}"
    yield f"data       SHIFTBENCH_DATA={os.environ.get('SHIFTBENCH_DATA', '(not set)')}"
    for name in DATASETS:
        if name not in OWN_DATA:
            found, where, advice = status(name)
            yield f"data       {name}: {where}" if found else f"data       {name}: not found in {where}. {advice}"


def _works(adapter: Callable[[], object]) -> str:
    try:
        adapter()
    except Exception as error:  # whatever an upstream raises is the diagnosis
        return f"does not import ({type(error).__name__}: {error})"
    return "ok"


def _dataset(data: str) -> Dataset:
    name, colon, path = data.partition(":")
    return load_dataset(name, path=path) if colon and name in OWN_DATA else load_dataset(data)


def _try(encoder: Encoder, dataset: Dataset | None) -> Iterator[str]:
    yield f"encoder    {encoder.name}, fingerprint {encoder.fingerprint[:12]}"
    for key, value in encoder.origin.items():
        if value not in (None, [], ""):
            yield f"encoder    {key}: {_plainly(value)}"
    images, kind = _trial_images(encoder, dataset)
    try:
        with single_threaded():
            features = encoder.features(images[:16])
            warnings = encoder.check(images)
            speed = rate(encoder, images)
    except InputError:
        raise
    except Exception as error:  # an encoder may be anyone's code
        raise InputError(f"{encoder.name} fails on {len(images)} {kind}: {type(error).__name__}: {error}") from error
    for name, values in features.items():
        default = " (default)" if name == encoder.feature_name() else ""
        finite = "finite" if bool(torch.isfinite(values).all()) else "NOT FINITE"
        yield f"encoder    feature {name}{default}: {values.shape[1]} dimensions, {finite}"
    yield f"encoder    {speed:,.0f} images/s of one core in {encoder.dtype}, on {tuple(images.shape[1:])} {kind}"
    if encoder.castable and encoder.dtype == "float32" and has_fast_bfloat16(encoder.device):
        fast = encoder.with_dtype("bfloat16")
        same = agreement(encoder, fast, images[:16])
        if same:
            yield f"encoder    {rate(fast, images):,.0f} images/s in bfloat16, agreeing with float32 to {same:.5f}"
        else:
            yield "encoder    bfloat16 cannot be used: its features fail, are not finite, or have nothing of float32's"
    yield from (f"WARNING    {line}" for line in warnings)


def _trial_images(encoder: Encoder, dataset: Dataset | None) -> tuple[torch.Tensor, str]:
    """Images to try an encoder on, fewer where it takes large ones."""
    size = (encoder.origin.get("preprocess") or {}).get("size") or PHOTOGRAPH
    number = TRIAL_IMAGES if size <= 64 else 16
    if dataset is None:
        return photographs(size, number), "photographs"
    return evenly(dataset.train.images, number), f"images of {dataset.name}"


def _prediction(encoders: Sequence[Encoder], dataset: Dataset, shifts: list[str]) -> Iterator[str]:
    height, width = dataset.test.images.shape[-2:]
    samples = resolve(shifts, dataset, table=resolve_table("auto", (height, width)), seed=0)
    skipped = sum(isinstance(sample, Skipped) for sample in samples.values())
    workers = os.cpu_count() or 1
    tested = sum(_count(sample) for sample in samples.values() if isinstance(sample, Sample))
    yield (
        f"run        {dataset.name}: {len(dataset.train):,} images to fit on, {tested:,} to score in "
        f"{len(samples) - skipped} conditions ({skipped} skipped), {workers} workers"
    )
    for forecast in predict(settle(encoders, dataset.train.images), dataset, samples, workers):
        minutes, seconds = divmod(round(forecast.seconds), 60)
        yield (
            f"run        {forecast.encoder}: {forecast.images:,} images take about {minutes} min {seconds} s to encode, "
            f"and {forecast.cache / 1e9:.2f} GB of cache; changing images and clustering come on top"
        )


def _count(sample: Sample) -> int:
    return len(sample.rows) if sample.images is None else len(sample.images)  # type: ignore[arg-type]


def _seconds(encoder: Encoder, images: torch.Tensor) -> float:
    begun = time.perf_counter()
    encoder.features(images)
    return max(time.perf_counter() - begun, 1e-6)


def _plainly(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plainly(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return "/".join(map(_plainly, value)) if value and isinstance(value[0], float) else ", ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
