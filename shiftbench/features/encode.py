"""Encoder x sample -> features. Changed images are made, encoded and dropped chunk by chunk, and never stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
import torch

from shiftbench.encoders.base import Encoder
from shiftbench.errors import InputError
from shiftbench.features.cache import FeatureCache, content_key
from shiftbench.images import Images, chunks, take
from shiftbench.records import Sample
from shiftbench.runtime import processes
from shiftbench.runtime.clock import Clock

FEATURES_VERSION = 1  # raise it when a change alters features: what older code stored is then ignored

Key = tuple[str, str]  # encoder's slug, feature name

Features = dict[Key, np.ndarray | Exception]


def encode(
    encoders: Mapping[str, Encoder],
    wanted: Mapping[str, Sequence[str]],
    sample: Sample,
    clean: Images,
    *,
    about: Mapping[str, Any],
    batch_size: int = 250,
    cache: FeatureCache | None = None,
    clock: Clock | None = None,
) -> Features:
    """Features of a sample, for several encoders at once: each chunk is changed only once.

    Under ``torchrun`` each process encodes its share of the chunks, and the first one gets them all.

    Args:
        encoders: by slug.
        wanted: names of the features that are needed of each.
        sample: which images.
        clean: uint8 (N, 3, H, W), the test images that ``sample.rows`` point into.
        about: plain values that tell this sample from all others; part of the cache's key.
        batch_size: images per chunk; it changes nothing beyond float rounding.
        cache: where features are looked for and stored.
        clock: counts what producing and encoding images takes.

    Returns:
        By (slug, feature name): float32 (N, D), or the exception with which that encoder failed. Empty in the
        processes of ``torchrun`` that are not the first.
    """
    clock = clock or Clock()
    keys = {
        (slug, name): content_key([FEATURES_VERSION, encoders[slug].fingerprint, name, dict(about)])
        for slug, names in wanted.items()
        for name in names
    }
    features: Features = {}
    if cache is not None and processes.rank() == 0:
        with clock("cache"):
            kept = {pair: cache.load(key) for pair, key in keys.items() if encoders[pair[0]].traceable}
        features = {pair: array for pair, array in kept.items() if array is not None}
    missing = _agreed({pair for pair in keys if pair not in features})
    if not missing:
        return features
    needed = {slug: [name for name in names if (slug, name) in missing] for slug, names in wanted.items()}
    needed = {slug: names for slug, names in needed.items() if names}
    total = sample.n
    pixels = int(np.prod((clean if sample.images is None else sample.images).shape[1:]))
    sinks = {
        pair: _Sink(
            total,
            pixels,
            cache if encoders[pair[0]].traceable else None,
            keys[pair],
            {**about, "encoder": encoders[pair[0]].name, "feature": pair[1]},
        )
        for pair in missing
    }
    failed: dict[str, Exception] = {}
    for start, chunk in _produced(sample, clean, batch_size, clock):
        part = _encode_chunk(encoders, needed, chunk, failed, clock)
        for pair, rows in part.items():
            sinks[pair].add(start, rows)
    failed = _collect(sinks, failed)
    if processes.rank():
        return {}
    for pair, sink in sinks.items():
        error = failed.get(pair[0])
        features[pair] = sink.abort(error) if error is not None else sink.finish()
    return features


def _produced(sample: Sample, clean: Images, size: int, clock: Clock) -> Iterator[tuple[int, torch.Tensor]]:
    """(position, uint8 (n, 3, H, W)) of this process' chunks, changed as the sample says."""
    images = take(clean, sample.rows) if sample.images is None else sample.images  # type: ignore[arg-type]
    index = torch.from_numpy(np.arange(len(images)) if sample.rows is None else np.asarray(sample.rows))
    mine = np.concatenate(
        [
            np.arange(s, min(s + size, len(images)))
            for s in range(processes.rank() * size, len(images), processes.world() * size)
        ]
        or [np.empty(0, np.int64)]
    )
    share = images if processes.world() == 1 else take(images, mine)
    for start, chunk in chunks(share, size):
        position = int(mine[start])
        if sample.change is not None:
            with clock("change images"):
                chunk = sample.change(chunk, index[position : position + len(chunk)])
        yield position, chunk


def _encode_chunk(
    encoders: Mapping[str, Encoder],
    needed: Mapping[str, Sequence[str]],
    chunk: torch.Tensor,
    failed: dict[str, Exception],
    clock: Clock,
) -> dict[Key, np.ndarray]:
    part: dict[Key, np.ndarray] = {}
    with clock("encode", images=len(chunk) * len(needed)):
        for slug in needed.keys() - failed.keys():
            try:
                made = encoders[slug].features(chunk)
                part |= {(slug, name): made[name].numpy() for name in needed[slug]}
            except Exception as error:  # an encoder is a stranger's code: whatever it raises is its result
                failed[slug] = error
    return part


def _agreed(missing: set[Key]) -> set[Key]:
    """The features that the first process misses, sent to all processes."""
    if processes.world() == 1:
        return missing
    return processes.broadcast(missing)


def _collect(sinks: Mapping[Key, _Sink], failed: dict[str, Exception]) -> dict[str, Exception]:
    """Bring the rows of all processes to the first one."""
    if processes.world() == 1:
        return failed
    everything = processes.gather(({pair: sink.rows for pair, sink in sinks.items()}, failed))
    for rows, errors in (everything or [])[1:]:
        failed |= errors
        for pair, parts in rows.items():
            for start, part in parts:
                sinks[pair].add(start, part)
    return failed


class _Abandoned(Exception):
    """Ends an entry of the cache that will not be whole."""


class _Sink:
    """The rows of one feature as they come in: into the cache where there is one, else into memory."""

    def __init__(self, total: int, pixels: int, cache: FeatureCache | None, key: str, about: Mapping[str, Any]) -> None:
        self._total, self._pixels, self._cache, self._key, self._about = total, pixels, cache, key, about
        self._array: np.ndarray | None = None
        self._open = ExitStack()
        self.rows: list[tuple[int, np.ndarray]] = []  # only where another process collects them

    def add(self, start: int, rows: np.ndarray) -> None:
        if processes.rank():
            self.rows.append((start, rows))
            return
        if self._array is None:
            self._array = self._make(rows.shape[1])
        self._array[start : start + len(rows)] = rows

    def _make(self, dimensions: int) -> np.ndarray:
        shape = self._total, dimensions
        if self._cache is not None and dimensions < self._pixels:  # larger features are pixels, made in no time
            stored = self._open.enter_context(self._cache.store(self._key, shape, self._about))
            if stored is not None:
                return stored
        return np.empty(shape, np.float32)

    def finish(self) -> np.ndarray | Exception:
        assert self._array is not None
        bad = sum(
            int((~np.isfinite(self._array[s : s + 10_000])).any(axis=1).sum()) for s in range(0, self._total, 10_000)
        )
        if bad:
            return self.abort(InputError(f"features of {bad} of {self._total} images are not finite"))
        self._open.close()
        return self._array

    def abort(self, error: Exception) -> Exception:
        with suppress(_Abandoned):
            self._open.__exit__(_Abandoned, _Abandoned(), None)
        return error
