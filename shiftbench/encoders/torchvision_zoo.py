"""torchvision's classifiers: ``torchvision:resnet18/IMAGENET1K_V1``, or ``torchvision:resnet18?weights=PATH``."""

from __future__ import annotations

import difflib
from typing import Any

import torch

from shiftbench.encoders.base import Encoder
from shiftbench.encoders.preprocess import Preprocess, normalisation
from shiftbench.encoders.zoo import adjusted, classifier_encoder, given_file, hub_file, read_state
from shiftbench.errors import InputError, unknown
from shiftbench.runtime import compat


def load(
    location: str, *, device: torch.device, weights: str | None = None, download: str | bool = False, **changes: Any
) -> Encoder:
    """Load one of torchvision's classifiers (``torchvision.models``).

    Args:
        location: NAME/WEIGHTS, where WEIGHTS is a member of the architecture's weights enum, which also tells the
            preprocessing; NAME alone for weights of your own.
        device: where it runs.
        weights: a file of weights in place of torchvision's.
        download: fetch the weights into torch.hub's cache if they are not there.
        changes: norm, size, crop, interpolation in place of those of the weights enum. For NAME alone norm is needed.

    Raises:
        InputError: no such architecture or weights, or weights that are not in the cache or do not fit.

    Examples:
        >>> torch.save(compat.torchvision().models.get_model("shufflenet_v2_x0_5").state_dict(), "mine.pth")
        >>> encoder = load("shufflenet_v2_x0_5", device=torch.device("cpu"), weights="mine.pth", norm="imagenet")
        >>> encoder.feature_names
        ('backbone', 'logits')
    """
    models = compat.torchvision().models
    name, _, version = location.partition("/")
    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise InputError(f"torchvision has no classifier {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
    members = models.get_model_weights(name).__members__
    if version and version not in members:
        raise unknown(f"weights of {name}", version, members)
    if not version and weights is None:
        raise InputError(f"torchvision:{name} needs weights: {name}/{next(iter(members))}, or {name}?weights=PATH.")
    if version:
        preprocess, published = _of(members[version].transforms()), members[version].url
    elif changes.get("norm") is not None:
        preprocess = Preprocess(*normalisation(changes["norm"]))
    else:
        raise InputError(
            f"weights={weights} does not say how its images were normalised: add &norm=imagenet or another."
        )
    network = models.get_model(name, weights=None)
    file = given_file(weights) if weights is not None else hub_file(published, f"torchvision:{location}", download)
    return classifier_encoder(
        f"torchvision:{location}", network, read_state(file, network, name), adjusted(preprocess, **changes), file,
        device=device, origin={"architecture": name},
    )  # fmt: skip


def _of(transforms: Any) -> Preprocess:
    """The preset that comes with the weights, as our preprocessing."""
    size, shorter = transforms.crop_size[0], transforms.resize_size[0]
    interpolation = transforms.interpolation.value
    return Preprocess(transforms.mean, transforms.std, size, crop=size / shorter, interpolation=interpolation)
