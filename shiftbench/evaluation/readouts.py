"""Readouts: what turns features into something that is scored.

Each is a small frozen value. It says what tables call it, where its results are kept, and what is measured of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from shiftbench.clustering.argmax import Argmax
from shiftbench.registry import CLUSTERERS, METRICS, Metric
from shiftbench.results.schema import FEATURES, PROBE

Layout = list[tuple[str, int, int]]
"""(protocol, number of clusters, number of seeds) of each protocol."""


@dataclass(frozen=True)
class Readout(ABC):
    """What all readouts have in common.

    Attributes:
        folder: the part of the results folder that keeps its results.
        suffix: of its files.
        is_clustering: whether it makes clusters, whose stability can be measured.
    """

    folder: ClassVar[str] = "partitions"
    suffix: ClassVar[str] = "npz"
    is_clustering: ClassVar[bool] = False

    @property
    @abstractmethod
    def name(self) -> str:
        """What the column ``clusterer`` of the tables says."""

    @property
    def path(self) -> str:
        """The name of its folder."""
        return self.name.replace(":", "-")

    @abstractmethod
    def layout(self, protocols: Sequence[str], k: int, classes: int, seeds: int) -> Layout:
        """Its layout in an evaluation with these protocols, k clusters, and so many classes and seeds."""

    @abstractmethod
    def takes(self, metric: Metric) -> bool:
        """Whether a metric describes what it makes."""

    def k_source(self, given: str) -> str:
        """Where its number of clusters comes from; ``given`` is the evaluation's own answer."""
        return given

    def metrics(self, protocol: str, *, shifted: bool, labelled: bool) -> list[str]:
        """The metrics that are measured under one protocol, on shifted or clean, labelled or unlabelled images."""
        return [
            name
            for name, metric in METRICS.items()
            if self.takes(metric)
            and (labelled or not metric.with_labels)
            and (shifted or not metric.of_shift)
            and (protocol == "frozen" or "centers" not in metric.needs)
        ]


@dataclass(frozen=True)
class Clustered(Readout):
    """Clusters of the features, by a clusterer that is registered or named as ``module:attribute``."""

    clusterer: str
    is_clustering: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The clusterer's."""
        return self.clusterer

    @property
    def kind(self) -> Any:
        """The clusterer's class."""
        return CLUSTERERS.load(self.clusterer)

    def layout(self, protocols: Sequence[str], k: int, classes: int, seeds: int) -> Layout:
        """Every protocol."""
        return [(protocol, k, seeds) for protocol in protocols]

    def takes(self, metric: Metric) -> bool:
        """Metrics of partitions."""
        return metric.of_partition


@dataclass(frozen=True)
class Own(Clustered):
    """The clusters that a parametric head states itself."""

    clusterer: str = "argmax"

    @property
    def kind(self) -> Any:
        """The class that reads them off the head's outputs."""
        return Argmax


@dataclass(frozen=True)
class Probed(Readout):
    """A classifier that was fitted to labelled clean features: what clusters could reach at best."""

    probe: str

    @property
    def name(self) -> str:
        """``probe:knn``."""
        return PROBE + self.probe

    def layout(self, protocols: Sequence[str], k: int, classes: int, seeds: int) -> Layout:
        """It is fitted once and applied."""
        return [("frozen", classes, 1)]

    def takes(self, metric: Metric) -> bool:
        """Metrics that count correct classes; other metrics of a table ignore which class was predicted."""
        return metric.of_table and "mapping" in metric.needs

    def k_source(self, given: str) -> str:
        """The classes."""
        return "true"


@dataclass(frozen=True)
class Described(Readout):
    """The features as they are."""

    @property
    def name(self) -> str:
        """``features``."""
        return FEATURES

    def layout(self, protocols: Sequence[str], k: int, classes: int, seeds: int) -> Layout:
        """There are no clusters."""
        return [("", 0, 1)]

    def takes(self, metric: Metric) -> bool:
        """Metrics of features alone."""
        return not metric.of_partition

    def k_source(self, given: str) -> str:
        """Nowhere: there are no clusters."""
        return ""


@dataclass(frozen=True)
class Stable(Clustered):
    """How stable a clusterer's partitions are, along the axes that need features."""

    folder: ClassVar[str] = "stability"
    suffix: ClassVar[str] = "json"
    is_clustering: ClassVar[bool] = False

    def takes(self, metric: Metric) -> bool:
        """Agreement is measured, and no registered metric."""
        return False
