"""The bootstrap over images against images that are really drawn."""

import numpy as np
import pytest
from scipy import stats

from shiftbench.errors import InputError
from shiftbench.metrics.counts import contingency, match
from shiftbench.metrics.external import scores
from shiftbench.registry import METRICS, Metric
from shiftbench.results.resample import IMAGES, SEEDS, image_replicates, mean_over_seeds, resample_weights

LABELS = METRICS.names("labels")
N, CLASSES = 500, 5
RNG = np.random.default_rng(0)
TRUTH = RNG.integers(CLASSES, size=N)
PARTITIONS = np.stack([np.where(RNG.random(N) < 0.4, RNG.integers(7, size=N), TRUTH) for _ in range(3)])
NOISY = np.where(RNG.random((3, N)) < 0.2, -1, PARTITIONS)
GOLDEN = [[0, 0, 2, 3, 0, 1], [1, 1, 2, 0, 0, 2], [1, 2, 2, 0, 0, 1], [1, 1, 2, 1, 0, 1]]
EXACT = [name for name in LABELS if name != "ami"]  # AMI: the expected information of the observed margins


def drawn(truth, partition, weights, mapping):
    """The scores of images that are really repeated."""
    images = np.repeat(np.arange(len(truth)), weights)
    return scores(contingency(truth[images], partition[images]), mapping)


def test_weights_are_multinomial():
    weights = resample_weights(1000, 400)
    assert weights.dtype == np.uint8
    assert (weights.sum(axis=0) == 1000).all()
    counts = np.bincount(weights.ravel(), minlength=6)[:6] / weights.size
    np.testing.assert_allclose(counts, stats.binom.pmf(np.arange(6), 1000, 1 / 1000), atol=2e-3)
    # Means over resamples of any fixed half vary as means of drawn halves do.
    shares = weights[::2].sum(axis=0) / 1000
    assert shares.std() == pytest.approx(np.sqrt(0.25 / 1000), rel=0.15)
    assert abs(np.corrcoef(weights[0], weights[1])[0, 1]) < 0.2


def test_weights_are_functions_of_their_arguments():
    np.testing.assert_array_equal(resample_weights(30, 20), resample_weights(30, 400)[:, :20])
    assert (resample_weights(30, 20, seed=1) != resample_weights(30, 20)).any()
    assert (resample_weights(30, 20, stream=SEEDS) != resample_weights(30, 20, stream=IMAGES)).any()
    with pytest.raises(ValueError, match="read-only"):
        resample_weights(30, 20)[0, 0] = 1


def test_golden_weights():
    """The replicates are part of the results: they may not change from version to version."""
    np.testing.assert_array_equal(resample_weights(6, 4, seed=0).T, GOLDEN)


@pytest.mark.parametrize("partitions", [PARTITIONS, NOISY], ids=["clusters", "noise"])
@pytest.mark.parametrize("frozen", [False, True])
def test_replicates_are_scores_of_drawn_images(partitions, frozen):
    mappings = [np.array([1, 0, 2, 3, 4, 4, -1, 2])] * 3 if frozen else None
    found = image_replicates(TRUTH, partitions, mappings, resamples=20)
    weights = resample_weights(N, 20)
    assert set(found) == set(LABELS)
    for s, partition in enumerate(partitions):
        table = contingency(TRUTH, partition)
        mapping = mappings[s] if frozen else match(table)
        observed = scores(table, mapping)
        each = [drawn(TRUTH, partition, weights[:, b], mapping) for b in range(20)]
        for name in LABELS:
            values = np.array([one[name] for one in each])
            centred = np.clip(values - values.mean() + observed[name], -1 if name in ("ari", "ami") else 0, 1)
            tolerance = 2e-6 if name in EXACT else 2e-3
            np.testing.assert_allclose(found[name][s], centred, atol=tolerance, err_msg=name)


def test_replicates_have_the_observed_score_as_their_mean():
    """On few images, repeated ones inflate mutual information; the mean must not."""
    found = image_replicates(TRUTH[:60], PARTITIONS[:, :60])
    for s, partition in enumerate(PARTITIONS[:, :60]):
        observed = scores(contingency(TRUTH[:60], partition))
        for name in LABELS:
            assert found[name][s].mean() == pytest.approx(observed[name], abs=1e-5), name


def test_the_spread_is_that_of_an_accuracy():
    found = image_replicates(TRUTH, PARTITIONS, resamples=2000)["acc"]
    for s, partition in enumerate(PARTITIONS):
        share = scores(contingency(TRUTH, partition))["acc"]
        assert found[s].std() == pytest.approx(np.sqrt(share * (1 - share) / N), rel=0.07)


def test_shape_type_and_range():
    found = image_replicates(TRUTH, PARTITIONS, resamples=50)
    for name, values in found.items():
        assert values.shape == (3, 50)
        assert values.dtype == np.float32
        assert values.max() <= 1
        assert values.min() >= (-1 if name in ("ari", "ami") else 0)
    perfect = image_replicates(TRUTH, TRUTH[None], resamples=50)
    for name in LABELS:
        np.testing.assert_allclose(perfect[name], 1, atol=1e-6, err_msg=name)


def test_replicates_of_a_handful_of_images_stay_in_their_range():
    """Where chance explains nearly everything, a resample's adjusted information may be far outside."""
    for seed in range(20):
        truth, *partitions = np.random.default_rng(seed).integers(4, size=(4, 8))
        for name, values in image_replicates(truth, partitions, resamples=50).items():
            assert values.max() <= 1, name
            assert values.min() >= (-1 if name in ("ari", "ami") else 0), name


