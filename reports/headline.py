"""What the page puts first. Everything else that it shows it takes from the tables and from the registry."""

from __future__ import annotations

from collections.abc import Sequence

HEADLINE = ("acc", "ari")
"""The scores of figures, verdict and short tables, in this order."""
PROBED = "acc"
"""The score by which clusters and probes are compared."""
AGREEMENT = "ari"
"""The number that says how far partitions agree."""
MEASURES = ("ari", "ami", "matched_acc", "sample_consensus", "cluster_jaccard", "pac")
"""The measures of agreement that stand first in their table; others follow."""
STARTS, MOVED = "initialization", "shift"
"""The axes that everybody sees: between random starts, and with the partition of the clean images."""
FROZEN, REFIT = "frozen", "refit"
"""The protocols that are set side by side."""
COMMON = "corruption"
"""The shift that stands before the others."""
DRAWN = 12
"""How many encoders figures show; the tables have all."""
MAX_ROWS = 1000
"""Of the overview; beyond them it keeps to the headline's scores."""


def headline_of(metrics: Sequence[str]) -> list[str]:
    """Those of the metrics that figures show; the first where none of ``HEADLINE`` is among them."""
    return [metric for metric in HEADLINE if metric in metrics] or list(metrics[:1])
