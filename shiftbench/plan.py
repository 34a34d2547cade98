"""An evaluation's arguments, resolved and checked before anything is computed or written."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shiftbench.console import say
from shiftbench.corruptions import resolve_table
from shiftbench.data import load_dataset
from shiftbench.data.shifts import conditions
from shiftbench.encoders import load_encoder
from shiftbench.encoders.base import Encoder
from shiftbench.encoders.files import DESCRIPTION, wrap_callable
from shiftbench.errors import InputError, unknown
from shiftbench.records import Condition, Dataset, Split
from shiftbench.registry import CLUSTERERS

PROTOCOLS = ("frozen", "refit")
CODE = 1  # raise it when a change alters results: what older code wrote is then computed anew

EncoderLike = str | Path | Encoder | Callable[[torch.Tensor], Any]


@dataclass(frozen=True)
class Plan:
    """Everything the numbers of an evaluation depend on.

    Attributes:
        data: the data set; clusters are fitted on its train split and scored on its test split.
        encoders: by slug, the name of their files.
        conditions: the clean split first, then every shifted one.
        clusterer: a registered name.
        k: number of clusters.
        k_source: where k comes from: "true" (the number of classes) or "given".
        seeds: clusterings per cell, with the seeds 0, 1, ...
        protocols: "frozen", "refit".
        feature: which feature, "auto" for each encoder's default.
        table: the resolved table of severity constants.
        seed: of the corruptions' randomness.
        batch_size: images encoded at once.
        folder: the results folder.
    """

    data: Dataset
    encoders: Mapping[str, Encoder]
    conditions: Sequence[Condition]
    clusterer: str
    k: int
    k_source: str
    seeds: int
    protocols: tuple[str, ...]
    feature: str
    table: str
    seed: int
    batch_size: int
    folder: Path

    @property
    def settings(self) -> dict[str, Any]:
        """The plain values that determine the numbers, besides encoder and condition."""
        return {
            "code": CODE,
            "data": self.data.fingerprint,
            "clusterer": self.clusterer,
            "k": self.k,
            "seeds": self.seeds,
            "protocols": list(self.protocols),
            "feature": self.feature,
            "seed": self.seed,
        }

    def key(self, slug: str, condition: Condition) -> str:
        """The hash of all that the partitions of one encoder under one condition depend on."""
        return _digest([self.settings, self.encoders[slug].fingerprint, repr(condition)])

    def path(self, slug: str, condition: Condition) -> Path:
        """Where those partitions are kept."""
        return self.folder / "partitions" / slug / f"{condition.label}.npz"


def make_plan(
    checkpoint: EncoderLike | Sequence[EncoderLike],
    *,
    data: str | Mapping[str, Any] | Dataset,
    shift: str | Sequence[str] | None,
    floors: Sequence[str],
    clusterer: str,
    k: int | bool,
    seeds: int,
    protocols: Sequence[str],
    feature: str,
    table: str,
    seed: int,
    limit: int | None,
    batch_size: int,
    device: str,
    results: str | Path | None,
) -> Plan:
    """Resolve the arguments of :func:`shiftbench.evaluate`, which describes them.

    Raises:
        InputError: an argument that cannot be used.
    """
    for name, value in {"seeds": seeds, "batch_size": batch_size, "limit": limit}.items():
        if value is not None and (not isinstance(value, int) or value < 1):
            raise InputError(f"{name}={value}: a whole number of at least 1 is needed.")
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed={seed}: a whole number of at least 0 is needed.")
    protocols, floors = _listed(protocols), _listed(floors)
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise unknown("protocol", protocol, PROTOCOLS)
    if not protocols:
        raise InputError(f"protocols is empty: name one of {', '.join(PROTOCOLS)}.")
    CLUSTERERS.load(clusterer)
    dataset = _limited(_dataset(data), limit)
    height, width = dataset.test.images.shape[-2:]
    resolved = resolve_table(table, (height, width))
    wanted = conditions(_listed(shift), resolved)
    number, source = _clusters(k, dataset)
    encoders = _encoders(checkpoint, floors, device)
    features = dict.fromkeys(name for encoder in encoders.values() for name in encoder.feature_names)
    if feature != "auto" and feature not in features:
        raise unknown("feature", feature, ["auto", *features])
    plan = Plan(
        data=dataset,
        encoders=encoders,
        conditions=wanted,
        clusterer=clusterer,
        k=number,
        k_source=source,
        seeds=seeds,
        protocols=tuple(dict.fromkeys(protocols)),
        feature=feature,
        table=resolved,
        seed=seed,
        batch_size=batch_size,
        folder=Path(),
    )
    digest = _digest([plan.settings, [e.fingerprint for e in encoders.values()], list(map(repr, wanted))])
    return replace(plan, folder=Path(results or f"results/{dataset.name}-{digest[:8]}"))


def newest_run(runs: Path) -> Path:
    """The run folder whose training finished last.

    Raises:
        InputError: there is none.
    """
    finished = [file for file in runs.glob(f"*/{DESCRIPTION}") if file.is_file()]
    if not finished:
        raise InputError(
            f"No finished run in {str(runs)!r}: train one with `shiftbench train`, or name an encoder with --checkpoint."
        )
    return max(finished, key=lambda file: (file.stat().st_mtime_ns, str(file))).parent


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _listed(names: str | Sequence[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())


def _dataset(data: str | Mapping[str, Any] | Dataset) -> Dataset:
    if isinstance(data, Dataset):
        return data
    return load_dataset(data) if isinstance(data, str) else load_dataset(**data)


def _limited(dataset: Dataset, limit: int | None) -> Dataset:
    """The data set cut to ``limit`` images per split, evenly spaced."""
    if limit is None:
        return dataset

    def cut(split: Split) -> Split:
        rows = np.unique(np.linspace(0, len(split) - 1, min(limit, len(split))).round().astype(int))
        return Split(split.images[rows], None if split.labels is None else split.labels[rows])

    return Dataset(dataset.name, cut(dataset.train), cut(dataset.test), dataset.classes)


def _clusters(k: int | bool, dataset: Dataset) -> tuple[int, str]:
    if k is True:
        if not dataset.classes:
            raise InputError(
                f"{dataset.name} has no labels, so k=true means nothing: give the number of clusters, k=10."
            )
        number, source = len(dataset.classes), "true"
    elif isinstance(k, int) and k is not False:
        number, source = k, "given"
    else:
        raise InputError(f"k={k}: true or a whole number is needed.")
    smallest = min(len(dataset.train), len(dataset.test))
    if not 2 <= number <= smallest:
        raise InputError(
            f"k={number}: between 2 and {smallest} is possible, the number of images in the smaller split."
        )
    return number, source


def _encoders(
    checkpoint: EncoderLike | Sequence[EncoderLike], floors: Sequence[str], device: str
) -> dict[str, Encoder]:
    """Encoders by slug, each set of weights once, yours before the floors."""
    asked = list(checkpoint) if isinstance(checkpoint, (list, tuple)) else [checkpoint]
    encoders = [_encoder(one, device) for one in asked]
    # An untrained network is the floor of a trained one when it has the same architecture.
    backbone = next((e.origin["backbone"] for e in encoders if "backbone" in e.origin), "")
    encoders += [load_encoder(f"random:{backbone}" if one == "random" else one, device=device) for one in floors]
    if not encoders:
        raise InputError("Nothing to evaluate: checkpoint and floors are both empty.")
    distinct: dict[str, Encoder] = {}
    for encoder in encoders:
        same = distinct.setdefault(encoder.fingerprint, encoder)
        if same is not encoder:
            say(f"{encoder.name} has the weights of {same.name} and is scored once, as {same.name}")
    return _named(list(distinct.values()))


def _encoder(one: Any, device: str) -> Encoder:
    if isinstance(one, Encoder):
        return one
    if isinstance(one, (str, Path)):
        return load_encoder(str(one), device=device)
    if callable(one):
        return wrap_callable(one, name=getattr(one, "__name__", type(one).__name__))
    raise InputError(f"{one!r} is no encoder: a URI, an Encoder or a callable images -> (N, D) is needed.")


def _named(encoders: list[Encoder]) -> dict[str, Encoder]:
    """By slug; encoders that would share a name and training seed get the start of their fingerprint behind it."""
    identities = [(encoder.name, encoder.train_seed) for encoder in encoders]
    named = {}
    for encoder, identity in zip(encoders, identities, strict=True):
        if identities.count(identity) > 1:
            encoder.name = f"{encoder.name}@{encoder.fingerprint[:6]}"
        seed = "" if encoder.train_seed is None else f"-seed{encoder.train_seed}"
        slug = (re.sub(r"[^\w.@=-]+", "-", encoder.name).strip(".-") or "encoder") + seed
        named[slug if slug not in named else f"{slug}-{encoder.fingerprint[:6]}"] = encoder
    return named
