"""The whole loop on a data set whose answers are known."""

import hashlib
import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from shiftbench.corruptions import corrupt
from shiftbench.encoders.base import Encoder, module_encoder
from shiftbench.encoders.preprocess import Preprocess
from shiftbench.encoders.settle import settle
from shiftbench.errors import InputError
from shiftbench.evaluation.evaluate import evaluate
from shiftbench.records import CLEAN, Condition, Dataset, Split
from shiftbench.registry import METRICS
from shiftbench.results.schema import TABLES as SCHEMA
from shiftbench.results.tables import CELLS, STABILITY, Results

TABLES = [f"{name}.parquet" for name in SCHEMA] + [f"{name}.csv" for name in SCHEMA if name != "replicates"]


def fingerprints(folder):
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in TABLES}


def value(table, **where):
    for column, wanted in where.items():
        table = table[table[column] == wanted]
    return table


def test_tables_hold_every_cell(means, small):
    results = evaluate(means, **small)
    assert list(results.cells.columns) == CELLS
    assert list(results.stability.columns) == STABILITY
    clustered = value(results.cells, clusterer="kmeans")
    labels = [name for name, metric in METRICS.items() if metric.of_table]
    # (clean, chance, two corruptions) x 2 protocols x 3 seeds
    assert len(clustered[clustered["metric"].isin(labels)]) == 4 * 2 * 3 * len(labels)
    # without labels three conditions, and drift of the frozen clusters for two
    for name, rows in {"silhouette": 3 * 2 * 3, "entropy": 3 * 2 * 3, "collapsed": 3 * 2 * 3, "drift": 2 * 3}.items():
        assert len(clustered[clustered["metric"] == name]) == rows
    # two probes x (clean, chance, two corruptions) x what counts right classes, and the distance of the features
    assert len(results.cells[results.cells["clusterer"] == "probe:knn"]) % 4 == 0
    assert len(value(results.cells, clusterer="probe:linear", metric="acc")) == 4
    assert len(value(results.cells, clusterer="features", metric="frechet")) == 2
    # 6 quantities of initialization for 3 conditions, 3 of shift for 2, x 2 protocols
    assert len(results.stability) == 2 * (3 * 6 + 2 * 3)
    # per class of 3: 3 conditions x (2 protocols of k-means, 2 probes)
    assert len(results.recall) == 3 * 3 * 4
    assert (results.cells["status"] == "ok").all()
    assert not results.cells.duplicated(CELLS[: CELLS.index("value")]).any()


def test_separable_clusters_score_one_and_luck_a_third(means, small):
    cells = evaluate(means, **small).cells
    clean = value(cells, shift="clean", clusterer="kmeans")
    assert clean[clean["metric"].isin(METRICS.names("labels"))]["value"].to_numpy() == pytest.approx(1)
    assert value(cells, shift="chance", metric="acc", clusterer="kmeans")["value"].mean() == pytest.approx(
        1 / 3, abs=0.1
    )
    assert value(cells, shift="chance", metric="ari")["value"].mean() == pytest.approx(0, abs=0.06)


def test_frozen_and_refit_equal_the_plain_computation(colours, small):
    """Against scikit-learn, step by step, for an encoder on which clustering is not trivial."""
    torch.manual_seed(0)
    weights = torch.randn(3 * 16 * 16, 4)

    def compute(images):
        return {"backbone": images.flatten(1).float() / 255 @ weights}

    cells = evaluate(Encoder("linear", compute, fingerprint="linear"), **small).cells
    table = cells["table"][cells["shift"] == "corruption"].iloc[0]
    shifted = corrupt(colours.test.images, "gaussian_noise", 5, table=table)
    train, test = (compute(images)["backbone"].numpy() for images in (colours.train.images, shifted))
    for seed in range(3):
        frozen = KMeans(3, n_init=1, algorithm="lloyd", random_state=seed).fit(train)
        refit = KMeans(3, n_init=1, algorithm="lloyd", random_state=seed).fit(test)
        for protocol, partition in (("frozen", frozen.predict(test)), ("refit", refit.labels_)):
            found = value(cells, corruption="gaussian_noise", protocol=protocol, seed=seed).set_index("metric")["value"]
            assert found["ari"] == pytest.approx(adjusted_rand_score(colours.test.labels, partition), abs=1e-12)
            assert found["nmi"] == pytest.approx(
                normalized_mutual_info_score(colours.test.labels, partition), abs=1e-12
            )


