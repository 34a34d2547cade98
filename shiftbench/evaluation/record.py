"""``run.json``: what was evaluated, how, and with what."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from shiftbench.encoders.base import Encoder
from shiftbench.evaluation.context import Work
from shiftbench.evaluation.plan import RESULTS_VERSION, Plan
from shiftbench.features.cache import content_key
from shiftbench.records import CLEAN, Shift, Skipped
from shiftbench.registry import SHIFTS
from shiftbench.runtime.provenance import hardware, versions

Record = dict[str, Any]
APART = ("checkpoint", "shift", "data", "runs", "results", "workers", "cache")  # written apart, or without effect


def identity(plan: Plan) -> Record:
    """What all evaluations in one folder have in common."""
    return {"data": plan.data.fingerprint, "limit": plan.limit, "seed": plan.seed, "code": RESULTS_VERSION}


def command(function: Callable[..., Any], given: Mapping[str, Any]) -> str:
    """The command line that repeats a call of ``evaluate``, as far as a command line can.

    Args:
        function: the function that was called; arguments at their default are left out.
        given: the arguments.
    """
    defaults = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    words = ["shiftbench", "evaluate"]
    for name in ("checkpoint", "shift"):
        value = given[name]
        for item in value if isinstance(value, (list, tuple, Mapping)) else [value] * (value is not None):
            words += [f"--{name}", str(item)]
    data = given["data"]
    options = dict(data) if isinstance(data, Mapping) else {"name": getattr(data, "name", data)}
    words += ["--data", str(options.pop("name"))]
    words += [f"data.{name}={value}" for name, value in options.items() if value is not None]
    for name in (name for name in given if name not in APART):
        value, default = (list(v) if isinstance(v, (list, tuple)) else v for v in (given[name], defaults[name]))
        if value != default:
            words.append(f"{name}={value}".replace(" ", "").replace("'", ""))
    return shlex.join(words)


def describe(plan: Plan, work: Work | None, earlier: Mapping[str, Any]) -> Record:
    """Everything in the record except times.

    Args:
        plan: the evaluation.
        work: what the tasks were done with; None if no task was left to do.
        earlier: the record that was in the folder before.
    """
    return {
        "format": 2,
        "version": versions().get("shiftbench", "checkout"),
        "identity": identity(plan),
        "config": plan.settings
        | {
            "batch_size": plan.batch_size,
            "clusterers": list(plan.clusterers),
            "probes": list(plan.probes),
            "axes": list(plan.axes),
        },
        "data": {
            "name": plan.data.name,
            "fingerprint": plan.data.fingerprint,
            "n_train": len(plan.data.train),
            "n_test": plan.sample(CLEAN).n,
            "classes": list(plan.data.classes),
        },
        "shifts": [_describe_shift(plan, name) for name in dict.fromkeys(c.shift for c in plan.samples)],
        "skipped": {c.label: s.reason for c, s in plan.samples.items() if isinstance(s, Skipped)},
        "encoders": [
            _describe_encoder(plan, slug, encoder, _dimensions(slug, encoder, work, earlier))
            for slug, encoder in plan.encoders.items()
        ],
        "table": plan.table,
        "protocols": list(plan.protocols),
        "seeds": plan.seeds,
        "k": list(plan.ks) if plan.k_source == "estimated" else plan.ks[0],
        "dtype": next(iter(plan.encoders.values())).dtype,
        "versions": versions(),
        "hardware": hardware(),
    }


def _dimensions(slug: str, encoder: Encoder, work: Work | None, earlier: Mapping[str, Any]) -> dict[str, int]:
    """The number of dimensions of each feature: as seen in this evaluation, else as recorded earlier."""
    known = {
        name: width
        for other in earlier.get("encoders", [])
        if other["slug"] == slug and other["fingerprint"] == encoder.fingerprint
        for name, width in other["dimensions"].items()
    }
    clean = {} if work is None else work.clean
    seen = {
        name: features.shape[1]
        for (owner, name), features in clean.items()
        if owner == slug and isinstance(features, np.ndarray)
    }
    return known | seen


def _describe_encoder(plan: Plan, slug: str, encoder: Encoder, dimensions: dict[str, int]) -> Record:
    features = [candidate.feature for candidate in plan.candidates if candidate.slug == slug]
    return {
        "name": encoder.name,
        "train_seed": encoder.train_seed,
        "slug": slug,
        "fingerprint": encoder.fingerprint,
        "traceable": encoder.traceable,
        "feature": features[0],
        "features": features,
        "dimensions": dimensions,
        "dtype": encoder.dtype,
        "origin": encoder.origin,
    }


def _describe_shift(plan: Plan, name: str) -> Record:
    shift = SHIFTS.load(name) if name in SHIFTS else None
    known = {"kind": "own", "source": "", "citation": ""}
    if isinstance(shift, Shift):
        known = {"kind": shift.kind, "source": shift.source, "citation": shift.citation}
    files = {c.label: s.content for c, s in plan.samples.items() if c.shift == name and not isinstance(s, Skipped)}
    return {"name": name, "images": {label: content_key(digest) for label, digest in files.items() if digest}, **known}
