"""Three sentences that say what was found, and no more than the numbers carry."""

from __future__ import annotations

import math

import numpy as np

from shiftbench.reports.figures import percent
from shiftbench.reports.tables import Number, Row, overview
from shiftbench.reports.view import View, metric_name
from shiftbench.summary import Runs, interval

PROTOCOL = {"frozen": "with clusters frozen on clean data", "refit": "with clusters fitted anew"}


def verdict(view: View) -> list[str]:
    """The sentences of one view: how good and how robust, against whom, and what helps.

    Without labels they speak of agreement alone.
    """
    protocol, metric = view.protocols[0], (view.headline or [""])[0]
    shift = (view.shifts or ["clean"])[0]
    rows = [
        row for row in overview(view) if (row.protocol, row.metric, row.shift) == (protocol, metric, shift)
    ]
    key = "shifted" if view.shifts else "clean"
    ranked = [row for row in rows if math.isfinite(row.number(key).value)]
    if not ranked:
        return _without_labels(view, rows)
    # The subject is the best encoder that learned something; floors alone can be one another's.
    best = max(ranked, key=lambda row: (not row.entrant.floor, row.number(key).value))
    sentences = [_level(view, best), _rivals(view, best, ranked, key), _help(view, best)]
    return [sentence for sentence in sentences if sentence]


def caveats(view: View) -> list[str]:
    """What the intervals do not cover, and what was left out of the means."""
    found = []
    if len(view.cells):
        scored = view.cells[view.cells["shift"] != "chance"]
        trained = scored.groupby("encoder")["train_seed"].nunique().max()
        seeds = scored["seed"].nunique()
        if seeds * max(trained, 1) < 2:
            found.append("One run per encoder: nothing here has an interval, and differences may be luck.")
        elif trained < 2:
            found.append(
                f"Intervals come from {seeds} clusterings of one training per encoder. They say how much the random "
                "start of the clustering matters, not how another training would turn out."
            )
        failed = int((scored["status"] != "ok").sum())
        if failed:
            found.append(
                f"{failed:,} of {len(scored):,} cells were not measured. They are left out of every mean, so a row with "
                "missing conditions is not comparable with a complete one."
            )
    elif len(view.stability):
        found.append("No labels: only agreement between partitions could be measured.")
    return found


def _level(view: View, row: Row) -> str:
    clean, shifted, drop = (row.number(key) for key in ("clean", "shifted", "drop"))
    who, how = row.entrant.label, PROTOCOL.get(row.protocol, row.protocol)
    if not math.isfinite(shifted.value):
        return f"{who} reaches {_measured(clean)} {metric_name(row.metric)} on clean {view.data}, {how}."
    share = row.number("calibrated_drop").value
    of_knowledge = (
        f" – {percent(share)} % of what it knew beyond chance" if math.isfinite(share) and share > 0 else ""
    )
    return (
        f"{who} reaches {_measured(clean)} {metric_name(row.metric)} on clean {view.data} and "
        f"{_measured(shifted)} on average under {_shift(view, row)}, {how}: "
        f"a {'drop' if drop.value >= 0 else 'gain'} of {_points(drop)}{of_knowledge}."
    )


def _rivals(view: View, best: Row, rows: list[Row], key: str) -> str:
    others = [row for row in rows if row is not best]
    if not others:
        return "It is the only encoder here, so nothing says whether that is much."
    where = "under shift" if key == "shifted" else "on clean images"
    rival = max(others, key=lambda row: row.number(key).value)
    gap = _gap(view, best, rival, key)
    ahead = f"the best other encoder {where}, {rival.entrant.label} at {percent(rival.number(key).value)}"
    if math.isfinite(gap.low) and gap.low > 0:
        return f"It is ahead of {ahead}, by {_points(gap)}."
    if math.isfinite(gap.high) and gap.high < 0:
        return f"It stays behind {ahead}, by {_points(Number(-gap.value, -gap.high, -gap.low))}."
    if math.isfinite(gap.low):
        return f"Against {ahead}, no difference can be told: {_points(gap)}."
    return f"It is {percent(abs(gap.value))} points {'above' if gap.value >= 0 else 'below'} {ahead}; one run tells no more."


