"""How people read names and numbers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from shiftbench.registry import METRICS
from shiftbench.results.schema import probe_of

AXIS_NAMES = {
    "initialization": "between random starts",
    "algorithm": "between algorithms",
    "projection": "between views of the features",
    "bootstrap": "between samples of images",
    "augmentation": "between augmented views",
    "training_seed": "between trainings",
    "shift": "with the clean partition",
}
"""What differs between the partitions whose agreement is measured, in the order of the page."""

# Spellings that do not follow from the name in the tables.
_METRIC_NAMES = {
    "acc": "ACC",
    "nmi": "NMI",
    "ari": "ARI",
    "ami": "AMI",
    "v_measure": "V-measure",
    "frechet": "Fréchet distance",
    "collapsed": "Collapsed clusters",
    "shift_ari": "Agreement with clean, ARI",
    "shift_ami": "Agreement with clean, AMI",
    "initialization_ari": "Agreement of starts, ARI",
    "initialization_ami": "Agreement of starts, AMI",
    "matched_acc": "matched",
    "sample_consensus": "image consensus",
    "cluster_jaccard": "cluster Jaccard",
    "pac": "PAC",
}
_PROBE_NAMES = {"knn": "k-NN probe"}
_DECIMALS = {"collapsed": 1}  # of means of a count; other plain numbers have two


def is_floor(encoder: str) -> bool:
    """Whether an encoder's name is that of a floor: raw pixels or an untrained network."""
    return encoder == "pixels" or encoder.partition(":")[0] == "random"


def needs_labels(metric: str) -> bool:
    """Whether a metric is a score against labels, as one is taken to be that is not registered."""
    return metric not in METRICS or METRICS[metric].with_labels


def is_higher_better(metric: str) -> bool:
    """The direction of a metric; up where it is not registered."""
    return metric not in METRICS or METRICS[metric].higher_is_better


def is_fraction(metric: str) -> bool:
    """Whether people read a metric in percent: a share from 0 to 1, or a score against labels that is at most 1."""
    if metric not in METRICS:
        return True
    low, high = METRICS[metric].range
    return high == 1 and (low == 0 or needs_labels(metric))


def percent(fraction: float) -> str:
    """A fraction as people read it: ``89.1``; a dash where there is none."""
    return decimal(100 * fraction, 1)


def decimal(value: float, places: int = 2) -> str:
    """A number as people read it: ``−0.43``; a dash where there is none."""
    if not np.isfinite(value):
        return "–"
    text = f"{value:.{places}f}"
    return text.replace("-", "−") if float(text) else text.removeprefix("-")


def score(value: float, metric: str) -> str:
    """A metric's value as people read it: percent for fractions, else the plain number."""
    return percent(value) if is_fraction(metric) else decimal(value, _DECIMALS.get(metric, 2))


def condition_name(corruption: str, severity: int, shift: str = "") -> str:
    """How people read a condition: ``impulse noise 5``, ``prior 3``."""
    words = corruption.replace("_", " ") or shift
    return f"{words} {severity}" if severity else words


def label_in_words(label: str) -> str:
    """How people read a condition's label in the tables: ``impulse noise 5`` for ``impulse_noise-5``."""
    name, _, severity = label.rpartition("-")
    return condition_name(name, int(severity)) if severity.isdigit() else label


def metric_name(metric: str) -> str:
    """How people read a metric: ``ACC``."""
    return _METRIC_NAMES.get(metric, metric.replace("_", " ").capitalize() if metric in METRICS else metric)


def probe_name(clusterer: str) -> str:
    """How people read a probe: ``k-NN probe``."""
    probe = probe_of(clusterer)
    return _PROBE_NAMES.get(probe, f"{probe} probe")


def axis_name(axis: str) -> str:
    """How people read an axis of stability: ``between random starts``."""
    return AXIS_NAMES.get(axis, axis.replace("_", " "))


def known_first(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """The distinct names, those that are known in their order before all others as they come."""
    distinct = list(dict.fromkeys(names))
    in_order = [name for name in known if name in distinct]
    return in_order + [name for name in distinct if name not in in_order]
