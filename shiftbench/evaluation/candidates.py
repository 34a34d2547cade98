"""What is scored: encoders, each with one or several of its features."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shiftbench.encoders.base import Encoder
from shiftbench.encoders.callables import wrap_callable
from shiftbench.encoders.load import load_encoder
from shiftbench.encoders.settle import settle
from shiftbench.errors import InputError, unknown
from shiftbench.records import Dataset
from shiftbench.runtime.console import say

STEPS = ("l2", "whiten")
HEAD = "cluster"  # the feature that is a parametric head's own clustering

EncoderLike = str | Path | Encoder | Callable[[torch.Tensor], Any]
Checkpoint = EncoderLike | Sequence[EncoderLike] | Mapping[str, EncoderLike]
"""One encoder, several, or several by the names that tables call them."""


@dataclass(frozen=True)
class Candidate:
    """One encoder with one of its features: a row of the comparison.

    Attributes:
        slug: the name of the encoder's files.
        encoder: the encoder.
        raw: which of its features.
        steps: what is done to the feature before it is clustered: "l2" (unit length), "whiten" (PCA-whitened on the train split).
    """

    slug: str
    encoder: Encoder
    raw: str
    steps: tuple[str, ...]

    @property
    def is_head(self) -> bool:
        """Whether these are the outputs of a parametric head, which are read and not clustered."""
        return self.raw == HEAD

    @property
    def feature(self) -> str:
        """The feature's name in the tables, ``head+l2``."""
        return "+".join((self.raw, *self.steps))

    @property
    def id(self) -> tuple[str, str]:
        """(slug, feature)."""
        return self.slug, self.feature


def load_encoders(
    checkpoint: Checkpoint, floors: Sequence[str], dataset: Dataset, dtype: str, device: str
) -> dict[str, Encoder]:
    """Load the encoders that are scored: each set of weights once, yours before the floors, all with the same dtype.

    Returns:
        Encoders by slug, the name of their files.

    Raises:
        InputError: no encoder is named, or an encoder cannot be loaded.
    """
    if isinstance(checkpoint, Mapping):
        encoders = [_renamed(_encoder(given, device), name) for name, given in checkpoint.items()]
    else:
        asked = list(checkpoint) if isinstance(checkpoint, (list, tuple)) else [checkpoint]
        encoders = [_encoder(given, device) for given in asked]
    for encoder in encoders:
        if not encoder.traceable:
            say(
                f"{encoder.name}: all that it computes with cannot be known, so it is computed anew in each call; "
                "version=... says that it has not changed"
            )
    # An untrained network is the floor of a trained one when it has the same architecture.
    backbone = next((e.origin["backbone"] for e in encoders if "backbone" in e.origin), "")
    encoders += [load_encoder(f"random:{backbone}" if floor == "random" else floor, device=device) for floor in floors]
    if not encoders:
        raise InputError("Nothing to evaluate: checkpoint and floors are both empty.")
    fitted = [encoder.fit(dataset.train.images) if encoder.needs_fit else encoder for encoder in encoders]
    distinct: dict[str, Encoder] = {}
    for encoder in settle(fitted, dataset.test.images, dtype):
        same = distinct.setdefault(encoder.fingerprint, encoder)
        if same is not encoder and same.name != encoder.name:
            say(f"{encoder.name} has the weights of {same.name} and is scored once, as {same.name}")
    return _named(list(distinct.values()))


def _renamed(encoder: Encoder, name: str) -> Encoder:
    renamed = copy.copy(encoder)
    renamed.name = name
    return renamed


def _encoder(given: Any, device: str) -> Encoder:
    if isinstance(given, Encoder):
        return given
    if isinstance(given, (str, Path)):
        return load_encoder(str(given), device=device)
    if callable(given):
        return wrap_callable(given)
    raise InputError(f"{given!r} is no encoder: a URI, an Encoder or a callable images -> (N, D) is needed.")


def _named(encoders: list[Encoder]) -> dict[str, Encoder]:
    """By slug; encoders that would share a name and training seed are told apart by what follows it.

    It is the start of the fingerprint where that is the encoder's own, else a number: ``mean``, ``mean@2``.
    """
    identities = [(encoder.name, encoder.train_seed) for encoder in encoders]
    numbers: Counter[tuple[str, int | None]] = Counter()
    named: dict[str, Encoder] = {}
    for encoder, identity in zip(encoders, identities, strict=True):
        numbers[identity] += 1
        mark = f"@{encoder.fingerprint[:6]}" if encoder.traceable else f"@{numbers[identity]}" * (numbers[identity] > 1)
        if identities.count(identity) > 1:
            encoder = _renamed(encoder, encoder.name + mark)
        seed = "" if encoder.train_seed is None else f"-seed{encoder.train_seed}"
        slug = (re.sub(r"[^\w.=-]+", "-", encoder.name).strip(".-") or "encoder") + seed
        slug += f"@{encoder.fingerprint[:6]}" * encoder.traceable  # so that files of other content stay apart
        named[slug if slug not in named else f"{slug}-{len(named)}"] = encoder
    return named


def make_candidates(encoders: Mapping[str, Encoder], features: Sequence[str]) -> list[Candidate]:
    """Every encoder with every feature that was asked for, and its parametric head if it has one.

    Args:
        encoders: by slug; an encoder without the feature takes its default.
        features: ``backbone``, ``head+l2``, ``auto``; empty means ``auto``.

    Raises:
        InputError: a feature that no encoder has.
    """
    available = dict.fromkeys(name for encoder in encoders.values() for name in encoder.feature_names)
    candidates: dict[tuple[str, str], Candidate] = {}
    for asked in features or ["auto"]:
        name, steps = asked, []
        while name not in available and name.rpartition("+")[2] in STEPS:
            name, _, step = name.rpartition("+")
            steps.append(step)
        if name != "auto" and name not in available:
            raise unknown(
                "feature", name, ["auto", *available, *(f"{raw}+{step}" for raw in available for step in STEPS)]
            )
        ordered = tuple(step for step in STEPS if step in steps)
        for slug, encoder in encoders.items():
            candidate = Candidate(slug, encoder, encoder.feature_name(name), ordered)
            candidates.setdefault(candidate.id, candidate)
    for slug, encoder in encoders.items():
        if HEAD in encoder.feature_names:
            candidates.setdefault((slug, HEAD), Candidate(slug, encoder, HEAD, ()))
    order = {slug: i for i, slug in enumerate(encoders)}
    return sorted(candidates.values(), key=lambda candidate: order[candidate.slug])