def test_frozen_uses_the_map_of_the_training_split(colours, small):
    """If the test labels are permuted, the frozen map is wrong everywhere while a refitted one adapts."""
    turned = Split(colours.test.images, (colours.test.labels + 1) % 3)
    data = Dataset("turned", colours.train, turned, colours.classes)
    cells = evaluate(lambda x: x.float().mean(dim=(2, 3)), **small | {"data": data}).cells
    assert (value(cells, shift="clean", clusterer="kmeans", protocol="frozen", metric="acc")["value"] == 0).all()
    assert (value(cells, shift="clean", protocol="refit", metric="acc")["value"] == 1).all()


def test_same_inputs_same_bytes_whatever_the_batches_and_workers(means, small, tmp_path):
    evaluate(means, **small, workers=1)
    evaluate(means, **small | {"results": tmp_path / "other"}, workers=3, batch_size=7)
    assert fingerprints(small["results"]) == fingerprints(tmp_path / "other")


def test_interrupted_evaluation_goes_on_and_ends_the_same(means, colours, small, tmp_path):
    evaluate(means, **small)
    calls = []

    def dies(images):
        calls.append(len(images))
        if len(calls) == 7:  # three are to see whether it is deterministic
            raise KeyboardInterrupt
        return {"backbone": images.float().mean(dim=(2, 3)) / 255}

    other = small | {"results": tmp_path / "other", "workers": 1, "batch_size": 100, "cache": None}
    with pytest.raises(KeyboardInterrupt):
        evaluate(Encoder("means", dies, fingerprint="means"), **other)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "other" / "partitions").rglob("*.npz")}
    assert kept
    evaluate(means, **other)
    assert fingerprints(small["results"]) == fingerprints(tmp_path / "other")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_finished_evaluation_computes_nothing_again(means, small):
    evaluate(means, **small)

    def never(images):
        raise AssertionError

    before = fingerprints(small["results"])
    again = evaluate(Encoder("means", never, fingerprint="means"), **small)
    assert fingerprints(small["results"]) == before
    assert (again.cells["status"] == "ok").all()


def test_overwrite_always_computes_again(means, small):
    evaluate(means, **small)
    calls = []

    def counts(images):
        calls.append(1)
        return {"backbone": images.float().mean(dim=(2, 3)) / 255}

    evaluate(Encoder("means", counts, fingerprint="means"), **small, overwrite="always")
    assert len(calls) >= 4


def test_a_damaged_file_is_computed_anew(means, small):
    evaluate(means, **small)
    before = fingerprints(small["results"])
    victim = small["results"] / "partitions" / "means@means" / "backbone" / "kmeans" / "fog-1.npz"
    victim.write_bytes(victim.read_bytes()[:50])
    evaluate(means, **small)
    assert fingerprints(small["results"]) == before


def test_other_weights_are_not_mixed_in(means, small):
    evaluate(means, **small)
    constant = Encoder("means", lambda x: {"backbone": torch.ones(len(x), 2)}, fingerprint="constant")
    cells = value(evaluate(constant, **small).cells, encoder="means@consta")
    assert value(cells, shift="clean", metric="ari", protocol="frozen")["value"].abs().max() < 1e-9


@pytest.mark.parametrize("overwrite", ["missing", "never"])
def test_a_failure_is_a_row_and_is_tried_again(means, small, overwrite):
    def fails_on_noise(images):
        if images.float().std(dim=(2, 3)).mean() > 22:
            raise RuntimeError("out of\nideas")
        return {"backbone": images.float().mean(dim=(2, 3)) / 255}

    results = evaluate(Encoder("means", fails_on_noise, fingerprint="means"), **small)
    failed = value(results.cells, corruption="gaussian_noise")
    assert (failed["status"] == "failed").all()
    assert failed["value"].isna().all()
    assert set(failed["reason"]) == {"RuntimeError: out of ideas"}
    for axis in ("initialization", "shift"):
        unknown = value(results.stability, corruption="gaussian_noise", axis=axis)
        assert set(unknown["status"]) == {"failed"}
        assert set(unknown["reason"]) == {"RuntimeError: out of ideas"}
    assert (value(results.cells, corruption="fog")["status"] == "ok").all()
    wanted = {"metric": "acc", "protocol": "frozen", "clusterer": "kmeans"}
    summary = value(results.summary, shift="corruption", **wanted).iloc[0]
    assert (summary["n_ok"], summary["n_cells"]) == (3, 6)
    assert summary["shifted"] == value(results.cells, corruption="fog", **wanted)["value"].mean()
    again = evaluate(means, **small, overwrite=overwrite)
    assert (value(again.cells, corruption="gaussian_noise")["status"] == "ok").all() == (overwrite == "missing")


