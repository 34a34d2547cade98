"""What is kept of stability: agreement along the axes that need features, per candidate, condition and clusterer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from shiftbench.records import Skipped, write_text
from shiftbench.stability.axes import Agreement, Measured


@dataclass(frozen=True)
class Kept:
    """Agreement along one axis.

    Attributes:
        measured: by metric, or why it could not be measured.
        n: images whose partitions were compared.
    """

    measured: Measured
    n: int


@dataclass(frozen=True)
class Agreements:
    """What is known of the stability of one candidate under one condition.

    Attributes:
        key: hash of all inputs.
        axes: by name.
        reason: why there is nothing, empty when there is.
    """

    key: str
    axes: Mapping[str, Kept] = field(default_factory=dict)
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
            else {"n": kept.n, "metrics": {metric: asdict(one) for metric, one in kept.measured.items()}}
            for name, kept in self.axes.items()
        }
        write_text(path, json.dumps({"key": self.key, "reason": self.reason, "axes": axes}, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: Path) -> Agreements | None:
        """Read a file; None where there is none or it is damaged."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            axes: dict[str, Kept] = {}
            for name, kept in content["axes"].items():
                measured: Measured = (
                    Skipped(kept["skipped"])
                    if "skipped" in kept
                    else {metric: Agreement(**one) for metric, one in kept["metrics"].items()}
                )
                axes[name] = Kept(measured, kept["n"])
            return cls(content["key"], axes, content["reason"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
