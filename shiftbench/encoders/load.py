"""From what a user names to an encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import torch

from shiftbench.encoders.base import Encoder, pick_device
from shiftbench.encoders.callables import wrap_callable
from shiftbench.encoders.precision import DTYPES
from shiftbench.encoders.preprocess import flag
from shiftbench.errors import InputError, unknown
from shiftbench.registry import ENCODERS

UNPREFIXED = ("file", "exported", "python")  # sources that are recognised by the location itself
EXPORTED = (".pt2", ".onnx", ".ts", ".torchscript")


def load_encoder(
    uri: str | Path | Callable[[torch.Tensor], Any], *, device: str = "auto", dtype: str = "auto", **options: Any
) -> Encoder:
    """Load an encoder: uint8 (N, 3, H, W) -> float32 (N, D).

    Args:
        uri: a run folder or a file of weights, ``torchvision:NAME/WEIGHTS``, ``timm:NAME``,
            ``robustbench:DATASET/THREAT/NAME``, ``hf:NAME``, ``package.module:callable``, ``pixels``, ``pca:K``,
            ``random:BACKBONE``. Options may ride on it: ``weights.pt?arch=resnet18&norm=imagenet``. Or a python callable
            uint8 (N, 3, H, W) -> (N, D) itself, with ``name`` and ``version`` as options.
        device: "auto", "cpu", "cuda", "cuda:1".
        dtype: arithmetic of its torch network, where it has one: "float32" or "bfloat16". "auto" is float32, and lets an
            evaluation choose the arithmetic of all its encoders (:func:`~shiftbench.encoders.settle.settle`).
        options: as in the URI. Every source takes ``name`` (what tables call it), and ``feature`` (a name or several, the
            default first), ``pool`` and ``l2``, see :meth:`Encoder.select`. The rest depends on the source.

    Raises:
        InputError: no such checkpoint, a file that is none, weights that do not fit, or an unknown option.

    Examples:
        >>> encoder = load_encoder("random:small_cnn?seed=1", device="cpu", name="untrained")
        >>> encoder.name, encoder(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape
        ('untrained', torch.Size([2, 128]))
        >>> load_encoder("random:small_cnn", device="cpu", feature=["convolutions", "backbone"]).feature_names
        ('convolutions+avg', 'backbone')
    """
    if callable(uri):
        return wrap_callable(uri, **options)
    uri = str(uri)
    location, _, query = uri.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True)) | options
    riding = options.pop("dtype", "auto")
    asked = _asked_dtype(uri, dtype, riding)
    name = options.pop("name", None)
    view = {key: options.pop(key) for key in ("feature", "pool", "l2") if key in options}
    encoder = _load(location, pick_device(device), options)
    if view:
        encoder = encoder.select(
            _listed(view.get("feature", "")), pool=view.get("pool", ""), l2=flag("l2", view.get("l2", False))
        )
    if asked != "auto" and (encoder.castable or riding != "auto"):
        encoder = encoder.with_dtype(asked)
        encoder.pinned = True
    encoder.name = name or encoder.name
    return encoder


def _load(location: str, device: torch.device, options: dict[str, Any]) -> Encoder:
    source, _, rest = location.partition(":")
    if source in ENCODERS and source not in UNPREFIXED:
        return _call(source, rest, device, options)
    suffix = Path(location).suffix
    if suffix in EXPORTED or (suffix == ".pt" and flag("trust", options.get("trust", False))):
        return _call("exported", location, device, options)
    kind = "file" if Path(location).exists() or ":" not in location else "python"
    return _call(kind, location, device, options)


def _call(source: str, location: str, device: torch.device, options: dict[str, Any]) -> Encoder:
    try:
        encoder: Encoder = ENCODERS.load(source)(location, device=device, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise InputError(f"Encoder {location or source!r} takes no such option: {str(error).split()[-1]}.") from error
    return encoder


def _asked_dtype(uri: str, given: str, riding: str) -> str:
    for dtype in (given, riding):
        if dtype not in DTYPES:
            raise unknown("dtype", dtype, DTYPES)
    if given != riding and "auto" not in (given, riding):
        raise InputError(f"{uri}: dtype={riding} on the name, dtype={given} beside it. Leave one of them out.")
    return riding if given == "auto" else given


def _listed(names: str | Sequence[str]) -> list[str]:
    return [name for name in names.split(",") if name] if isinstance(names, str) else list(names)
