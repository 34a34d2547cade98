"""timm's networks: ``timm:resnet18.a1_in1k``; the preprocessing is that of the pretrained tag."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shiftbench.encoders.base import Encoder, module_encoder
from shiftbench.encoders.preprocess import Preprocess
from shiftbench.encoders.zoo import (
    LOGITS,
    adjusted,
    download_allowed,
    given_file,
    hub_file,
    library,
    read_state,
    say_fetched,
)
from shiftbench.errors import InputError
from shiftbench.records import sha256

HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def load(
    location: str, *, device: torch.device, weights: str | None = None, download: str | bool = False, **changes: Any
) -> Encoder:
    """Load a network of timm (Wightman 2019).

    Args:
        location: ARCHITECTURE.TAG as timm has it; without a tag the architecture's first.
        device: where it runs.
        weights: a file of weights in place of timm's, for the same preprocessing.
        download: fetch the weights into the cache of the Hugging Face hub (or torch.hub) if they are not there.
        changes: norm, size, crop, interpolation in place of those of the tag.

    Raises:
        InputError: timm is not installed or has no such network, or weights that are not in the cache or do not fit.

    Examples:
        >>> load("resnet18.a1_in1k", device=torch.device("cpu"), download=True).name  # doctest: +SKIP
        'timm:resnet18.a1_in1k'
    """
    timm = library("timm")
    about = _tag(timm, location)
    network = timm.create_model(location, pretrained=False)
    file = given_file(weights) if weights is not None else _published(about, location, download)
    state = read_state(file, network, location)
    loaded = _create(timm, location, state, about, file)
    head = loaded.get_classifier()
    loaded.reset_classifier(0)
    return module_encoder(
        f"timm:{location}", loaded, adjusted(_preprocess(timm, loaded), **changes),
        {LOGITS: head} if isinstance(head, nn.Linear) else {}, device=device, default="backbone",
        origin={"architecture": location, "weights": str(file), "sha256": sha256(file)},
    )  # fmt: skip


def _tag(timm: Any, location: str) -> dict[str, Any]:
    """What timm knows of a pretrained tag."""
    name, _, tag = location.partition(".")
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=1)
        raise InputError(f"timm has no network {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
    about = (
        timm.get_pretrained_cfg(location, allow_unregistered=False)
        if not tag or timm.is_model_pretrained(location)
        else None
    )
    if about is None:
        tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{name}.*")]
        raise InputError(f"timm has no weights {location!r}; its tags of {name} are {', '.join(tags) or 'none'}.")
    plain: dict[str, Any] = about.to_dict()
    return plain


def _published(about: Mapping[str, Any], location: str, download: str | bool) -> Path:
    """timm's own file, from where timm keeps it."""
    missing = f"timm:{location}"
    repository = about.get("hf_hub_id")
    if not repository:
        if not about.get("url"):
            raise InputError(f"timm has no weights for {location!r}: name a file with ?weights=PATH.")
        return hub_file(about["url"], missing, download)
    if repository.endswith("/"):
        repository += location if "." in location else f"{location}.{about['tag']}"
    hub = library("huggingface_hub")
    names = [about["hf_hub_filename"]] if about.get("hf_hub_filename") else HUB_FILES
    for name in names:
        cached = hub.try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    download_allowed(download, missing, f"the Hugging Face cache, as {repository}")
    for name in names:
        with suppress(hub.errors.EntryNotFoundError):
            file = Path(hub.hf_hub_download(repository, name))
            say_fetched(file, f"the Hugging Face hub, {repository}")
            return file
    raise InputError(f"The Hugging Face hub has none of {', '.join(names)} in {repository}.")


def _create(timm: Any, location: str, state: Mapping[str, torch.Tensor], about: Mapping[str, Any], file: Path) -> Any:
    """The network with these weights; timm renames tensors where its code has changed, and needs all to fit."""
    classifier = about.get("classifier")
    weight = state.get(f"{classifier}.weight") if isinstance(classifier, str) else None
    overlay, classes = {"state_dict": dict(state)}, {}
    if isinstance(classifier, str):
        number = 0 if weight is None else len(weight) - (about.get("label_offset") or 0)
        classes = {"num_classes": number}
    try:
        return timm.create_model(location, pretrained=True, pretrained_cfg_overlay=overlay | classes, **classes)
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{file.name!r} does not fit timm:{location}: {reason}") from error


def _preprocess(timm: Any, network: nn.Module) -> Preprocess:
    data = timm.data.resolve_model_data_config(network)
    squash = data["crop_mode"] == "squash" and data["crop_pct"] == 1
    return Preprocess(
        data["mean"], data["std"], data["input_size"][-1],
        crop=None if squash else data["crop_pct"], interpolation=data["interpolation"],
    )  # fmt: skip
