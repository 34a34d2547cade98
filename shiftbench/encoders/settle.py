"""In which arithmetic the encoders of one comparison run: float32, or bfloat16 where that is faster and says the same."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch

from shiftbench.encoders.base import Encoder
from shiftbench.encoders.precision import DTYPES, has_fast_bfloat16
from shiftbench.errors import InputError, unknown
from shiftbench.images import Images, evenly
from shiftbench.runtime.console import say

SAME = 0.999  # least agreement of bfloat16 features with float32 ones


def settle(encoders: Sequence[Encoder], images: Images, dtype: str = "auto") -> list[Encoder]:
    """Bring all encoders of one comparison to one arithmetic.

    "auto" is bfloat16 where every network runs on a device that is fast in it and the features of a probe agree with
    those in float32 (:func:`agreement` of at least 0.999); otherwise all run in float32. An encoder that was loaded
    in an arithmetic of its own decides for all. Encoders without a torch network of ours compute as they do.

    Args:
        encoders: in any order.
        images: uint8 (N, 3, H, W), clean images; up to 64 of them are encoded twice.
        dtype: "auto", "float32" or "bfloat16".

    Returns:
        The encoders in the same order; those that change are new, and share their weights with the old ones.

    Raises:
        InputError: two of them, or one and ``dtype``, ask for different arithmetics.
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
        probe = evenly(images)
        for encoder in networks:
            same = agreement(encoder.with_dtype("float32"), cast[id(encoder)], probe)
            if same >= SAME:
                continue
            differ = f"bfloat16 features of {encoder.name} agree with float32 ones to {same:.4f} only"
            if asked:
                say(f"{differ}; they are used since they were asked for")
            else:
                say(f"{differ}: all encoders run in float32")
                return settle(encoders, images, "float32")
    return [cast.get(id(encoder), encoder) for encoder in encoders]


def agreement(one: Encoder, other: Encoder, images: torch.Tensor) -> float:
    """How far two encoders say the same about uint8 (N, 3, H, W): 1 where their features are equal.

    It is the cosine between all centred features of the one and of the other, (N, D) taken as one vector each, of
    the feature where it is lowest. Centring matters: features far from the origin have cosines near 1 whatever
    they say. An encoder that fails on the images agrees: its failure is reported where it is used.
    """
    found = [1.0]
    with suppress(Exception):  # a stranger's code may raise anything
        left, right = one.features(images), other.features(images)
        for name, value in left.items():
            a, b = ((side - side.mean(0)).double().flatten() for side in (value, right[name]))
            size = a.norm() * b.norm()
            found.append(float(a @ b / size) if size > 0 else float(torch.equal(a, b)))
    return min(found)
