"""The options of an evaluation and how they are checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftbench.errors import InputError, unknown
from shiftbench.metrics.probes import PROBES
from shiftbench.records import Dataset
from shiftbench.registry import CLUSTERERS
from shiftbench.stability.axes import AXES
from shiftbench.stability.choose_k import CRITERIA, parse_k

PROTOCOLS = ("frozen", "refit")
OVERWRITE = ("missing", "always", "never")


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """The options of :func:`shiftbench.evaluate`, which describes them; names and lists of names become tuples.

    Raises:
        InputError: a name that does not exist, or a number outside its range.
    """

    data: str | Mapping[str, Any] | Dataset
    shift: Sequence[str]
    floors: Sequence[str]
    clusterer: Sequence[str]
    probes: Sequence[str]
    k: int | bool | str
    k_by: str
    seeds: int
    protocols: Sequence[str]
    stability: Sequence[str]
    feature: Sequence[str]
    table: str
    baseline: str
    seed: int
    limit: int | None
    overwrite: str
    batch_size: int
    deterministic: bool
    workers: int | None
    dtype: str
    device: str
    cache: str | Path | None
    runs: str | Path
    results: str | Path | None

    def __post_init__(self) -> None:
        for name in ("shift", "floors", "clusterer", "probes", "protocols", "stability", "feature"):
            value = getattr(self, name)
            names = (value,) if isinstance(value, str) else tuple(value or ())
            object.__setattr__(self, name, tuple(dict.fromkeys(names)))
        if self.stability == ("all",):
            object.__setattr__(self, "stability", tuple(AXES))
        for name in ("seeds", "batch_size", "limit", "workers"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise InputError(f"{name}={value}: a whole number of at least 1 is needed.")
        if type(self.seed) is not int or self.seed < 0:
            raise InputError(f"seed={self.seed}: a whole number of at least 0 is needed.")
        _check_names("clusterer", self.clusterer, CLUSTERERS)
        for name in self.clusterer:
            CLUSTERERS.load(name)
        _check_names("criterion for k", [self.k_by], CRITERIA)
        _check_names("probe", self.probes, PROBES, may_be_empty=True)
        _check_names("protocol", self.protocols, PROTOCOLS)
        _check_names("stability axis", self.stability, AXES, may_be_empty=True)
        _check_names("overwrite", [self.overwrite], OVERWRITE)
        parse_k(self.k)


def _check_names(kind: str, names: Sequence[str], known: Collection[str], may_be_empty: bool = False) -> None:
    """Refuse a name that is not known; ``module:attribute`` always is a clusterer's."""
    for name in names:
        if name not in known and not (known is CLUSTERERS and ":" in name):
            raise unknown(kind, name, known)
    if not names and not may_be_empty:
        raise InputError(f"no {kind} is named: use one of {', '.join(known)}.")
