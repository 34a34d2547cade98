"""What every number of a report means, once: the page's headings, its hover texts and its glossary."""

from __future__ import annotations

from dataclasses import dataclass

from shiftbench.registry import METRICS
from shiftbench.reports.names import metric_name


@dataclass(frozen=True)
class Quantity:
    """A column of the overview.

    Attributes:
        key: its name in the code and, but for the baseline behind mCE, its column of the summary table.
        heading: what the page's table calls it.
        definition: in a sentence or two.
        in_units: whether it is in units of the metric; else it is a fraction, whatever the metric.
    """

    key: str
    heading: str
    definition: str
    in_units: bool = False


_ALL = (
    Quantity(
        "clean",
        "Clean",
        "The metric on the clean test split, mean over runs. A run is one clustering (one random start) of one "
        "trained encoder.",
        in_units=True,
    ),
    Quantity(
        "shifted",
        "Mean shifted",
        "The mean of the metric over all conditions of the shift (for common corruptions 15 kinds at 5 "
        "severities) and over runs.",
        in_units=True,
    ),
    Quantity(
        "worst",
        "Worst",
        "The worst mean over runs among the conditions, and the condition's name. Its interval does not account "
        "for having picked it.",
        in_units=True,
    ),
    Quantity("drop", "Drop", "Clean minus mean shifted, in points.", in_units=True),
    Quantity(
        "calibrated_drop",
        "Calibrated drop",
        "(clean − shifted) / (clean − chance): the share of what the clusters knew beyond luck that the shift "
        "took away. Chance is the clean split scored with its labels permuted.",
    ),
    Quantity(
        "mce",
        "mCE",
        "Mean corruption error (Hendrycks & Dietterich 2019) with clustering error 1 − metric in place of the "
        "classification error: per corruption, the errors summed over severities, divided by the same sum of "
        "the baseline; then the mean over corruptions, in percent. The baseline itself has 100; lower is better.",
    ),
    Quantity(
        "relative_mce",
        "Relative mCE",
        "As mCE, with the increase of the error over the clean split in place of the error: what the corruptions "
        "add, relative to what they add for the baseline. Whoever starts low has little to lose and can look good "
        "here. Where a corruption hardly harms the baseline it is unsteady, where one does no harm it is empty.",
    ),
    Quantity(
        "stability",
        "Stability",
        "Mean pairwise agreement (adjusted Rand index) between partitions of the clean split that differ only "
        "by the clusterer's random start. Needs no labels.",
    ),
    Quantity(
        "agreement",
        "Agreement under shift",
        "Agreement (adjusted Rand index) of the partition of the shifted images with the partition of the same "
        "clean images from the same random start, mean over conditions. Needs no labels.",
    ),
    Quantity(
        "effective_robustness",
        "Effective robustness",
        "How far the shifted score lies above what the clean score predicts (Taori et al. 2020): the residual "
        "of a line fitted, on logit scale, through all encoders of the table. Needs at least five encoders.",
    ),
)
QUANTITIES = {quantity.key: quantity for quantity in _ALL}

TERMS = {
    "ACC": "Clustering accuracy: the share of images whose cluster is matched to their class, under the best "
    "one-to-one matching of clusters and classes (Hungarian method).",
    "NMI": "Normalised mutual information of clusters and classes, divided by the arithmetic mean of their entropies.",
    "ARI": "Adjusted Rand index (Hubert & Arabie 1985): how far two partitions treat pairs of images alike, "
    "adjusted so that unrelated partitions have 0 on average and equal ones 100.",
    "AMI": "Adjusted mutual information (Vinh et al. 2010), arithmetic mean: mutual information less what "
    "unrelated partitions would have.",
    "Purity": "The share of images that belong to the majority class of their cluster.",
    "Mean recall": "The share of a class that is in its cluster, mean over classes.",
    "Worst class": "The lowest such share of a class.",
    "V-measure": "The harmonic mean of homogeneity and completeness; the same number as NMI.",
    "Homogeneity": "1 if each cluster holds one class only.",
    "Completeness": "1 if each class lies in one cluster only.",
    "Silhouette": "How much nearer an image is to its own cluster than to the next one, −1 to 1 (Rousseeuw 1987).",
    "Entropy": "How evenly the images are spread over the clusters, 0 to 100 %. A fall says that clusters empty.",
    "Collapsed clusters": "The number of clusters with fewer images than a tenth of an equal share.",
    "Drift": "How far the images in the frozen clusters have moved from the clean centres, in units of the distance "
    "of the centres from their mean.",
    "Fréchet distance": "Between the clean features and the shifted ones, in units of the clean features' variance.",
    "matched": "The share of images in equal clusters after the best one-to-one renaming.",
    "image consensus": "The share of pairs of partitions in which an image's two clusters are matched, mean over "
    "images.",
    "cluster Jaccard": "How well a cluster is found again in another partition, mean over clusters (Hennig 2007): "
    "below 50 it dissolves, from 75 on it is valid.",
    "PAC": "The share of pairs of images that are together in more than 10 % and at most 90 % of the partitions "
    "(Șenbabaoğlu et al. 2014); lower is better.",
    "Probe": "A classifier on the same features, fitted with labels on the clean training split: the 20 nearest "
    "neighbours, or ridge regression. What it keeps under a shift and clusters lose, the features still hold.",
    "Frozen": "Clusters are fitted on the clean training split and, for ACC, matched to classes there; both are "
    "then applied to the test images as they are. This is what a deployed clustering meets.",
    "Refit": "Clusters are fitted anew on the very images that are scored, and matched to their classes. This "
    "asks whether the features still hold the structure.",
    "Floor": "What an encoder has to beat: raw pixels (no encoder) and an untrained network (no learning). Drawn "
    "in grey.",
    "Interval": "95 % percentile bootstrap. Images and random starts of the clustering are drawn with replacement, "
    "the same for all encoders and conditions, and training seeds where there are several. What no resamples of images "
    "were kept for is resampled over runs alone. With one training seed an interval says nothing about what another "
    "training would give.",
    "Bold": "The best of the encoders under the same protocol and metric, where a paired test puts it before every "
    "other one (p ≤ 0.05, corrected for all pairs). Only clean and mean shifted scores are tested. Drops and relative "
    "mCE are never bold: whoever has little to lose looks good in them.",
    "Severity": "Common corruptions have five strengths, 1 to 5, whose constants are in the named severity "
    "table; 0 is the clean split.",
    "Spearman's ρ": "The rank correlation, over conditions, of the drop of a score with the drop of a quantity that "
    "needs no labels. More is worse on both sides: 1 is a quantity that puts the conditions in the very order of their "
    "harm. Conditions of one corruption are alike, so its intervals are rather too narrow.",
}


def definitions() -> dict[str, str]:
    """The meaning of every quantity, metric and term; a metric that has no text above has the registry's."""
    registered = {
        metric_name(name): f"{metric.summary[:1].upper()}{metric.summary[1:]}." for name, metric in METRICS.items()
    }
    others = {name: summary for name, summary in registered.items() if name not in TERMS}
    return {quantity.heading: quantity.definition for quantity in QUANTITIES.values()} | TERMS | others
