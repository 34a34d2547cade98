"""What the model zoos of other libraries have in common: files, classifiers, preprocessing."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from shiftbench.encoders.arch import best, guesses_for
from shiftbench.encoders.base import Encoder, module_encoder
from shiftbench.encoders.preprocess import Preprocess, flag, normalisation
from shiftbench.encoders.reading import read_tensors
from shiftbench.encoders.state_dict import COUNTER
from shiftbench.encoders.taps import split_classifier
from shiftbench.errors import InputError
from shiftbench.records import sha256
from shiftbench.runtime import compat
from shiftbench.runtime.console import say

EXTRAS = {"timm": "timm", "huggingface_hub": "timm", "transformers": "hf", "onnxruntime": "onnx"}
LOGITS = "logits"


def library(name: str) -> ModuleType:
    """An optional library, imported when it is needed.

    Raises:
        InputError: it is not installed; the message names the extra that brings it.
    """
    compat.torchvision()  # repaired before another package imports it broken
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they use deprecated parts of torch
            return compat.robustbench() if name == "robustbench" else import_module(name)
    except ModuleNotFoundError as error:
        package = f"'shiftbench[{EXTRAS[name]}]'" if name in EXTRAS else name
        raise InputError(f"{error.name} is not installed: pip install {package}.") from error


def download_allowed(download: str | bool, missing: str, where: str) -> None:
    """Refuse to go on without weights that are not there, unless they may be downloaded.

    Raises:
        InputError: they may not be downloaded.
    """
    if not flag("download", download):
        raise InputError(f"The weights of {missing} are not in {where}: add ?download=true to fetch them, once.")


def say_fetched(file: Path, source: str) -> None:
    """Tell the user which file has come from where."""
    say(f"Fetched {file} from {source}, sha256 {sha256(file)}")


def hub_file(url: str, missing: str, download: str | bool) -> Path:
    """A file of torch.hub's cache, by its address; fetched with torch's own client where that is allowed.

    A hash that is part of the file's name is checked after the download, as torch.hub does.

    Raises:
        InputError: a file that is not in the cache and may not be downloaded.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not file.is_file():
        download_allowed(download, missing, str(file))
        file.parent.mkdir(parents=True, exist_ok=True)
        named = torch.hub.HASH_REGEX.search(file.name)
        torch.hub.download_url_to_file(url, str(file), named.group(1) if named else None)
        say_fetched(file, url)
    return file


def given_file(path: str) -> Path:
    """The file of ``?weights=PATH``.

    Raises:
        InputError: no such file.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"weights={path}: there is no such file.")
    return file


def read_state(file: Path, network: nn.Module, name: str) -> dict[str, torch.Tensor]:
    """The tensors of a file under the network's own names, without prefixes."""
    tensors = read_tensors(file)
    guess = best(guesses_for(network, name, tensors), ema=True, where=repr(file.name))
    return dict(guess.state if guess else tensors)


def classifier_encoder(
    name: str,
    network: nn.Module,
    state: Mapping[str, torch.Tensor],
    preprocess: Preprocess,
    file: Path,
    *,
    device: torch.device,
    origin: Mapping[str, Any],
) -> Encoder:
    """An encoder of a zoo's classifier: "backbone" is the input of its last linear layer, "logits" the output.

    Args:
        name: what tables call it.
        network: float (N, 3, H, W) -> (N, classes).
        state: all of its weights; the classifier may have another number of classes, or be missing.
        preprocess: what comes before it.
        file: where the weights come from.
        device: where it runs.
        origin: what else is known of it.

    Raises:
        InputError: a network that does not run on images of this size, or weights that do not fit it.
    """
    side = preprocess.size or 32
    try:
        layer = split_classifier(network, preprocess(torch.zeros(1, 3, side, side, dtype=torch.uint8)))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InputError(f"{name} does not take images of {side} pixels ({error}): add ?size=.") from error
    weight, bias = state.get(f"{layer}.weight"), state.get(f"{layer}.bias")
    head = _linear(weight, bias) if layer and weight is not None else None
    fill_strictly(network, {k: v for k, v in state.items() if not layer or not k.startswith(f"{layer}.")}, name)
    return module_encoder(
        name, network, preprocess, {LOGITS: head} if head is not None else {}, device=device, default="backbone",
        origin={"weights": str(file), "sha256": sha256(file), **origin},
    )  # fmt: skip


def fill_strictly(network: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Load all tensors of a network.

    Raises:
        InputError: tensors that are missing, unknown, of another shape, or not finite.
    """
    own = {key: value for key, value in network.state_dict().items() if not key.endswith(COUNTER)}
    given = {key: value for key, value in state.items() if not key.endswith(COUNTER)}
    kinds = {
        "missing": [key for key in own if key not in given],
        "another shape for": [key for key in own if key in given and own[key].shape != given[key].shape],
        "unknown": [key for key in given if key not in own],
        "not finite": [key for key, value in given.items() if not bool(torch.isfinite(value).all())],
    }
    if any(kinds.values()):
        said = "; ".join(f"{kind} {', '.join(names[:3])}" for kind, names in kinds.items() if names)
        matched = len(own) - len(kinds["missing"]) - len(kinds["another shape for"])
        raise InputError(f"{where}: the weights match {matched} of {len(own)} tensors of this network ({said}).")
    network.load_state_dict(given, strict=False)


def adjusted(
    preprocess: Preprocess,
    *,
    norm: str | None = None,
    size: str | int | None = None,
    crop: str | float | None = None,
    interpolation: str | None = None,
) -> Preprocess:
    """A zoo's preprocessing, changed by the options of a URI; ``crop=none`` stretches images to the input's size.

    Raises:
        InputError: an impossible value.
    """
    about = preprocess.describe()
    if norm is not None:
        about["mean"], about["std"] = normalisation(norm)
    if interpolation is not None:
        about["interpolation"] = interpolation
    try:
        if size is not None:
            about["size"] = int(size)
        if crop is not None:
            about["crop"] = None if crop == "none" else float(crop)
    except ValueError as error:
        raise InputError(f"size={size}, crop={crop}: a number of pixels and a share in (0, 1] are needed.") from error
    return Preprocess(**about)


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return layer
