"""Shifts of every kind through the whole loop: comparable classes, pairs of images, reasons instead of holes."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from shiftbench.encoders.base import Encoder
from shiftbench.errors import InputError
from shiftbench.evaluation.evaluate import evaluate
from shiftbench.records import Dataset, Split
from shiftbench.registry import METRICS
from shiftbench.reports import report

CLASSES = ("zero", "one", "two", "three", "four")


def five(seed, n):
    """Five classes: which of three channels is bright, and how bright."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 5
    images = rng.integers(0, 50, (n, 3, 16, 16))
    for i, label in enumerate(labels):
        images[i, label % 3] += 80 if label < 3 else 190
    return Split(torch.from_numpy(images.astype(np.uint8)), labels.astype(np.int64))


@pytest.fixture
def data():
    return Dataset("five", five(0, 100), five(1, 50), CLASSES)


def means(images):
    return {"backbone": images.float().mean(dim=(2, 3)) / 255}


@pytest.fixture
def arguments(data, tmp_path):
    encoder = Encoder("means", means, fingerprint="means")
    return {"checkpoint": encoder, "data": data, "floors": [], "seeds": 3, "results": tmp_path / "r"}


def save(path, split, classes=None):
    keep = np.ones(len(split), bool) if classes is None else np.isin(split.labels, classes)
    images = split.images.numpy().transpose(0, 2, 3, 1)[keep]
    np.savez(path, images=images, labels=split.labels[keep])
    return f"npz:{path}"


def rows(table, **where):
    for column, wanted in where.items():
        table = table[table[column] == wanted]
    return table


def test_a_shift_with_fewer_classes_is_compared_with_the_clean_images_of_those(arguments, tmp_path, data):
    names = tmp_path / "names.yaml"
    names.write_text("\n".join(f"{i}: {name}" for i, name in enumerate(CLASSES)))
    shift = save(tmp_path / "other.npz", five(2, 60), [0, 1, 2]) + f"?classes={names}"
    found = evaluate(**arguments, shift=[shift])
    cells = rows(found.cells, clusterer="kmeans")
    shifted, pair = rows(cells, shift="other"), rows(cells, shift="clean", split="test[other]")
    assert set(shifted["split"]) == {"test[other]"}
    assert set(shifted["n"]) == {36}
    assert set(pair["n"]) == {30}
    # Refitting looks for the classes there are, frozen clusters are those of all five.
    assert set(rows(shifted, protocol="refit")["k"]) == set(rows(pair, protocol="refit")["k"]) == {3}
    assert set(rows(shifted, protocol="frozen")["k"]) == {5}
    # The frozen score of the pair by hand.
    train, test = (means(split.images)["backbone"].numpy() for split in (data.train, data.test))
    keep = np.isin(data.test.labels, [0, 1, 2])
    wanted = [
        adjusted_rand_score(
            data.test.labels[keep], KMeans(5, n_init=1, random_state=seed).fit(train).predict(test[keep])
        )
        for seed in range(3)
    ]
    assert rows(pair, protocol="frozen", metric="ari")["value"].tolist() == pytest.approx(wanted, abs=1e-9)
    # And it is what the drop is counted from.
    summary = rows(found.summary, shift="other", metric="ari", protocol="frozen", clusterer="kmeans").iloc[0]
    assert summary["clean"] == pytest.approx(np.mean(wanted), abs=1e-9)
    whole = rows(cells, shift="clean", split="test", protocol="frozen", metric="acc")["value"].mean()
    assert rows(found.summary, shift="clean", split="test", metric="acc", clusterer="kmeans", protocol="frozen")[
        "clean"
    ].item() == pytest.approx(whole)
    assert not len(rows(found.stability, shift="other", axis="shift"))  # other pictures have no partners


