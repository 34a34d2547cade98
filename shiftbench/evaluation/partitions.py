"""What an evaluation keeps of each task: partitions with their scores, or the agreement of partitions.

Each file is written as soon as its content is known and carries the hash of all its inputs. So an interrupted evaluation
continues where it stopped, and results of other inputs are never mixed in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from shiftbench.records import Skipped, atomic_path, write_text
from shiftbench.runtime.compat import NPZ_ERRORS, NUMPY_HEADERS
from shiftbench.stability.pairs import Agreement, Measured

Scores = Mapping[str, np.ndarray]

CONTENTS = "contents"


@dataclass(frozen=True)
class Partitions:
    """The results of one candidate with one readout under one condition.

    Attributes:
        key: hash of all inputs.
        protocols: names of the P protocols.
        ks: int64 (P,), number of clusters of each protocol.
        labels: int16 (P, S, N), cluster of each image for S seeds; -1 is no cluster. Empty on failure.
        scores: metric name -> float64 (P, S), NaN where a protocol has no such metric.
        chance: the same with permuted labels, known for clean images only.
        replicates: metric name -> float32 (P, B), means over seeds under B resamples of images and seeds.
        recalls: float64 (P, S, C), share of each class' images in the clusters that stand for it; empty without labels.
        note: what a reader of the scores must know ("fitted to 5,000 of 50,000 images").
        reason: why there is no result; empty if there is one.
    """

    key: str
    protocols: tuple[str, ...]
    ks: np.ndarray
    labels: np.ndarray
    scores: Scores = field(default_factory=dict)
    chance: Scores = field(default_factory=dict)
    replicates: Scores = field(default_factory=dict)
    recalls: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 0)))
    note: str = ""
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether the partitions were made."""
        return not self.reason

    @classmethod
    def failed(cls, key: str, reason: str) -> Partitions:
        """The record of a failure; ``reason`` is shortened to one line."""
        line = " ".join(reason.split())[:300]
        none = np.empty((0, 0, 0), np.int16)
        return cls(key, (), np.empty(0, np.int64), none, reason=line or "unknown failure")

    def save(self, path: Path) -> None:
        """Write the file atomically."""
        arrays = {
            "key": np.array(self.key),
            "protocols": np.array(self.protocols, dtype=np.str_),
            "ks": self.ks,
            "labels": self.labels.astype(np.int16),
            "recalls": self.recalls,
            "note": np.array(self.note),
            "reason": np.array(self.reason),
        }
        for name in ("scores", "chance", "replicates"):
            values: Scores = getattr(self, name)
            arrays |= {f"{name}:{metric}": value for metric, value in values.items()}
        arrays[CONTENTS] = np.array(sorted(arrays), dtype=np.str_)  # the names, which zip's checksums leave out
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its stub takes only allow_pickle by name

    @classmethod
    def load(cls, path: Path) -> Partitions | None:
        """Read a file; None where there is none or it is damaged."""
        try:
            with NUMPY_HEADERS, np.load(path, allow_pickle=False) as file:
                if sorted({*file.files} - {CONTENTS}) != file[CONTENTS].tolist():
                    return None
                values = {
                    name: {key.partition(":")[2]: file[key] for key in file.files if key.startswith(f"{name}:")}
                    for name in ("scores", "chance", "replicates")
                }
                return cls(
                    key=str(file["key"]),
                    protocols=tuple(file["protocols"].tolist()),
                    ks=file["ks"],
                    labels=file["labels"],
                    recalls=file["recalls"],
                    note=str(file["note"]),
                    reason=str(file["reason"]),
                    **values,
                )
        except NPZ_ERRORS:
            return None


@dataclass(frozen=True)
class AxisResult:
    """Agreement along one axis.

    Attributes:
        measured: by metric, or why it could not be measured.
        n: images whose partitions were compared.
    """

    measured: Measured
    n: int


@dataclass(frozen=True)
class Agreements:
    """How stable the partitions of one candidate are under one condition, along several axes.

    Attributes:
        key: hash of all inputs.
        axes: by name.
        reason: why there is no result; empty if there is one.
    """

    key: str
    axes: Mapping[str, AxisResult] = field(default_factory=dict)
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether the axes were measured."""
        return not self.reason

    def save(self, path: Path) -> None:
        """Write the file atomically."""
        axes = {
            name: {"n": kept.n, "skipped": kept.measured.reason}
            if isinstance(kept.measured, Skipped)
            else {"n": kept.n, "metrics": {metric: asdict(agreement) for metric, agreement in kept.measured.items()}}
            for name, kept in self.axes.items()
        }
        content = {"key": self.key, "reason": self.reason, "axes": axes}
        write_text(path, json.dumps({"content": content, "sha256": _digest(content)}, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: Path) -> Agreements | None:
        """Read a file; None where there is none or it is damaged."""
        try:
            file = json.loads(path.read_text(encoding="utf-8"))
            content = file["content"]
            if file["sha256"] != _digest(content):
                return None
            axes: dict[str, AxisResult] = {}
            for name, kept in content["axes"].items():
                measured: Measured = (
                    Skipped(kept["skipped"])
                    if "skipped" in kept
                    else {metric: Agreement(**values) for metric, values in kept["metrics"].items()}
                )
                axes[name] = AxisResult(measured, kept["n"])
            return cls(content["key"], axes, content["reason"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
