"""What stands between uint8 images and a network, as options on a URI say it."""

from __future__ import annotations

from shiftbench.encoders.base import Preprocess
from shiftbench.errors import InputError, unknown

NORMS = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "mnist": ((0.1307,) * 3, (0.3081,) * 3),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}


def normalisation(norm: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, on the 0..1 scale.

    Args:
        norm: a name of ``NORMS``, or the numbers themselves: ``0.5,0.5,0.5/0.2,0.2,0.2``.

    Raises:
        InputError: neither a name nor two times three numbers, or a deviation that is not positive.
    """
    if norm in NORMS:
        return NORMS[norm]
    if "/" not in norm:
        raise unknown("norm", norm, [*NORMS, "MEAN,MEAN,MEAN/STD,STD,STD"])
    try:
        mean, std = (tuple(float(number) for number in part.split(",")) for part in norm.split("/"))
    except ValueError as error:
        raise InputError(f"norm={norm}: three means, a slash and three deviations are needed.") from error
    if len(mean) != 3 or len(std) != 3 or not min(std) > 0 or not max(map(abs, mean + std)) < 1e3:
        raise InputError(
            f"norm={norm}: three means, a slash and three positive deviations are needed, on the 0..1 scale."
        )
    return mean, std


def preprocessing(
    where: str,
    *,
    norm: str | None = None,
    size: str | int | None = None,
    crop: str | float | None = None,
    interpolation: str = "bilinear",
    default_size: int | None = None,
) -> Preprocess:
    """The preprocessing that a URI asks for.

    Args:
        where: the checkpoint, for messages.
        norm: input normalisation, as :func:`normalisation` takes it. It must be given: no state dict says it.
        size: side of the network's input in pixels; None takes images as they are.
        crop: share of the image's shorter side that is cut out, in (0, 1]; None stretches the whole image.
        interpolation: "bilinear", "bicubic" or "nearest".
        default_size: the one size that the network takes.

    Raises:
        InputError: norm is missing or unknown, size is not a whole number from 8 to 4096, or crop no share.
    """
    if norm is None:
        raise InputError(
            f"{where} does not say how its images were normalised: add ?norm= with one of {', '.join(NORMS)}, "
            "or MEAN,MEAN,MEAN/STD,STD,STD."
        )
    if size is not None and not (str(size).isdigit() and 8 <= int(size) <= 4096):
        raise InputError(f"size={size}: a whole number of pixels, 8 to 4096, is needed.")
    try:
        share = None if crop is None else float(crop)
    except ValueError as error:
        raise InputError(f"crop={crop}: a share of the image in (0, 1] is needed.") from error
    mean, std = normalisation(norm)
    return Preprocess(mean, std, int(size) if size else default_size, crop=share, interpolation=interpolation)


def flag(name: str, value: str | bool) -> bool:
    """A yes or no that may have come from a URI.

    Raises:
        InputError: it is neither true nor false.
    """
    known = {"true": True, "false": False}
    if str(value).lower() not in known:
        raise InputError(f"{name}={value}: use true or false.")
    return known[str(value).lower()]
