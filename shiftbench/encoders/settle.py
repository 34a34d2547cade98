"""In which arithmetic the encoders of one comparison run: float32, or bfloat16 where that is faster and says the same."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from shiftbench.encoders.base import Encoder
from shiftbench.encoders.precision import DTYPES, has_fast_bfloat16
from shiftbench.errors import InputError, unknown
from shiftbench.images import Images, evenly
from shiftbench.runtime.console import say

LEAST_AGREEMENT = 0.999  # of bfloat16 features with those in float32, to be taken for the same


def settle(encoders: Sequence[Encoder], images: Images, dtype: str = "auto") -> list[Encoder]:
    """Bring all encoders of one comparison to one arithmetic.

    "auto" is bfloat16 where every network runs on a device that is fast in it and the features of a few images agree
    with those in float32 (:func:`agreement` of at least 0.999); otherwise all run in float32. An encoder that was loaded
    in an arithmetic of its own decides for all. Encoders without a torch network of ours compute as they do. An encoder
    that fails in both arithmetics decides nothing: it fails again where its features are used, and is reported there.

    Args:
        encoders: in any order.
        images: uint8 (N, 3, H, W), clean images; up to 64 of them are encoded twice.
        dtype: "auto", "float32" or "bfloat16".

    Returns:
        The encoders in the same order; those that change are new, and share their weights with the old ones.

    Raises:
        InputError: two of them, or one and ``dtype``, ask for different arithmetics.

    Examples:
        >>> from shiftbench.encoders.load import load_encoder
        >>> encoders = [load_encoder("pixels"), load_encoder("random:small_cnn", device="cpu")]
        >>> images = torch.randint(256, (16, 3, 32, 32), dtype=torch.uint8)
        >>> [encoder.dtype for encoder in settle(encoders, images, "float32")]
        ['float32', 'float32']
    """
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    networks = [encoder for encoder in encoders if encoder.castable]
    asked = {encoder.dtype: encoder.name for encoder in networks if encoder.pinned}
    if dtype != "auto":
        asked.setdefault(dtype, "the evaluation")
    if len(asked) > 1:
        some = " and ".join(f"{kind} for {name}" for kind, name in sorted(asked.items()))
        raise InputError(f"One comparison has one arithmetic, and {some} were asked for: leave dtype out, or agree.")
    fast = all(has_fast_bfloat16(encoder.device) for encoder in networks)
    target = next(iter(asked), "bfloat16" if fast else "float32")
    cast = {id(encoder): encoder.with_dtype(target) for encoder in networks}
    if target == "bfloat16":
        few = evenly(images)
        for encoder in networks:
            same = agreement(encoder.with_dtype("float32"), cast[id(encoder)], few)
            if same is None or same >= LEAST_AGREEMENT:
                continue
            differ = f"bfloat16 features of {encoder.name} agree with float32 ones to {same:.4f} only"
            if asked:
                say(f"{differ}; they are used since they were asked for")
            else:
                say(f"{differ}: all encoders run in float32")
                return settle(encoders, images, "float32")
    return [cast.get(id(encoder), encoder) for encoder in encoders]


def agreement(first: Encoder, second: Encoder, images: torch.Tensor) -> float | None:
    """How far two encoders say the same about uint8 (N, 3, H, W): 1 where their features are equal.

    It is the cosine between all centred features of the first and of the second, (N, D) taken as one vector each, of
    the feature where it is lowest. Centring matters: features far from the origin have cosines near 1 whatever
    they say.

    Returns:
        -1 to 1; 0 where one encoder fails, which is said, or has a feature that is not finite, and the other has not.
        None where there is nothing to compare: both fail, or no feature is finite.

    Examples:
        >>> means = Encoder("means", lambda images: {"backbone": images.float().mean((2, 3))}, fingerprint="1")
        >>> images = torch.randint(256, (16, 3, 8, 8), dtype=torch.uint8)
        >>> round(agreement(means, means, images), 4)
        1.0
    """
    left, right = _features(first, images), _features(second, images)
    if isinstance(left, Exception) and isinstance(right, Exception):
        return None
    if isinstance(left, Exception) or isinstance(right, Exception):
        failing, error = (first, left) if isinstance(left, Exception) else (second, right)
        say(f"{failing.name} fails in {failing.dtype} alone ({type(error).__name__}: {' '.join(str(error).split())})")
        return 0.0
    cosines = [cosine(left[name], right[name]) for name in left]
    return min((cosine for cosine in cosines if not math.isnan(cosine)), default=None)


def _features(encoder: Encoder, images: torch.Tensor) -> dict[str, torch.Tensor] | Exception:
    try:
        return encoder.features(images)
    except Exception as error:  # an encoder may be anyone's code: whatever it raises is its outcome
        return error


def cosine(left: torch.Tensor, right: torch.Tensor) -> float:
    """Of centred features (N, D), at most 1; 0 where one side alone is not finite, NaN where neither is.

    Examples:
        >>> round(cosine(torch.eye(3), 2 * torch.eye(3)), 4)
        1.0
    """
    finite = [bool(torch.isfinite(features).all()) for features in (left, right)]
    if not all(finite):
        return 0.0 if any(finite) else math.nan
    a, b = ((features - features.mean(0)).double().flatten() for features in (left, right))
    size = a.norm() * b.norm()
    return min(1.0, float(a @ b / size)) if size > 0 else float(torch.equal(a, b))
