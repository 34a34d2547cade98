"""What the page says in words follows from the numbers and goes no further."""

import re

import pytest

from shiftbench.reports.standings import standings
from shiftbench.reports.verdict import caveats, verdict
from shiftbench.reports.view import views
from shiftbench.results.tables import Results

FLOOR = ("pixels", None, 0.7)


def said(folder):
    (view,) = views(Results.load(folder))
    rows = standings(view)
    return verdict(view, rows), rows, view


def interval_in(sentence):
    found = re.findall(r"(−?[\d.]+) points \((−?[\d.]+) to (−?[\d.]+)\)", sentence)
    assert len(found) == 1
    return [float(number.replace("−", "-")) / 100 for number in found[0]]


def test_a_clear_lead_is_told_with_its_size(build):
    sentences, rows, _ = said(build(encoders=[("mine", 0, 0.9), FLOOR]))
    assert sentences[0].startswith("mine reaches ")
    assert sentences[1].startswith("It is ahead of the best other encoder under shift, pixels at ")
    gap, low, high = interval_in(sentences[1])
    assert gap == pytest.approx(rows[0].number("shifted").value - rows[1].number("shifted").value, abs=5.1e-4)
    assert 0 < low <= gap <= high


def test_what_may_be_luck_is_no_lead(build):
    sentences, _, _ = said(build(encoders=[("mine", 0, 0.8), ("your", 0, 0.8)]))
    assert "no difference can be told" in sentences[1]
    _, low, high = interval_in(sentences[1])
    assert low <= 0 <= high


def test_a_lead_that_many_pairs_may_bring_by_luck_is_none(build):
    results = Results.load(build(encoders=[("mine", 0, 0.9), FLOOR]))
    results.comparisons = results.comparisons.assign(p_joint=0.0612)
    (view,) = views(results)
    sentence = verdict(view, standings(view))[1]
    assert "no difference can be told among all pairs, p = 0.061: " in sentence
    assert interval_in(sentence)[1] > 0


def test_a_trained_encoder_below_the_floor_is_said_to_be(build):
    sentences, _, _ = said(build(encoders=[("mine", 0, 0.5), FLOOR]))
    assert sentences[0].startswith("mine reaches ")
    assert sentences[1].startswith("It stays behind the best other encoder under shift, pixels at ")
    gap, low, high = interval_in(sentences[1])
    assert 0 < low <= gap <= high


def test_floors_alone_are_compared_with_one_another(build):
    sentences, _, _ = said(build(encoders=[FLOOR, ("random:small_cnn", None, 0.5)]))
    assert sentences[0].startswith("pixels reaches ")


def test_the_best_of_many_is_the_subject(build):
    sentences, _, _ = said(build(encoders=[("good", 0, 0.8), ("better", 0, 0.9), FLOOR]))
    assert sentences[0].startswith("better reaches ")
    assert "good at " in sentences[1]


def test_refitting_that_helps_and_what_it_brings(build):
    sentences, rows, _ = said(build(protocols=("frozen", "refit"), encoders=[("mine", 0, 0.9), FLOOR]))
    sentence = next(part for part in sentences[2].split("; ") if "fitting the clusters anew" in part)
    assert "recovers" in sentence
    means = {row.protocol: row.number("shifted").value for row in rows if row.candidate.encoder == "mine"}
    gain, low, high = interval_in(sentence)
    assert gain == pytest.approx(means["refit"] - means["frozen"], abs=5.1e-4)
    assert 0 < low <= gain <= high


def test_an_unharmful_shift_is_no_drop(build):
    sentences, _, _ = said(build(harshness=-0.1))
    assert "a gain of " in sentences[0]
    assert "beyond chance" not in sentences[0]


def test_the_hardest_condition_is_named(build):
    sentences, rows, _ = said(build())
    assert f"the hardest condition is {rows[0].worst_case} with " in sentences[2].lower()


def test_one_training_is_said_to_be_one(build):
    _, _, view = said(build())
    (caveat,) = caveats(view)
    assert "other images and other random starts" in caveat
    assert "Each encoder was trained once" in caveat


def test_several_trainings_need_no_caveat(build):
    _, _, view = said(build(encoders=[("mine", 0, 0.9), ("mine", 1, 0.8), FLOOR]))
    assert caveats(view) == []


def test_a_row_with_gaps_is_not_the_subject(build):
    """What is hardest was left out of its mean."""
    sentences, rows, _ = said(build(encoders=[("all", 0, 0.8), ("gaps", 0, 0.8)], failed=[("gaps", "fog-5")]))
    assert max(rows, key=lambda row: row.number("shifted").value).candidate.encoder == "gaps"
    assert sentences[0].startswith("all reaches ")


def test_nothing_measured_has_no_runs_to_speak_of(build):
    failed = [("one", "clean"), *(("one", f"{name}-{i}") for name in ("fog", "contrast") for i in range(1, 6))]
    _, _, view = said(build(encoders=[("one", 0, 0.8)], corruptions=("fog", "contrast"), failed=failed))
    said_of_it = caveats(view)
    assert view.ks == [10]
    assert said_of_it[0] == "Nothing was scored on clean images."
    assert not [caveat for caveat in said_of_it if "One run" in caveat or "Intervals" in caveat]


def test_without_labels_the_next_best_is_told(build):
    sentences, _, _ = said(build(metrics=(), label_free=("entropy",)))
    assert all(re.search(r", next [\w:]+ with [\d.]+ %, without a test\.$", sentence) for sentence in sentences[:2])


def test_failures_are_counted(build):
    _, _, view = said(build(failed=[("pixels", "fog-1")]))
    assert caveats(view)[1].startswith("3 of 99 cells were not measured.")


def test_missing_severities_are_not_claimed(build):
    folder = build()
    results = Results.load(folder)
    for name in ("cells", "stability", "replicates"):
        table = getattr(results, name)
        setattr(results, name, table[(table["corruption"] != "fog") | (table["severity"] == 3)])
    (view,) = views(results)
    sentence = verdict(view, standings(view))[0]
    assert "under 6 conditions of 2 corruptions" in sentence


def test_other_shifts_are_mentioned_with_their_numbers(build):
    folder = build(natural=("outdoors",))
    sentences, _, _ = said(folder)
    line = Results.load(folder).summary.query("shift == 'outdoors' and encoder == 'concurl'")
    shifted, low, high = (f"{100 * line[f'shifted{end}'].item():.1f}" for end in ("", "_low", "_high"))
    assert f"under the shift outdoors it has {shifted} % ({low} to {high})" in sentences[2]