def test_an_encoder_that_always_fails_leaves_the_others_alone(means, small):
    def broken(images):
        raise ValueError("no")

    results = evaluate([means, Encoder("broken", broken, fingerprint="broken")], **small)
    rows = value(results.cells, encoder="broken")
    assert set(rows["reason"]) == {"on the clean training split: ValueError: no"}
    assert (value(results.cells, encoder="means")["status"] == "ok").all()


def test_a_network_that_always_fails_leaves_the_others_their_arithmetic(monkeypatch, small):
    class Broken(torch.nn.Module):
        def forward(self, images):
            raise RuntimeError("no")

    monkeypatch.setattr(sys.modules[settle.__module__], "has_fast_bfloat16", lambda device: True)
    broken = module_encoder("broken", Broken(), Preprocess((0.5,) * 3, (0.5,) * 3), device=torch.device("cpu"))
    results = evaluate([broken, "random"], **small)
    assert set(value(results.cells, encoder="broken")["reason"]) == {"on the clean training split: RuntimeError: no"}
    assert (value(results.cells, encoder="random:small_cnn")["status"] == "ok").all()
    assert results.run["dtype"] == "bfloat16"


def test_features_that_are_not_finite_are_a_failure(small):
    results = evaluate(lambda x: x.flatten(1).float() * float("nan"), **small)
    assert results.cells["reason"].str.contains("60 of 60 images are not finite").all()


def test_stability_axes(means, small):
    stability = evaluate(means, **small).stability
    ari = value(stability, metric="ari", protocol="frozen")
    assert (value(ari, axis="initialization", shift="clean")["mean"] == 1).all()
    assert value(ari, axis="initialization")["n_pairs"].tolist() == [3, 3, 3]
    assert value(ari, axis="shift")["n_pairs"].tolist() == [3, 3]
    assert "clean" not in set(value(stability, axis="shift")["shift"])


def test_agreement_with_the_clean_partition_is_that_of_the_saved_partitions(means, small):
    stability = evaluate(means, **small).stability
    folder = small["results"] / "partitions" / "means@means" / "backbone" / "kmeans"
    clean, noisy = (np.load(folder / f"{name}.npz")["labels"][0] for name in ("clean", "gaussian_noise-5"))
    wanted = np.mean([adjusted_rand_score(a, b) for a, b in zip(clean, noisy, strict=True)])
    found = value(stability, axis="shift", corruption="gaussian_noise", metric="ari", protocol="frozen")["mean"]
    assert found.item() == pytest.approx(wanted, abs=1e-12)


def test_one_seed_has_no_spread(means, small):
    stability = evaluate(means, **small | {"seeds": 1}).stability
    assert set(value(stability, axis="initialization")["status"]) == {"skipped"}
    assert set(value(stability, axis="shift")["status"]) == {"ok"}


def test_unlabelled_images_work_but_for_the_label_columns(colours, small):
    bare = Dataset("bare", Split(colours.train.images, None), Split(colours.test.images, None), ())
    results = evaluate(lambda x: x.float().mean(dim=(2, 3)), **small | {"data": bare, "k": 3})
    assert set(results.cells["metric"]) == {name for name, metric in METRICS.items() if not metric.with_labels}
    assert set(results.stability["status"]) == {"ok"}
    assert set(results.stability["k_source"]) == {"given"}
    with pytest.raises(InputError, match="give the number of clusters"):
        evaluate(lambda x: x, **small | {"data": bare})


