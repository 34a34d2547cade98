"""RobustBench's zoo: ``robustbench:cifar10/corruptions/Hendrycks2020AugMix_WRN``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shiftbench.encoders.base import Encoder
from shiftbench.encoders.preprocess import Preprocess
from shiftbench.encoders.zoo import adjusted, classifier_encoder, download_allowed, library, read_state, say_fetched
from shiftbench.errors import InputError, unknown

# What RobustBench does to images before its ImageNet networks, each of which normalises them itself.
PREPROCESSINGS: Mapping[str | None, Mapping[str, Any]] = {
    None: {},
    "Res224": {"size": 224},
    "Res256Crop224": {"size": 224, "crop": 224 / 256},
    "BicubicRes256Crop224": {"size": 224, "crop": 224 / 256, "interpolation": "bicubic"},
    "Crop288": {"size": 288, "crop": 1.0},
}
# Buffers with constants that some networks gained after their weights were published.
CONSTANT = ("mu", "sigma", "mean", "std", "normalize.mean", "normalize.std")
# Tensors in some files that are of no use for inference; the zoo skips them too.
LEFT_OVER = re.compile(r"(^|\.)(scores|model_preact_hl1\..*)$")


def load(
    location: str, *, device: torch.device, model_dir: str = "models", download: str | bool = False, **changes: Any
) -> Encoder:
    """Load a network of the RobustBench zoo (Croce et al. 2021).

    Its file is looked for where the zoo puts it, ``MODEL_DIR/DATASET/THREAT/NAME.pt``, and read without running it.

    Args:
        location: DATASET/THREAT/NAME, as in the zoo.
        device: where it runs.
        model_dir: the zoo's folder.
        download: let the zoo fetch the file if it is not there.
        changes: norm, size, crop, interpolation; the zoo's networks normalise images themselves.

    Raises:
        InputError: no such network, an ensemble of several files, or weights that are not there or do not fit.

    Examples:
        >>> cpu = torch.device("cpu")
        >>> load("cifar10/corruptions/Hendrycks2020AugMix_WRN", device=cpu, download=True).name  # doctest: +SKIP
        'robustbench:Hendrycks2020AugMix_WRN'
    """
    robustbench = library("robustbench")
    about = _entry(robustbench, location)
    if not isinstance(about["gdrive_id"], str):
        raise InputError(f"robustbench:{location} is not one network with one file of weights; name another.")
    dataset, threat, name = location.split("/")
    file = Path(model_dir).expanduser() / dataset / threat / f"{name}.pt"
    if not file.is_file():
        download_allowed(download, f"robustbench:{location}", str(file))
        file.parent.mkdir(parents=True, exist_ok=True)
        robustbench.utils.download_gdrive_new(about["gdrive_id"], file)
        if not file.is_file():
            raise InputError(f"RobustBench could not download {location} (Google Drive id {about['gdrive_id']}).")
        say_fetched(file, f"Google Drive, {about['gdrive_id']}")
    network = about["model"]()
    state = _state(file, network, name)
    preprocess = Preprocess((0.0,) * 3, (1.0,) * 3, **PREPROCESSINGS[about.get("preprocessing")])
    return classifier_encoder(
        f"robustbench:{name}", network, state, adjusted(preprocess, **changes), file,
        device=device, origin={"architecture": type(network).__name__, "zoo": location},
    )  # fmt: skip


def _state(file: Path, network: nn.Module, name: str) -> dict[str, torch.Tensor]:
    """The tensors of a zoo's file under the names that the network has for them today."""
    own, state = network.state_dict(), read_state(file, network, name)
    last = {key.removeprefix("last."): value for key, value in state.items() if key.startswith("last.")}
    state = last or state  # some files also hold the "best" epoch; the zoo takes the last epoch
    if not own.keys() & state.keys():  # an ImageNet network behind a layer that normalises
        state = {f"model.{key}": value for key, value in state.items()}
    state = {key: value for key, value in state.items() if key in own or not LEFT_OVER.search(key)}
    return state | {key: own[key] for key in CONSTANT if key in own and key not in state}


def _entry(robustbench: Any, location: str) -> Mapping[str, Any]:
    """The zoo's own line for DATASET/THREAT/NAME."""
    zoo: Mapping[Any, Any] = robustbench.model_zoo.model_dicts
    parts = location.split("/")
    if len(parts) != 3:
        raise InputError(f"robustbench:{location}: DATASET/THREAT/NAME is needed, cifar10/corruptions/NAME.")
    for kind, part in zip(("data set", "threat model", "network"), parts, strict=True):
        known = {getattr(key, "value", key): value for key, value in zoo.items()}
        if part not in known:
            raise unknown(f"RobustBench {kind}", part, known)
        zoo = known[part]
    return zoo
