"""Vision models of transformers: ``hf:facebook/dinov2-small``, or ``hf:FOLDER`` with a saved one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shiftbench.encoders.base import Encoder, module_encoder
from shiftbench.encoders.preprocess import Preprocess, flag
from shiftbench.encoders.zoo import adjusted, library
from shiftbench.errors import InputError
from shiftbench.records import sha256
from shiftbench.runtime.console import say

PIL_INTERPOLATIONS = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # PIL's numbers


class Tower(nn.Module):
    """A vision model of transformers as float (N, 3, H, W) -> (N, D).

    Args:
        network: called with ``pixel_values``.
        pooled: whether its ``pooler_output`` is taken where it has one. Else the first token of the last state
            (N, T, D), or the average of its positions (N, D, H, W).

    Examples:
        >>> class Network(nn.Module):
        ...     def forward(self, pixel_values):
        ...         from types import SimpleNamespace
        ...         return SimpleNamespace(last_hidden_state=torch.zeros(len(pixel_values), 5, 7))
        >>> Tower(Network(), pooled=False)(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 7])
    """

    def __init__(self, network: nn.Module, pooled: bool) -> None:
        super().__init__()
        self.network, self.pooled = network, pooled

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised float (N, 3, H, W) -> (N, D)."""
        output = self.network(pixel_values=images)
        pooled: torch.Tensor | None = getattr(output, "pooler_output", None)
        if self.pooled and pooled is not None:
            return pooled.flatten(1)
        state: torch.Tensor = output.last_hidden_state
        return state[:, 0] if state.ndim == 3 else state.mean((2, 3))


def load(location: str, *, device: torch.device, download: str | bool = False, **changes: Any) -> Encoder:
    """Load a vision model, or the vision part of a model like CLIP: safetensors only, and never with remote code.

    "backbone" is the model's pooled output where its weights are in the checkpoint, else the first token; "projection"
    is CLIP's embedding in the space that images share with texts.

    Args:
        location: a folder that ``save_pretrained`` wrote, or a name of the Hugging Face hub.
        device: where it runs.
        download: fetch it into the hub's cache if it is not there.
        changes: norm, size, crop, interpolation in place of those of its image processor.

    Raises:
        InputError: transformers is not installed, or there is no such model, or it has no safetensors, incomplete
            weights, or no images as input.

    Examples:
        >>> load("facebook/dinov2-small", device=torch.device("cpu"), download=True).name  # doctest: +SKIP
        'hf:dinov2-small'
    """
    transformers, local = library("transformers"), not flag("download", download)
    whole, info, folder = _model(transformers, location, local)
    network = getattr(whole, "vision_model", whole)
    if getattr(network, "main_input_name", "pixel_values") != "pixel_values":
        raise InputError(f"hf:{location} is a {type(whole).__name__}, which takes no images.")
    missing = [str(key) for key in info["missing_keys"] if network is whole or "vision_model" in str(key)]
    lost = [key for key in missing if "pooler" not in key] + [str(key) for key in info["mismatched_keys"]]
    if lost:
        raise InputError(
            f"hf:{location}: its weights are not those of a {type(whole).__name__} (missing {', '.join(lost[:3])})."
        )
    heads = {"projection": whole.visual_projection} if hasattr(whole, "visual_projection") else {}
    about = _processor(transformers, location, local)
    if not about and changes.get("norm") is None:
        raise InputError(f"hf:{location} has no image processor that says how images were normalised: add ?norm=.")
    digest = _sha256(folder)
    if not local:
        say(f"hf:{location} is {folder}, sha256 {digest}")
    return module_encoder(
        f"hf:{Path(location).name}", Tower(network, pooled=not missing),
        adjusted(_preprocess(about, location, changes), **changes), heads, device=device, default="backbone",
        origin={"architecture": type(network).__name__, "weights": str(folder), "sha256": digest},
    )  # fmt: skip


def _model(transformers: Any, location: str, local: bool) -> tuple[Any, Mapping[str, Any], Path]:
    """The model, a record of what its checkpoint lacks, and the folder of its files."""
    options = {"local_files_only": local, "trust_remote_code": False}
    try:
        with _quiet(transformers):
            whole, info = transformers.AutoModel.from_pretrained(
                location, use_safetensors=True, output_loading_info=True, **options
            )
        config = transformers.utils.cached_file(location, "config.json", local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(_reason(location, error, local)) from error
    return whole.float(), info, Path(config).parent  # some are saved in half precision


def _processor(transformers: Any, location: str, local: bool) -> Mapping[str, Any]:
    """The plain values of its image processor; empty where it has none that can be read."""
    about: Mapping[str, Any]
    try:
        about, _ = transformers.ImageProcessingMixin.get_image_processor_dict(location, local_files_only=local)
    except (OSError, ValueError):
        return {}
    return about


def _preprocess(about: Mapping[str, Any], location: str, changes: Mapping[str, Any]) -> Preprocess:
    """The preprocessing that a saved image processor describes."""
    scale = about.get("rescale_factor", 1 / 255) * 255 if about.get("do_rescale", True) else 255
    mean, std = about.get("image_mean") or (0.0,) * 3, about.get("image_std") or (1.0,) * 3
    if not about.get("do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    mean, std = [value / scale for value in mean], [value / scale for value in std]
    if not about.get("do_resize", bool(about)):
        return Preprocess(mean, std)
    interpolation = PIL_INTERPOLATIONS.get(about.get("resample", 2))
    if interpolation is None and "interpolation" not in changes:
        raise InputError(f"hf:{location} resamples images in a way we lack: add ?interpolation=bicubic.")
    side, shorter = _sides(about.get("size", 224), about)
    crop = None if shorter is None else side / shorter
    return Preprocess(mean, std, side, crop=crop, interpolation=interpolation or "bicubic")


def _sides(size: Any, about: Mapping[str, Any]) -> tuple[int, int | None]:
    """(side of the input, length of the shorter side before the cut; None where images are stretched)."""
    size = {"shortest_edge": size} if isinstance(size, int) else dict(size)
    if "height" in size:
        return int(size["height"]), None
    if "shortest_edge" not in size:
        raise InputError(f"An image processor with size {size} is not known: name an ONNX export of the model.")
    shorter = int(size["shortest_edge"])
    if about.get("crop_pct") and shorter < 384:  # ConvNeXt's processor: the size is that of the input
        return shorter, int(shorter / about["crop_pct"])
    cut = about.get("crop_size", shorter) if about.get("do_center_crop") else shorter
    return int(cut["height"] if isinstance(cut, Mapping) else cut), shorter


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without transformers' remarks and progress bars: what is missing is checked here."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _sha256(folder: Path) -> str:
    """The hash of the weights' file, or of the hashes of several."""
    digests = [sha256(file) for file in sorted(folder.glob("*.safetensors"))]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _reason(location: str, error: Exception, local: bool) -> str:
    said = " ".join(str(error).split())
    if "trust_remote_code" in said or "auto_map" in said:
        return f"hf:{location} needs code of its own, which is never run: export it to ONNX where you trust it."
    if location.startswith((".", "/", "~")) and not Path(location).is_dir():
        return f"hf:{location}: there is no such folder."
    if Path(location).is_dir() and not list(Path(location).glob("*.safetensors")):
        return f"hf:{location} holds no .safetensors: pickled weights are not read; save it anew with save_pretrained."
    if local and not Path(location).is_dir():
        return f"hf:{location} is not in the Hugging Face cache: add ?download=true to fetch it, once."
    return f"hf:{location} cannot be loaded: {said[:300]}"