def test_results_know_other_pictures_under_one_name(arguments, tmp_path):
    """The same name of a shift may stand for other files on another machine."""
    folders = []
    for place, seed in enumerate([2, 2, 3]):
        (tmp_path / str(place)).mkdir()
        shift = ["fog-1", save(tmp_path / str(place) / "other.npz", five(seed, 60))]
        encoder = Encoder(f"means-{place}", means, fingerprint=f"means-{place}")
        folders.append(tmp_path / f"r{place}")
        evaluate(**arguments | {"checkpoint": encoder, "results": folders[-1], "seeds": 2}, shift=shift)
    report(folders[:2], tmp_path / "same")
    with pytest.raises(InputError, match=r"r0 and .*r2 cannot be compared: the shift 'other' has other images"):
        report(folders, tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_two_common_classes_are_a_skipped_row_with_the_reason(arguments, tmp_path):
    names = tmp_path / "names.yaml"
    names.write_text("0: zero\n1: one\n")
    found = evaluate(
        **arguments, shift=["gaussian_noise-1", save(tmp_path / "two.npz", five(2, 60), [0, 1]) + f"?classes={names}"]
    )
    skipped = rows(found.cells, shift="two")
    assert set(skipped["status"]) == {"skipped"}
    assert skipped["reason"].str.contains("2").all()
    assert skipped["value"].isna().all()
    assert set(rows(found.cells, shift="corruption")["status"]) == {"ok"}
    assert "two" in found.run["skipped"]


def test_own_pictures_without_labels(arguments, tmp_path):
    np.savez(tmp_path / "bare.npz", images=five(2, 40).images.numpy().transpose(0, 2, 3, 1))
    found = evaluate(**arguments, shift=[f"npz:{tmp_path / 'bare.npz'}"])
    metrics = set(rows(found.cells, shift="bare")["metric"])
    assert metrics == {name for name, metric in METRICS.items() if not metric.with_labels}
    assert set(rows(found.cells, shift="bare")["status"]) == {"ok"}


def test_own_versions_of_the_test_images_are_paired(arguments, tmp_path, data):
    same = save(tmp_path / "same.npz", data.test) + "?paired=true"
    names = tmp_path / "names.yaml"
    names.write_text("\n".join(f"{i}: {name}" for i, name in enumerate(CLASSES)))
    found = evaluate(**arguments, shift=[f"{same}&classes={names}"])
    agreement = rows(found.stability, shift="same", axis="shift", metric="ari")
    assert len(agreement) == 2
    assert (rows(agreement, protocol="frozen")["mean"] == 1).all()
    clean, copied = (
        rows(found.cells, shift=shift, clusterer="kmeans", metric="acc", protocol="frozen")
        for shift in ("clean", "same")
    )
    assert clean["value"].tolist() == copied["value"].tolist()
    # A copy of the same images loses nothing, whichever images are drawn: its interval has no width.
    drop = rows(found.summary, shift="same", metric="acc", protocol="frozen", clusterer="kmeans").iloc[0]
    assert drop["drop"] == drop["drop_low"] == drop["drop_high"] == 0


def test_other_mixes_of_the_same_images_are_not_encoded_again(arguments):
    seen = []

    def counts(images):
        seen.append(len(images))
        return means(images)

    given = arguments | {"checkpoint": Encoder("means", counts, fingerprint="means"), "cache": None}
    evaluate(**given, shift=["prior", "subpopulation"])
    encoded = sum(seen)
    seen.clear()
    evaluate(**given | {"results": arguments["results"] / "clean"})
    assert encoded == sum(seen)


def test_resolution_has_five_severities(arguments):
    found = evaluate(**arguments, shift=["resolution"])
    assert sorted(set(rows(found.cells, shift="resolution")["severity"])) == [1, 2, 3, 4, 5]


def test_a_folder_gathers_what_several_calls_put_there(arguments):
    first = evaluate(**arguments, shift=["fog-1"])
    other = arguments | {
        "checkpoint": Encoder("twice", lambda x: {"backbone": means(x)["backbone"] * 2}, fingerprint="2")
    }
    both = evaluate(**other, shift=["fog-1"])
    assert list(both.cells["encoder"].unique()) == ["means", "twice"]
    assert rows(both.cells, encoder="means").reset_index(drop=True).equals(first.cells)
    more = evaluate(**arguments, shift=["fog-2"])
    assert set(rows(more.cells, encoder="means", shift="corruption")["severity"]) == {1, 2}
    assert [one["name"] for one in more.run["encoders"]] == ["twice", "means"]
    assert len(more.run["commands"]) == 3


def test_a_folder_of_other_images_is_not_mixed_in(arguments):
    evaluate(**arguments)
    before = sorted((path, path.stat().st_mtime_ns) for path in arguments["results"].rglob("*") if path.is_file())
    with pytest.raises(Exception, match="another data and limit: name another folder"):
        evaluate(**arguments, limit=20)
    after = sorted((path, path.stat().st_mtime_ns) for path in arguments["results"].rglob("*") if path.is_file())
    assert before == after
    assert set(evaluate(**arguments, limit=20, overwrite="always").cells["n"]) == {20}


@pytest.mark.parametrize("clusterer", ["gmm", "ward", "hdbscan", "spherical"])
def test_any_clusterer_takes_the_place_of_k_means(arguments, clusterer):
    found = evaluate(**arguments, shift=["fog-1"], clusterer=["kmeans", clusterer])
    assert set(found.cells["clusterer"]) == {"kmeans", clusterer, "probe:knn", "probe:linear", "features"}
    own = rows(found.cells, clusterer=clusterer, metric="ari")
    assert (own["status"] == "ok").all()


def test_features_can_be_normalised_and_whitened(arguments, data):
    found = evaluate(**arguments, feature=["backbone", "backbone+l2", "backbone+whiten"])
    assert set(found.cells["feature"]) == {"backbone", "backbone+l2", "backbone+whiten"}
    train = means(data.train.images)["backbone"].numpy()
    unit = train / np.linalg.norm(train, axis=1, keepdims=True)
    test = means(data.test.images)["backbone"].numpy()
    test /= np.linalg.norm(test, axis=1, keepdims=True)
    wanted = adjusted_rand_score(data.test.labels, KMeans(5, n_init=1, random_state=0).fit(unit).predict(test))
    got = rows(
        found.cells, feature="backbone+l2", clusterer="kmeans", protocol="frozen", metric="ari", seed=0, shift="clean"
    )
    assert got["value"].item() == pytest.approx(wanted, abs=1e-9)


def test_k_is_estimated_without_labels(arguments):
    found = evaluate(**arguments, k="2-7", k_by="silhouette")
    own = rows(found.cells, clusterer="kmeans")
    assert set(own["k_source"]) == {"estimated"}
    assert set(own["k"]) == {5}
    said = pd.read_csv(next((arguments["results"] / "k").glob("means@*-backbone.csv")))
    assert set(said["criterion"]) == {"stability", "gap", "silhouette", "eigengap"}
    assert said.query("criterion == 'silhouette' and chosen")["k"].tolist() == [5]


def test_every_axis_is_measured_or_says_why_not(arguments):
    found = evaluate(**arguments, shift=["fog-1"], stability="all")
    axes = found.stability.groupby("axis")["status"].agg(set).to_dict()
    assert set(axes) == {"initialization", "algorithm", "projection", "bootstrap", "augmentation", "shift"}
    assert all(status == {"ok"} for status in axes.values()), found.stability[found.stability["status"] != "ok"]


def test_checkpoints_that_differ_in_their_training_seed_are_an_axis(arguments):
    def trained(seed):
        return Encoder("method", means, fingerprint=f"means-{seed}", train_seed=seed)

    given = arguments | {"checkpoint": [trained(0), trained(1), trained(2)]}
    found = evaluate(**given, stability=["training_seed"])
    same = rows(found.stability, axis="training_seed", metric="ari", protocol="frozen")
    assert same["n_pairs"].item() == 3
    assert same["mean"].item() == 1
    assert same["train_seed"].isna().all()


def test_a_parametric_head_is_read_and_its_features_are_clustered(arguments, data):
    def both(images):
        features = means(images)["backbone"]
        outputs = torch.stack([*(features - 0.2).T, features.sum(1) - 0.9, 0 * features[:, 0]], dim=1)
        return {"backbone": features, "cluster": outputs}

    encoder = Encoder("head", both, fingerprint="head", feature_names=("backbone", "cluster"))
    found = evaluate(**arguments | {"checkpoint": encoder}, shift=["fog-1"])
    ways = found.cells.groupby("feature")["clusterer"].agg(set).to_dict()
    assert ways["backbone"] == {"kmeans", "probe:knn", "probe:linear", "features"}
    assert ways["cluster"] == {"argmax", "features"}
    own = rows(found.cells, clusterer="argmax", shift="clean", metric="ari", protocol="frozen")
    stated = both(data.test.images)["cluster"].argmax(1).numpy()
    assert own["value"].tolist() == pytest.approx([adjusted_rand_score(data.test.labels, stated)])
