"""Scores of partitions: with labels, without, among themselves, and across shifts. Arrays in, numbers out."""

from shiftbench.metrics.agreement import Labelings, paired, pairwise
from shiftbench.metrics.consensus import (
    cluster_jaccard,
    consensus_partition,
    pac,
    pairwise_jaccard,
    sample_consensus,
)
from shiftbench.metrics.counts import Contingency, contingency, match
from shiftbench.metrics.external import (
    accuracy,
    ami,
    ari,
    completeness,
    homogeneity,
    mean_recall,
    nmi,
    purity,
    recalls,
    scores,
    v_measure,
    worst_class,
)
from shiftbench.metrics.inference import bootstrap_agreement, bootstrap_mean, holm, paired_tests
from shiftbench.metrics.internal import FrechetReference, collapsed, drift, entropy, silhouette
from shiftbench.metrics.probes import KnnProbe, LinearProbe
from shiftbench.metrics.robustness import (
    calibrated_drop,
    chance_level,
    effective_robustness,
    mce,
    relative_mce,
    severity_area,
)

__all__ = [
    "Contingency", "FrechetReference", "KnnProbe", "Labelings", "LinearProbe", "accuracy", "ami", "ari", "bootstrap_agreement",
    "bootstrap_mean", "calibrated_drop", "chance_level", "cluster_jaccard", "collapsed", "completeness",
    "consensus_partition", "contingency", "drift", "effective_robustness", "entropy", "holm", "homogeneity", "match", "mce",
    "mean_recall", "nmi", "pac", "paired", "paired_tests", "pairwise", "pairwise_jaccard", "purity", "recalls",
    "relative_mce", "sample_consensus", "scores", "severity_area", "silhouette", "v_measure", "worst_class",
]  # fmt: skip
