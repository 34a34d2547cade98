"""Whether an encoder says the same of an image whenever it is asked, in whatever company."""

from __future__ import annotations

import torch

from shiftbench.encoders.base import Encoder
from shiftbench.encoders.settle import cosine

STEADY = 0.999  # least cosine of centred features; other batch sizes alone leave more than that, in bfloat16 too
PARTS = (5, 11)  # sizes of the batches of the second look


def unsteady(encoder: Encoder, images: torch.Tensor) -> str:
    """Encode the same images twice, the second time in other batches; what differs, in words, or nothing.

    Args:
        encoder: any.
        images: uint8 (N, 3, H, W), at least 16.

    Returns:
        Empty where all features agree, and where the encoder fails, which is told elsewhere.

    Examples:
        >>> images = torch.randint(256, (16, 3, 8, 8), dtype=torch.uint8)
        >>> unsteady(Encoder("means", lambda x: {"backbone": x.float().mean((2, 3))}, fingerprint="1"), images)
        ''
        >>> unsteady(Encoder("ranks", lambda x: {"backbone": x.float().mean((2, 3)).argsort(0)}, fingerprint="2"), images)[:34]
        'its feature backbone depends on th'
    """
    images = images[: sum(PARTS)]
    try:
        whole = encoder.features(images)
        parts = [encoder.features(part) for part in images.split([*PARTS, len(images) - sum(PARTS)]) if len(part)]
    except Exception:  # anyone's code; its failure is a row with its reason
        return ""
    for name, features in whole.items():
        same = cosine(features, torch.cat([part[name] for part in parts]))
        if same < STEADY:
            return (
                f"its feature {name} depends on the batch or on chance: the same images gave others in batches of other size "
                f"(cosine {same:.3f}); dropout, random masks and BatchNorm in training mode do that"
            )
    return ""