def _help(view: View, row: Row) -> str:
    parts = []
    if row.worst_case:
        parts.append(f"the hardest condition is {row.worst_case} ({percent(row.number('worst').value)})")
    if {"frozen", "refit"} <= set(view.protocols) and view.shifts:
        parts.append(_refit(view, row))
    stability = row.number("stability")
    if math.isfinite(stability.value):
        parts.append(
            f"clusterings that differ only by their random start agree to ARI {_measured(stability)} on clean images"
        )
    text = "; ".join(part for part in parts if part)
    return text[:1].upper() + text[1:] + "." if text else ""


def _refit(view: View, row: Row) -> str:
    frozen, refit = (view.runs(row.entrant, protocol, row.metric) for protocol in ("frozen", "refit"))
    if frozen is None or refit is None:
        return ""
    both = [
        condition
        for condition in frozen.conditions(row.shift)
        if condition in set(refit.conditions(row.shift))
    ]
    if not both:
        return ""
    gain = Number(*interval(refit.means(both).mean(axis=1) - frozen.means(both).mean(axis=1)))
    if not math.isfinite(gain.low):
        return f"fitting the clusters anew on the shifted images changes {percent(gain.value)} points"
    if gain.low > 0:
        return f"fitting the clusters anew on the shifted images recovers {_points(gain)}"
    if gain.high < 0:
        return f"fitting the clusters anew on the shifted images costs {_points(Number(-gain.value, -gain.high, -gain.low))}"
    return f"fitting the clusters anew on the shifted images makes no difference that can be told ({_points(gain)})"


def _without_labels(view: View, rows: list[Row]) -> list[str]:
    known = [row for row in rows if math.isfinite(row.number("stability").value)]
    moved = [row for row in rows if math.isfinite(row.number("agreement").value)]
    sentences = []
    if known:
        best = max(known, key=lambda row: row.number("stability").value)
        sentences.append(
            f"Clusterings of {view.data} that differ only by their random start agree most for {best.entrant.label}: "
            f"ARI {_measured(best.number('stability'))}."
        )
    if moved:
        best = max(moved, key=lambda row: row.number("agreement").value)
        sentences.append(
            f"Under {_shift(view, best)}, the partitions of {best.entrant.label} stay closest to those of the same clean "
            f"images: ARI {percent(best.number('agreement').value)} on average."
        )
    return sentences or ["Nothing could be measured; the reasons are listed below."]


def _gap(view: View, one: Row, other: Row, key: str) -> Number:
    """Difference of two encoders' means; their resamples are independent, so one's are shuffled."""
    first, second = (view.runs(row.entrant, row.protocol, row.metric) for row in (one, other))
    if first is None or second is None:
        return Number(math.nan)
    a, b = (_resampled(runs, one.shift, key) for runs in (first, second))
    if min(len(a), len(b)) < 2:
        return Number(float(a[0] - b[0]))
    shuffled = np.concatenate([b[:1], np.random.default_rng(1).permutation(b[1:])])
    return Number(*interval(a - shuffled))


def _resampled(runs: Runs, shift: str, key: str) -> np.ndarray:
    return runs.means(runs.conditions(shift)).mean(axis=1) if key == "shifted" else runs.clean


def _shift(view: View, row: Row) -> str:
    if row.shift != "corruption":
        return f"the shift {row.shift}"
    count = len(view.corruptions)
    return f"{count} corruption{'s' * (count > 1)} at {len(view.severities)} severities"


def _measured(number: Number) -> str:
    bounds = f" ({percent(number.low)} to {percent(number.high)})" if math.isfinite(number.low) else ""
    return f"{percent(number.value)}{bounds}"


def _points(number: Number) -> str:
    bounds = f" ({percent(number.low)} to {percent(number.high)})" if math.isfinite(number.low) else ""
    return f"{percent(number.value)} points{bounds}"
