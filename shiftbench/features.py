"""Encoder x condition -> features. Corrupted images are made, encoded and dropped chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from shiftbench.data.shifts import apply
from shiftbench.encoders.base import Encoder
from shiftbench.errors import InputError
from shiftbench.records import CLEAN, Condition


def encode(
    encoders: Mapping[str, Encoder],
    images: torch.Tensor,
    condition: Condition = CLEAN,
    *,
    feature: str = "auto",
    batch_size: int = 250,
    seed: int = 0,
) -> dict[str, np.ndarray | Exception]:
    """Features of a split under a condition, for several encoders at once: each chunk is corrupted only once.

    Args:
        encoders: by any key.
        images: uint8 (N, 3, H, W), the clean split.
        condition: how they are changed before they are encoded.
        feature: "auto" (each encoder's default) or a name; an encoder that has no such feature uses its default.
        batch_size: images per chunk; it changes nothing beyond float rounding.
        seed: of the corruptions' randomness.

    Returns:
        By the same key: float32 (N, D), or the exception with which that encoder failed.
    """
    parts: dict[str, list[np.ndarray]] = {key: [] for key in encoders}
    failed: dict[str, Exception] = {}
    for start in range(0, len(images), batch_size):
        chunk = apply(condition, images[start : start + batch_size], start=start, seed=seed)
        for key in encoders.keys() - failed.keys():
            try:
                found = encoders[key].features(chunk)
                parts[key].append(found[encoders[key].feature_name(feature)].numpy())
            except Exception as error:  # an encoder is a stranger's code: whatever it raises is its result
                failed[key] = error
    return {key: failed.get(key) or _finite(np.concatenate(parts[key])) for key in encoders}


def _finite(features: np.ndarray) -> np.ndarray | Exception:
    bad = int((~np.isfinite(features)).any(axis=1).sum())
    return InputError(f"features of {bad} of {len(features)} images are not finite") if bad else features
