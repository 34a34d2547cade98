"""The section "Verdict": three sentences that say what was found, and no more than the numbers carry."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from markupsafe import Markup, escape

from shiftbench.reports.headline import AGREEMENT, COMMON, FROZEN, REFIT
from shiftbench.reports.names import metric_name, percent
from shiftbench.reports.section import TEMPLATES, Chapter, Content, Section
from shiftbench.reports.standings import SIGNIFICANCE, Number, Standing, difference, number_of
from shiftbench.reports.view import View
from shiftbench.results.runs import CHANCE_KEY, interval
from shiftbench.results.tables import ok

PROTOCOLS_IN_WORDS = {FROZEN: "with clusters frozen on clean data", REFIT: "with clusters fitted anew"}
REFITTING = "fitting the clusters anew on the shifted images"
MOST_FACTS = 6  # of shifts, above the sentences


def content(chapter: Chapter) -> Content:
    """The facts, the sentences and what they leave out."""
    view = chapter.view
    mine = [row for row in chapter.standings if row.clusterer == view.clusterer]
    return {
        "heading": _heading(view) if chapter.count > 1 else "",
        "facts": list(_facts(chapter)),
        "seeds": _counted(view.cells["seed"].nunique(), "seed") if len(view.cells) else "",
        "sentences": [_with_quiet_intervals(sentence) for sentence in verdict(view, mine)],
        "caveats": caveats(view),
    }


SECTION = Section("top", TEMPLATES / "verdict.html", content, anchor="verdict", title="Verdict")


def _heading(view: View) -> str:
    return view.data + {"given": f", k = {view.setting.k}", "estimated": ", k estimated"}.get(view.setting.k_source, "")


def _facts(chapter: Chapter) -> Iterator[str]:
    """How much was compared, in a few words each."""
    view = chapter.view
    yield _counted(len(view.candidates), "encoder")
    for shift in view.shifts[:MOST_FACTS]:
        kinds, severities = len(view.corruptions(shift)), len(view.severities(shift))
        name = _counted(kinds, "corruption") if shift == COMMON else shift
        if severities and view.count(shift) < kinds * severities:
            yield f"{name}, {view.count(shift)} conditions"
        elif severities:
            yield f"{name} × {severities} severit{'ies' if severities != 1 else 'y'}"
        else:
            yield name
    if len(view.shifts) > MOST_FACTS:
        yield f"{len(view.shifts) - MOST_FACTS} more shifts"
    yield f"{' and '.join(view.protocols)} clusters"
    sign = "estimated:" if view.setting.k_source == "estimated" else "="
    ks = ", ".join(map(str, view.ks)) or view.setting.k
    yield f"{', '.join(view.clusterer for view in chapter.views)}, k {sign} {ks}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _with_quiet_intervals(sentence: str) -> Markup:
    """The sentence with its intervals set back; no line ends before a percent sign."""
    sentence = sentence.replace(" %", "\N{NO-BREAK SPACE}%")
    return Markup(re.sub(r"\((−?[\d.]+ to −?[\d.]+)\)", r'<span class="interval">(\1)</span>', str(escape(sentence))))


def verdict(view: View, rows: Sequence[Standing]) -> list[str]:
    """The sentences of one view: how good and how robust, against whom, and what else matters.

    They speak of the overview's rows of the first metric, protocol and shift.

    The subject is the best encoder that learned something; only where there is none, the best floor. Without
    labels the sentences speak of agreement alone.
    """
    protocol, metric = view.protocols[0], (view.headline or [""])[0]
    shift = (view.shifts or ["clean"])[0]
    rows = [row for row in rows if (row.protocol, row.metric, row.shift) == (protocol, metric, shift)]
    key = "shifted" if view.shifts else "clean"
    ranked = [row for row in rows if row.has(key)]
    if not ranked:
        return _without_labels(view, rows)
    # What was not measured may be what is hardest.
    best = max(ranked, key=lambda row: (not row.candidate.floor, row.is_complete, row.number(key).value))
    sentences = [_level(view, best), _rivals(view, best, ranked, key), _besides(view, best)]
    return [sentence for sentence in sentences if sentence]


def caveats(view: View) -> list[str]:
    """What the intervals do not cover, and what was left out of the means."""
    if not view.metrics:
        return ["No labels: what was measured is how partitions look and how far they agree."]
    sentences = []
    scored = view.cells[(view.cells["shift"] != CHANCE_KEY[0]) & view.cells["metric"].isin(view.metrics)]
    trainings, seeds = scored.groupby("encoder")["train_seed"].nunique().max(), scored["seed"].nunique()
    bounds = view.summary[view.summary["metric"].isin(view.metrics)]
    if bounds["clean"].isna().all():
        sentences.append("Nothing was scored on clean images.")
    elif bounds["clean_low"].isna().all():
        sentences.append("One run per encoder: nothing here has an interval, and differences may be luck.")
    elif trainings < 2:
        images = "other images and " if len(view.replicates) else ""
        runs = f"{images}other random starts of the clustering" if seeds > 1 else "other images"
        sentences.append(
            f"Intervals say how much {runs} would change. Each encoder was trained once: how another training would "
            "turn out they do not say."
        )
    if view.setting.k_source == "estimated":
        sentences.append("k was estimated for each encoder; those with different k stand in no test with each other.")
    failed = len(scored) - len(ok(scored))
    if failed:
        sentences.append(
            f"{failed:,} of {len(scored):,} cells were not measured. They are left out of every mean, so a row "
            "with missing conditions is not comparable with a complete one."
        )
    return sentences


def _level(view: View, row: Standing) -> str:
    clean, shifted, drop = (row.number(key) for key in ("clean", "shifted", "drop"))
    metric, how = metric_name(row.metric), PROTOCOLS_IN_WORDS.get(row.protocol, row.protocol)
    start = f"{row.candidate.label} reaches {percent(clean.value)} % {metric}{_within(clean)} on clean {view.data}"
    if not math.isfinite(shifted.value):
        return f"{start}, {how}."
    change = f"a drop of {_points(drop)}" if drop.value >= 0 else f"a gain of {_points(-drop)}"
    share = row.number("calibrated_drop").value
    lost = f", or {percent(share)} % of what it knew beyond chance" if math.isfinite(share) and share > 0 else ""
    where = f"{percent(shifted.value)} %{_within(shifted)} on average under {_shift(view, row)}"
    return f"{start} and {where}, {how}: {change}{lost}."


def _rivals(view: View, best: Standing, rows: list[Standing], key: str) -> str:
    others = [row for row in rows if row is not best]
    if not others:
        return "It is the only encoder here, so nothing says whether that is much."
    rival = max(others, key=lambda row: row.number(key).value)
    where = "under shift" if key == "shifted" else "on clean images"
    next_best = f"the best other encoder {where}, {rival.candidate.label} at {percent(rival.number(key).value)} %"
    gap, p = difference(view, best, rival, best.shift if key == "shifted" else "clean")
    if not math.isfinite(p):
        ahead = best.number(key).value - rival.number(key).value
        side = "above" if ahead >= 0 else "below"
        why = "one run cannot tell whether by luck" if math.isfinite(gap.value) else "no test compares the two"
        return f"It is {percent(abs(ahead))} points {side} {next_best}; {why}."
    if p > SIGNIFICANCE:
        alone = gap.low > 0 or gap.high < 0  # the interval knows of this pair only
        among = f" among all pairs, p = {p:.3f}" if alone else ""
        return f"Against {next_best}, no difference can be told{among}: {_points(gap)}."
    if gap.value > 0:
        return f"It is ahead of {next_best}, by {_points(gap)}."
    return f"It stays behind {next_best}, by {_points(-gap)}."


def _besides(view: View, row: Standing) -> str:
    parts = []
    if row.worst_case and len(view.severities(row.shift)) > 1:
        worst = percent(row.number("worst").value)
        parts.append(f"the hardest condition is {row.worst_case} with {worst} %")
    parts.append(_refitting(view, row))
    for shift in view.shifts[1:3]:
        number = number_of(view.line(row.candidate, shift, row.protocol, row.metric), "shifted")
        if math.isfinite(number.value):
            parts.append(f"under the shift {shift} it has {percent(number.value)} %{_within(number)}")
    stability = row.number("stability")
    if math.isfinite(stability.value):
        agreement = f"{percent(stability.value)} %{_within(stability)}"
        parts.append(
            f"on clean images, clusterings from different random starts agree to {agreement} {metric_name(AGREEMENT)}"
        )
    text = "; ".join(part for part in parts if part)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _refitting(view: View, row: Standing) -> str:
    frozen, refit = (view.runs(row.candidate, protocol, row.metric) for protocol in (FROZEN, REFIT))
    if frozen is None or refit is None:
        return ""
    known = set(refit.conditions(row.shift))
    both = [condition for condition in frozen.conditions(row.shift) if condition in known]
    if not both:
        return ""
    gain = Number(*interval(refit.means(both).mean(axis=1) - frozen.means(both).mean(axis=1)))
    if gain.low > 0:
        return f"{REFITTING} recovers {_points(gain)}"
    if gain.high < 0:
        return f"{REFITTING} costs {_points(-gain)}"
    if math.isfinite(gain.low):
        return f"{REFITTING} makes no difference that can be told, {_points(gain)}"
    return f"{REFITTING} changes the mean by {_points(gain)}"


def _without_labels(view: View, rows: list[Standing]) -> list[str]:
    sentences = []
    stable = [row for row in rows if row.has("stability")]
    if stable:
        best = max(stable, key=lambda row: row.number("stability").value)
        number = best.number("stability")
        sentences.append(
            f"On clean {view.data}, clusterings from different random starts agree most for {best.candidate.label}: "
            f"{percent(number.value)} % {metric_name(AGREEMENT)}{_within(number)}{_next(stable, best, 'stability')}."
        )
    moved = [row for row in rows if row.has("agreement")]
    if moved:
        best = max(moved, key=lambda row: row.number("agreement").value)
        sentences.append(
            f"Under {_shift(view, best)}, the partitions of {best.candidate.label} stay closest to those of the "
            f"same clean images: {percent(best.number('agreement').value)} % {metric_name(AGREEMENT)} on average"
            f"{_next(moved, best, 'agreement')}."
        )
    return sentences or ["Nothing could be measured; the reasons are listed below."]


def _next(rows: Sequence[Standing], best: Standing, key: str) -> str:
    others = [row for row in rows if row is not best]
    if not others:
        return ""
    rival = max(others, key=lambda row: row.number(key).value)
    return f", next {rival.candidate.label} with {percent(rival.number(key).value)} %, without a test"


def _shift(view: View, row: Standing) -> str:
    kinds, severities = len(view.corruptions(row.shift)), len(view.severities(row.shift))
    conditions = view.count(row.shift)
    if row.shift != COMMON:
        graded = f" at {severities} severities" if severities > 1 else ""
        return f"the shift {row.shift}{graded}"
    if kinds == severities == 1:
        return f"{view.corruptions()[0].replace('_', ' ')} at severity {view.severities()[0]}"
    if conditions < kinds * severities:
        return f"{conditions} conditions of {kinds} corruptions"
    return f"{kinds} corruption{'s' * (kinds > 1)} at {severities} severit{'ies' if severities > 1 else 'y'}"


def _within(number: Number) -> str:
    return f" ({percent(number.low)} to {percent(number.high)})" if math.isfinite(number.low) else ""


def _points(number: Number) -> str:
    return f"{percent(number.value)} points{_within(number)}"