@pytest.mark.parametrize("k", [2, 5])
def test_k_need_not_be_the_number_of_classes(means, small, k):
    cells = evaluate(means, **small | {"k": k}).cells
    assert set(value(cells, clusterer="kmeans")["k"]) == {k}
    assert (value(cells, shift="clean", metric="acc", clusterer="kmeans")["value"] < 1).all()


def test_folder_holds_what_a_report_needs(means, small):
    evaluate(means, **small)
    folder = small["results"]
    loaded = Results.load(folder)
    pd.testing.assert_frame_equal(loaded.cells, evaluate(means, **small).cells)
    examples = np.load(folder / "examples" / "means@means.npz")
    assert examples["typical"].shape == (3, 8, 16, 16, 3)
    assert examples["map_clean"].shape == examples["map_shifted"].shape == (30, 2)
    assert np.load(folder / "examples" / "corruptions.npz")["images"].shape == (2, 6, 16, 16, 3)
    run = json.loads((folder / "run.json").read_text())
    assert run["data"]["fingerprint"] == small["data"].fingerprint
    assert run["encoders"][0]["dimensions"] == {"backbone": 3}


def test_nothing_but_whole_files_is_left(means, small):
    evaluate(means, **small)
    hidden = [path for path in small["results"].rglob("*") if path.name.startswith(".")]
    assert {path.name for path in hidden} == {".lock", ".locks"}


def test_two_encoders_of_one_name_are_told_apart(small):
    def encoder(fingerprint, scale):
        return Encoder("same", lambda x: {"backbone": x.float().mean(dim=(2, 3)) * scale}, fingerprint=fingerprint)

    names = evaluate([encoder("aaaaaaaa", 1), encoder("bbbbbbbb", 2)], **small).cells["encoder"].unique()
    assert list(names) == ["same@aaaaaa", "same@bbbbbb"]


def test_the_default_folder_follows_from_the_arguments(means, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bare = {key: value for key, value in small.items() if key != "results"}
    one, two, other = (evaluate(means, **bare | change).folder for change in ({}, {}, {"seeds": 2}))
    assert one == two != other
    assert one.parent.name == "results"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 31}, "k=31: between 2 and 30"),
        ({"k": 1}, "k=1: between"),
        ({"seeds": 0}, "seeds=0"),
        ({"limit": 0}, "limit=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"protocols": ["froze"]}, "Did you mean 'frozen'"),
        ({"protocols": []}, "no protocol is named"),
        ({"clusterer": "kmean"}, "Did you mean 'kmeans'"),
        ({"shift": "corruptions"}, "Did you mean 'corruption'"),
        ({"shift": "fog-6"}, "severity must be"),
        ({"table": "cifr"}, "table"),
        ({"overwrite": "yes"}, "overwrite"),
        ({"device": "gpu"}, "Unknown device"),
        ({"data": "digit"}, "Did you mean 'digits'"),
        ({"floors": ["pixel"]}, "pixel"),
    ],
)
def test_bad_arguments_write_nothing(means, small, change, message):
    arguments = small | {"floors": ["random"] if "device" in change else []} | change
    with pytest.raises(InputError, match=message):
        evaluate(means, **arguments)
    assert not small["results"].exists()


def test_no_run_to_evaluate(small, tmp_path):
    with pytest.raises(InputError, match="No finished run in"):
        evaluate(**small | {"runs": tmp_path})


def test_limit_scores_fewer_images(means, small):
    cells = evaluate(means, **small | {"limit": 12}).cells
    assert set(cells["n"]) == {12}
    assert (cells["status"] == "ok").all()


def test_condition_labels():
    assert CLEAN.label == "clean"
    assert Condition("corruption", "fog", 3, "cifar").label == "fog-3"


def test_run_record_holds_the_command_that_repeats_it(small):
    arguments = small | {"data": "digits", "limit": 40, "floors": ["pixels"], "k": 12, "protocols": ("frozen",)}
    results = evaluate(["pixels"], **arguments)
    assert results.run["command"] == (
        "shiftbench evaluate --checkpoint pixels --shift gaussian_noise-5 --shift fog-1 --data digits "
        "'floors=[pixels]' k=12 seeds=3 'protocols=[frozen]' limit=40"
    )
