"""How people read names and numbers."""

from __future__ import annotations

import numpy as np

from shiftbench.registry import METRICS

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
_PROBES = {"probe:knn": "k-NN probe", "probe:linear": "linear probe"}
_NOT_FRACTIONS = {"collapsed": 1, "drift": 2, "frechet": 2, "silhouette": 2}  # metric to decimals


def is_floor(encoder: str) -> bool:
    """Whether an encoder's name is that of a floor: raw pixels or an untrained network."""
    return encoder == "pixels" or encoder.partition(":")[0] == "random"


def is_probe(clusterer: str) -> bool:
    """Whether a clusterer is a classifier on the features, which says what the features know."""
    return clusterer.startswith("probe:")


def needs_labels(metric: str) -> bool:
    """Whether a metric is a score against labels."""
    return metric not in METRICS or METRICS[metric].group in ("", "labels")


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
    return decimal(value, _NOT_FRACTIONS[metric]) if metric in _NOT_FRACTIONS else percent(value)


def condition_name(corruption: str, severity: int, shift: str = "") -> str:
    """How people read a condition: ``impulse noise 5``, ``prior 3``."""
    words = corruption.replace("_", " ") or shift
    return f"{words} {severity}" if severity else words


def metric_name(metric: str) -> str:
    """How people read a metric: ``ACC``."""
    return _METRIC_NAMES.get(metric, metric.replace("_", " ").capitalize() if metric in METRICS else metric)


def probe_name(clusterer: str) -> str:
    """How people read a probe: ``k-NN probe``."""
    return _PROBES.get(clusterer, f"{clusterer.partition(':')[2]} probe")
