"""The smallest thing an evaluation keeps: the partitions of one encoder under one condition, and their scores.

A file is written the moment its partitions are known and carries the hash of everything it depends on, so that an
interrupted evaluation goes on where it was and never mixes in what other inputs made.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shiftbench.records import atomic_path


@dataclass(frozen=True)
class Partitions:
    """What is known of one encoder under one condition.

    Attributes:
        key: hash of all inputs.
        labels: int16 (P, S, N), cluster of each image for P protocols and S seeds; -1 is no cluster. Empty on failure.
        scores: metric name -> float64 (P, S); empty without class labels.
        chance: the same with permuted labels, known for the clean split only.
        reason: why there is nothing, empty when there is.
    """

    key: str
    labels: np.ndarray
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    chance: Mapping[str, np.ndarray] = field(default_factory=dict)
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether the partitions were made."""
        return not self.reason

    @classmethod
    def failed(cls, key: str, reason: str) -> Partitions:
        """The record of a failure; ``reason`` is shortened to one line."""
        line = " ".join(reason.split())[:300]
        return cls(key, np.empty((0, 0, 0), np.int16), reason=line or "unknown failure")

    def save(self, path: Path) -> None:
        """Write the file atomically."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                key=np.array(self.key),
                labels=self.labels.astype(np.int16),
                reason=np.array(self.reason),
                metrics=np.array(list(self.scores), dtype=np.str_),
                scores=np.array(list(self.scores.values()), dtype=np.float64),
                chance=np.array(list(self.chance.values()), dtype=np.float64),
            )

    @classmethod
    def load(cls, path: Path) -> Partitions | None:
        """Read a file; None where there is none or it is damaged."""
        try:
            with np.load(path, allow_pickle=False) as file:
                metrics = file["metrics"].tolist()
                scores, chance = (dict(zip(metrics, file[name], strict=False)) for name in ("scores", "chance"))
                return cls(str(file["key"]), file["labels"], scores, chance, str(file["reason"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
