"""The entry point: check the arguments, look up the constants, call the corruption."""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor

from shiftbench.corruptions.sampling import Draws
from shiftbench.corruptions.severity import TABLES, constants, resolve_table
from shiftbench.errors import InputError, InputTypeError, unknown
from shiftbench.registry import CORRUPTIONS

SEVERITIES = (1, 2, 3, 4, 5)


def corruptions(subset: str = "common") -> list[str]:
    """The names of the corruptions.

    Args:
        subset: "common" (the 15 of the benchmark), "extra" (the 4 for validation) or "all".

    Raises:
        InputError: no such subset.

    Examples:
        >>> corruptions()[:3]
        ['gaussian_noise', 'shot_noise', 'impulse_noise']
        >>> len(corruptions("all"))
        19
    """
    if subset not in ("common", "extra", "all"):
        raise unknown("subset of the corruptions", subset, ["common", "extra", "all"])
    return CORRUPTIONS.names(None if subset == "all" else subset)


def corrupt(
    images: Tensor,
    name: str,
    severity: int,
    *,
    table: str = "auto",
    seed: int = 0,
    index: Tensor | None = None,
) -> Tensor:
    """Corrupt a batch of images.

    The bytes of an image depend on (seed, name, severity, its index) and the table alone: not on the batch it comes
    in, its order, the process, the number of threads or the device.

    Args:
        images: uint8 (N, 3, H, W), or (N, 1, H, W) for grey images, not changed; H and W at least 8.
        name: one of :func:`corruptions`, or ``"package.module:function"``.
        severity: 1 to 5.
        table: the set whose severity constants are used, see :func:`resolve_table`.
        seed: any integer.
        index: int64 (N,), the images' places in their data set; 0 to N - 1 if not given.

    Returns:
        uint8, the shape and device of ``images``.

    Raises:
        InputError: an argument that cannot be used, with its name and value. For a wrong type it is also a TypeError.

    Examples:
        >>> images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
        >>> corrupt(images, "brightness", severity=3)[0, 0, 0, 0]
        tensor(38, dtype=torch.uint8)
        >>> first = corrupt(images, "gaussian_noise", 5)
        >>> torch.equal(first[1:], corrupt(images[1:], "gaussian_noise", 5, index=torch.tensor([1])))
        True
    """
    _check_images(images)
    if not isinstance(severity, Integral) or severity not in SEVERITIES or isinstance(severity, bool):
        raise InputError(f"severity must be 1, 2, 3, 4 or 5, not {severity!r}.")
    if not isinstance(seed, Integral) or isinstance(seed, bool):
        raise InputTypeError(f"seed must be an integer, not {seed!r}.")
    function = CORRUPTIONS.load(name)
    settings = TABLES[resolve_table(table, (images.shape[2], images.shape[3]))]
    row = constants(name, int(severity), settings.name)
    index = _check_index(index, images)
    if len(images) == 0:
        return images.clone()
    return function(images.contiguous(), row, settings, Draws(int(seed), name, int(severity), index))


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor):
        raise InputTypeError(f"images must be a torch tensor, not {type(images).__name__}.")
    if images.dtype != torch.uint8:
        raise InputTypeError(
            f"images must be uint8 with values 0..255, not {images.dtype}: the corruptions are defined on 8-bit images, "
            "and a float image does not say whether it ends at 1 or at 255."
        )
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError(f"images must be (N, 3, H, W) or (N, 1, H, W), not {tuple(images.shape)}.")
    if min(images.shape[2:]) < 8:
        raise InputError(f"images must be at least 8 x 8 pixels, not {images.shape[2]} x {images.shape[3]}.")


def _check_index(index: Tensor | None, images: Tensor) -> Tensor:
    if index is None:
        return torch.arange(len(images), device=images.device)
    if not isinstance(index, Tensor) or index.dtype != torch.int64:
        given = index.dtype if isinstance(index, Tensor) else type(index).__name__
        raise InputTypeError(f"index must be an int64 tensor, not {given}.")
    if index.shape != (len(images),):
        raise InputError(f"index must have one entry per image, ({len(images)},), not {tuple(index.shape)}.")
    return index.to(images.device).contiguous()