def test_degenerate_partitions():
    for partition, expected in ((np.zeros(N, int), 0.0), (np.full(N, -1), 0.0)):
        found = image_replicates(TRUTH, partition[None], resamples=20)
        for name in ("nmi", "ari", "ami", "homogeneity"):
            np.testing.assert_allclose(found[name], expected, atol=1e-6)
        assert np.isfinite(list(found.values())).all()
    single = image_replicates(np.zeros(9, int), np.zeros((1, 9), int), resamples=20)
    assert all((values == 1).all() for values in single.values())


def test_equal_images_are_drawn_together():
    """Two conditions of the same images: what both get wrong is drawn for both."""
    one = image_replicates(TRUTH, PARTITIONS[:1])["acc"][0]
    other = image_replicates(TRUTH, (PARTITIONS[:1] + 3) % 7)["acc"][0]
    assert np.corrcoef(one, other)[0, 1] == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(one, image_replicates(TRUTH, PARTITIONS)["acc"][0])


def test_versions_of_a_population_share_its_replicates():
    rows = np.sort(RNG.choice(N, 200, replace=False))
    found = image_replicates(TRUTH[rows], PARTITIONS[:, rows], rows=rows, population=N, resamples=20)
    weights = resample_weights(N, 20)[rows]
    table = contingency(TRUTH[rows], PARTITIONS[0, rows])
    values = [drawn(TRUTH[rows], PARTITIONS[0, rows], weights[:, b], match(table))["acc"] for b in range(20)]
    np.testing.assert_allclose(found["acc"][0], values - np.mean(values) + scores(table)["acc"], atol=1e-6)
    whole = image_replicates(TRUTH, PARTITIONS, rows=np.arange(N), population=N, resamples=20)
    np.testing.assert_array_equal(whole["nmi"], image_replicates(TRUTH, PARTITIONS, resamples=20)["nmi"])
    # Every image twice is no more evidence than once.
    twice = np.repeat(np.arange(N), 2)
    doubled = image_replicates(TRUTH[twice], PARTITIONS[:, twice], rows=twice, population=N)["acc"]
    np.testing.assert_allclose(doubled, image_replicates(TRUTH, PARTITIONS)["acc"], atol=1e-6)


def entries(table):
    """A score of a plugin: the number of classes that some cluster has more than 40 images of, and noise a tenth."""
    return float((table.counts > 40).any(axis=1).sum() + (table.noise > table.classes / 10).sum() / 7)


def test_a_metric_of_a_plugin_has_replicates_too(monkeypatch):
    monkeypatch.setitem(METRICS._entries, "entries", Metric("", "of a plugin"))
    monkeypatch.setattr(METRICS, "load", lambda name, load=METRICS.load: entries if name == "entries" else load(name))
    found = image_replicates(TRUTH, NOISY, resamples=20)
    weights = resample_weights(N, 20)
    for s, partition in enumerate(NOISY):
        images = [np.repeat(np.arange(N), weights[:, b]) for b in range(20)]
        values = np.array([entries(contingency(TRUTH[one], partition[one])) for one in images])
        observed = entries(contingency(TRUTH, partition))
        np.testing.assert_allclose(found["entries"][s], values - values.mean() + observed, atol=1e-6)
        assert values.std() > 0


def test_mean_over_seeds_by_hand():
    values = RNG.random((4, 30))
    weights = resample_weights(4, 30, stream=SEEDS)
    expected = [sum(weights[s, b] * values[s, b] for s in range(4)) / 4 for b in range(30)]
    found = mean_over_seeds({"acc": values, "nmi": 2 * values})
    np.testing.assert_allclose(found["acc"], expected, rtol=1e-6)
    np.testing.assert_allclose(found["nmi"], 2 * found["acc"], rtol=1e-6)
    assert found["acc"].dtype == np.float32


def test_mean_over_seeds_keeps_differences_paired_and_adds_the_spread_of_seeds():
    values = RNG.random((10, 1)) + np.zeros((10, 4000))
    first, second = (mean_over_seeds({"acc": one})["acc"] for one in (values, values - 0.2))
    np.testing.assert_allclose(first - second, 0.2, atol=1e-6)
    assert first.std() == pytest.approx(values[:, 0].std() / np.sqrt(10), rel=0.05)
    np.testing.assert_array_equal(mean_over_seeds({"acc": values[:1]})["acc"], values[0].astype(np.float32))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: image_replicates(TRUTH[:9], PARTITIONS), "same images, not 9 and 500"),
        (lambda: image_replicates(TRUTH, PARTITIONS, [None]), "3 partitions need a mapping each, not 1"),
        (lambda: image_replicates(TRUTH, PARTITIONS, [[0]] * 3), "mapping must give an integer class id"),
        (lambda: image_replicates(TRUTH, PARTITIONS, resamples=0), "at least 1 item and 1 resample"),
        (
            lambda: image_replicates(TRUTH, PARTITIONS, rows=np.arange(N)),
            "rows must be 500 ids below the population, None",
        ),
        (lambda: image_replicates(TRUTH, PARTITIONS, rows=np.arange(N), population=9), "they go up to 499"),
        (lambda: resample_weights(0), "at least 1 item"),
    ],
)
def test_clear_refusals(call, message):
    with pytest.raises(InputError, match=message):
        call()
