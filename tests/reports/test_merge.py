"""Several results as one, or a line that says why not."""

import json

import pandas as pd
import pytest

from shiftbench.errors import InputError
from shiftbench.reports import report
from shiftbench.reports.merge import encoders, merge, sources
from shiftbench.results.summary import summarize
from shiftbench.results.tables import CELL_KEYS, STABILITY_KEYS, Results

FLOOR = ("pixels", None, 0.77)


def load(*folders):
    return [Results.load(folder) for folder in folders]


def test_encoders_of_two_folders_are_one_comparison(build):
    parts = load(build("a", encoders=[("one", 0, 0.9), FLOOR]), build("b", encoders=[("two", 0, 0.8), FLOOR]))
    merged = merge(parts)
    assert list(dict.fromkeys(merged.cells["encoder"])) == ["one", "pixels", "two"]
    assert not merged.cells.duplicated(CELL_KEYS).any()
    assert not merged.stability.duplicated(STABILITY_KEYS).any()
    pd.testing.assert_frame_equal(merged.summary, summarize(merged.cells, replicates=merged.replicates))
    # What one folder says of its encoder does not change by company, but for what compares encoders.
    before = parts[0].summary.query("encoder == 'one'").drop(columns="effective_robustness_reason")
    after = merged.summary.query("encoder == 'one'").drop(columns="effective_robustness_reason")
    pd.testing.assert_frame_equal(before.reset_index(drop=True), after.reset_index(drop=True))


def test_training_seeds_of_two_folders_are_runs_of_one_encoder(build):
    parts = load(build("a", encoders=[("concurl", 0, 0.9), FLOOR]), build("b", encoders=[("concurl", 1, 0.8), FLOOR]))
    summary = merge(parts).summary
    assert set(summary.query("encoder == 'concurl'")["n_runs"]) == {6}
    assert set(summary.query("encoder == 'pixels'")["n_runs"]) == {3}


def test_other_weights_under_the_same_name_are_told_apart(build):
    parts = load(
        build("first", encoders=[("concurl", 0, 0.9)]), build("second", encoders=[("concurl", 0, 0.8)], weights="v")
    )
    merged = merge(parts)
    assert set(merged.cells["encoder"]) == {"concurl [first]", "concurl [second]"}
    assert [encoder["name"] for encoder in encoders(merged)] == ["concurl [first]", "concurl [second]"]
    assert set(parts[0].cells["encoder"]) == {"concurl"}  # the caller's tables stay as they are


def test_folders_of_one_name_are_told_apart_by_their_paths(build):
    parts = load(
        build("a/run", encoders=[("concurl", 0, 0.9)]), build("b/run", encoders=[("concurl", 0, 0.8)], weights="v")
    )
    assert len(set(merge(parts).cells["encoder"])) == 2


def test_a_measured_cell_wins_over_a_failed_one(build):
    parts = load(build("a", encoders=[FLOOR], failed=[("pixels", "fog-3")]), build("b", encoders=[FLOOR]))
    merged = merge(parts)
    assert (merged.cells["status"] == "ok").all()
    assert len(merged.cells) == len(parts[0].cells)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fingerprint": "e2" * 32}, "a and .*b cannot be compared: 'digits' has other images or labels in the second"),
        ({"table": "imagenet"}, "severity table of 'digits' is 'cifar' in the first and 'imagenet' in the second"),
        ({"k": 20}, "number of clusters k of 'digits' is 10 in the first and 20 in the second"),
        (
            {"protocols": ("refit",)},
            r"protocols of 'digits' is \['frozen'\] in the first and \['refit'\] in the second",
        ),
        ({"corruptions": ("fog",)}, r"'one' and 'two' were scored under different conditions .* \(10 and 5\)"),
    ],
)
def test_what_cannot_be_compared_is_named(build, changes, message):
    parts = load(build("a", encoders=[("one", 0, 0.9)]), build("b", encoders=[("two", 0, 0.9)], **changes))
    with pytest.raises(InputError, match=message):
        merge(parts)


def test_other_precision_cannot_be_compared(build, edit_run):
    folders = build("a"), build("b")
    edit_run(folders[1], dtype="bfloat16")
    with pytest.raises(
        InputError, match="precision of 'digits' is 'float32' in the first and 'bfloat16' in the second"
    ):
        merge(load(*folders))


@pytest.mark.parametrize(("name", "words"), [("seed", "seed of corruptions"), ("code", "version of the measurements")])
def test_other_replicates_and_measurements_cannot_be_compared(build, edit_run, name, words):
    folders = build("a"), build("b")
    identity = Results.load(folders[1]).run["identity"]
    edit_run(folders[1], identity=identity | {name: 7})
    with pytest.raises(InputError, match=f"{words}.* is . in the first and 7 in the second"):
        merge(load(*folders))


def test_other_images_under_the_name_of_a_shift_cannot_be_compared(build, edit_run):
    folders = [build(name, encoders=[(name, 0, 0.9)], natural=["outdoors"]) for name in "abc"]
    for folder, images in zip(folders, ["1f", "1f", "2e"], strict=True):
        edit_run(folder, shifts=[{"name": "clean"}, {"name": "outdoors", "images": {"outdoors": images}}])
    merge(load(*folders[:2]))
    with pytest.raises(InputError, match=r"a and .*c cannot be compared: the shift 'outdoors' has other images"):
        merge(load(*folders))


@pytest.mark.parametrize(
    "run", [{}, {"encoders": []}, {"encoders": [{"name": "a"}], "data": {}}, {"encoders": [], "sources": [1]}]
)
def test_a_record_that_says_nothing(build, run):
    folder = build()
    (folder / "run.json").write_text(json.dumps(run))
    with pytest.raises(InputError, match=r"run\.json does not say of which encoders and data the tables are"):
        merge(load(folder))


def test_two_data_sets_stand_side_by_side(build, tmp_path):
    folders = build("a", encoders=[FLOOR]), build("b", encoders=[FLOOR], data="cifar10", fingerprint="c1" * 32, k=10)
    page = report(folders, tmp_path / "both").read_text(encoding="utf-8")
    assert page.count('<article class="view"') == 2
    assert "Clusterings of cifar10 and digits under shift" in page


def test_the_baseline_can_be_chosen(build):
    parts = load(build("a"))
    merged = merge(parts, "random:small_cnn")
    assert "mce[baseline=random:small_cnn]" in merged.summary
    own = merged.summary.query("encoder == 'random:small_cnn' and shift == 'corruption'")
    assert own["mce[baseline=random:small_cnn]"].item() == pytest.approx(1)


def test_an_unknown_baseline(build):
    with pytest.raises(InputError, match=r"Unknown baseline 'pixel'. Did you mean 'pixels'\?"):
        merge(load(build()), "pixel")


def test_a_merged_folder_can_be_merged_again(build, tmp_path):
    first = build("a", encoders=[("one", 0, 0.9), FLOOR])
    second = build("b", encoders=[("two", 0, 0.8), FLOOR])
    third = build("c", encoders=[("three", 0, 0.7), FLOOR])
    report([first, second], tmp_path / "ab")
    again = merge(load(tmp_path / "ab", third))
    straight = merge(load(first, second, third))
    pd.testing.assert_frame_equal(again.cells, straight.cells)
    pd.testing.assert_frame_equal(again.summary, straight.summary)
    assert [source["folder"] for source in sources(again)] == [str(first), str(second), str(third)]
    assert [encoder["name"] for encoder in encoders(again)] == ["one", "pixels", "two", "three"]
