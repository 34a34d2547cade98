"""How far partitions of the same images agree when one thing is varied: the axes of stability. No labels are needed.

ConCURL (Deshmukh et al. 2022, section 1) asks for representations that induce the same partition under different
initializations, algorithms and views of the space; each of these is an axis here. Every axis gives, for ARI, AMI and
matched accuracy, the mean agreement of pairs of partitions (Ben-Hur et al. 2002), or says why it cannot be measured.

Where features are clustered here, the clusterer has one fixed seed, so that nothing varies but what the axis says.
Work is done one item per thread: the number of workers changes no bit of a result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftbench.clustering.base import as_features, check_k
from shiftbench.errors import InputError, unknown
from shiftbench.metrics.agreement import AGREEMENTS, MISSING, paired, pairwise
from shiftbench.metrics.consensus import (
    cluster_jaccard,
    mean_over_clusters,
    pairwise_jaccard,
)
from shiftbench.metrics.counts import Ids
from shiftbench.records import Skipped
from shiftbench.registry import CLUSTERERS
from shiftbench.runtime.parallel import parallel_map
from shiftbench.stability.pairs import Measured, all_pairs, of_pairs, of_values, together

Matrix = NDArray[np.float32]

SUBSAMPLE = 2000  # images of the costly axes
SEEDS = 20  # partitions that an axis compares, unless told otherwise
PROJECTION_DIM = 152  # ConCURL's p for CIFAR-10; the other published values are 88, 104 and 136


def initialization(partitions: ArrayLike, clusterer: str = "kmeans") -> Measured:
    """All pairs of partitions that differ in the clusterer's seed alone.

    Args:
        partitions: integers ``(S, N)``, one row per seed; -1 is noise. Twenty seeds give steady numbers.
        clusterer: the registered clusterer that made them.

    Returns:
        ari, ami, matched_acc and, of all partitions together, pac, sample_consensus and cluster_jaccard, for which
        each partition is the reference in turn. Skipped with a single seed, and for a clusterer without a random
        start, whose agreement of 1 would say nothing.

    Raises:
        InputError: ids that ``Labelings.of`` refuses, or an unknown clusterer.

    Examples:
        >>> initialization([[0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]])["ari"].mean
        1.0
        >>> initialization([[0, 0, 1, 1]])
        Skipped(reason='one seed has no other to agree with')
    """
    if not CLUSTERERS.load(clusterer).seeded:
        return Skipped(
            f"{clusterer} has no random start: its seed changes nothing, or draws the images it is fitted to"
        )
    labels = np.asarray(partitions)
    if len(labels) < 2:
        return Skipped("one seed has no other to agree with")
    return all_pairs(labels) | together(labels) | {"cluster_jaccard": of_pairs(pairwise_jaccard(labels))}


def algorithm(
    features: ArrayLike,
    k: int,
    *,
    clusterers: Sequence[str] | None = None,
    limit: int = SUBSAMPLE,
    seed: int = 0,
    workers: int = 1,
) -> Measured:
    """All pairs of clustering algorithms, each fitted once.

    Args:
        features: ``(N, D)``, any real dtype.
        k: number of clusters.
        clusterers: registered names; None takes all.
        limit: the most images; beyond that a random subsample (:func:`subsample`) stands for all.
        seed: of the clusterers and the subsample.
        workers: threads.

    Returns:
        ari, ami, matched_acc; skipped with a single clusterer.

    Raises:
        InputError: features or k that a clusterer refuses, or an unknown clusterer.

    Examples:
        >>> features = np.repeat([[0.0, 0.0], [9.0, 9.0]], 20, axis=0) + np.arange(40)[:, None] / 100
        >>> algorithm(features, 2, clusterers=["kmeans", "ward", "average"])["ari"].mean
        1.0
    """
    names = list(dict.fromkeys(CLUSTERERS if clusterers is None else clusterers))
    if len(names) < 2:
        return Skipped(f"{', '.join(names) or 'no algorithm'} has no other algorithm to agree with")
    points = _some(as_features(features), limit, seed)
    fitted = parallel_map(lambda name: _cluster(points, k, name, seed), names, workers)
    return all_pairs(np.stack(fitted))


def projection(
    features: ArrayLike,
    k: int,
    clusterer: str = "kmeans",
    *,
    count: int = SEEDS,
    kinds: Sequence[Literal["gaussian", "diagonal"]] = ("gaussian", "diagonal"),
    dim: int = PROJECTION_DIM,
    seed: int = 0,
    workers: int = 1,
) -> Measured:
    """All pairs of random linear views of the features: ConCURL's variations of the space (its section 1.2).

    Args:
        features: ``(N, D)``, any real dtype.
        k: number of clusters.
        clusterer: a registered clusterer.
        count: number of views, at least 2; ConCURL trains with M = 1, 16 or 64.
        kinds: of the views, in turns. "gaussian": ``x R``, R of ``(D, dim)`` with entries N(0, 1/dim);
            "diagonal": ``x r``, the dimensions scaled by r ~ N(0, 1).
        dim: ConCURL's p.
        seed: of the views and the clusterer. A view depends on the seed and its own number alone.
        workers: threads; each holds one view.

    Returns:
        ari, ami, matched_acc.

    Raises:
        InputError: features or k that the clusterer refuses, an unknown clusterer or kind, too few views.

    Examples:
        >>> features = np.repeat([[0.0, 0.0], [9.0, 9.0]], 20, axis=0) + np.arange(40)[:, None] / 100
        >>> projection(features, 2, count=4, kinds=["gaussian"])["matched_acc"].n_pairs
        6
    """
    points = as_features(features)
    _at_least(2, count=count)
    _at_least(1, dim=dim)
    if not kinds:
        raise InputError("kinds is empty: name gaussian, diagonal or both.")

    def cluster_view(i: int) -> Ids:
        return _cluster(random_view(points, kinds[i % len(kinds)], dim, seed, i), k, clusterer, seed)

    return all_pairs(np.stack(parallel_map(cluster_view, range(count), workers)))


def random_view(points: Matrix, kind: str, dim: int, seed: int, i: int) -> Matrix:
    """View number i of points ``(N, D)``, float32: see :func:`projection`.

    Raises:
        InputError: an unknown kind.

    Examples:
        >>> random_view(np.ones((5, 3), np.float32), "gaussian", dim=2, seed=0, i=0).shape
        (5, 2)
    """
    rng, width = np.random.default_rng([seed, i]), points.shape[1]
    if kind == "gaussian":
        return points @ (rng.standard_normal((width, dim), np.float32) / np.float32(dim**0.5))
    if kind == "diagonal":
        return points * rng.standard_normal(width, np.float32)
    raise unknown("kind of view", kind, ("gaussian", "diagonal"))


def bootstrap(
    features: ArrayLike,
    k: int,
    clusterer: str = "kmeans",
    *,
    count: int = SEEDS,
    seed: int = 0,
    workers: int = 1,
) -> Measured:
    """All pairs of bootstrap resamples of the images, compared on the images that both hold.

    A resample draws N images with replacement and clusters the distinct images, 63 % on average: repeated images
    would look like dense spots to some algorithms (Hennig 2007, section 3.2).

    Args:
        features: ``(N, D)``, any real dtype.
        k: number of clusters.
        clusterer: a registered clusterer.
        count: number of resamples, at least 2.
        seed: of the draws and the clusterer. A resample depends on the seed and its own number alone.
        workers: threads.

    Returns:
        ari, ami, matched_acc and, of all resamples together, pac, sample_consensus and cluster_jaccard: each resample
        against the clusters of all images (Hennig 2007), so that it has ``count`` pairs. Skipped where a resample has
        fewer than k distinct images.

    Raises:
        InputError: features or k that the clusterer refuses, an unknown clusterer, or too few resamples.

    Examples:
        >>> features = np.repeat([[0.0, 0.0], [9.0, 9.0]], 20, axis=0) + np.arange(40)[:, None] / 100
        >>> bootstrap(features, 2, count=4)["cluster_jaccard"].mean
        1.0
    """
    points = as_features(features)
    n = len(points)
    check_k(k, n)
    _at_least(2, count=count)
    resamples = [np.unique(np.random.default_rng([seed, i]).integers(n, size=n)) for i in range(count)]
    if min(map(len, resamples)) < k:
        return Skipped(f"a resample of {n} images has fewer than {k} distinct images")
    whole, *parts = parallel_map(
        lambda images: _cluster(points[images], k, clusterer, seed), [np.arange(n), *resamples], workers
    )
    labels = np.full((count, n), MISSING)
    for row, images, part in zip(labels, resamples, parts, strict=True):
        row[images] = part
    best = mean_over_clusters(cluster_jaccard(whole, labels))
    return all_pairs(labels) | together(labels) | {"cluster_jaccard": of_values(best)}


def augmentation(
    views: Sequence[ArrayLike],
    k: int,
    clusterer: str = "kmeans",
    *,
    limit: int = SUBSAMPLE,
    seed: int = 0,
    workers: int = 1,
) -> Measured:
    """All pairs of augmented views of the same images, each view clustered by itself.

    Args:
        views: features ``(N, D)`` of each view, image by image in the same order.
        k: number of clusters.
        clusterer: a registered clusterer.
        limit: the most images; beyond that a random subsample (:func:`subsample`) stands for all.
        seed: of the clusterer and the subsample.
        workers: threads.

    Returns:
        ari, ami, matched_acc; skipped with a single view.

    Raises:
        InputError: views of different sizes, features or k that the clusterer refuses, or an unknown clusterer.

    Examples:
        >>> features = np.repeat([[0.0, 0.0], [9.0, 9.0]], 20, axis=0) + np.arange(40)[:, None] / 100
        >>> augmentation([features, features + 0.5], 2)["ari"].mean
        1.0
    """
    points = [as_features(view) for view in views]
    if len({len(view) for view in points}) > 1:
        raise InputError(f"views must be of the same images, not {', '.join(str(len(view)) for view in points)}.")
    if len(points) < 2:
        return Skipped("one view has no other to agree with")
    fitted = parallel_map(lambda view: _cluster(_some(view, limit, seed), k, clusterer, seed), points, workers)
    return all_pairs(np.stack(fitted))


def shift(clean: ArrayLike, shifted: ArrayLike) -> Measured:
    """Each partition of the shifted images with the same seed's partition of the clean images.

    Args:
        clean: integers ``(S, N)``, one row per seed; -1 is noise.
        shifted: integers ``(S, N)``, of the same images in the same order.

    Returns:
        ari, ami, matched_acc over S pairs; with a single seed only the mean is a number.

    Raises:
        InputError: different shapes, or ids that ``Labelings.of`` refuses.

    Examples:
        >>> shift(clean=[[0, 0, 1, 1]], shifted=[[0, 0, 1, 0]])["matched_acc"].mean
        0.75
    """
    return {name: of_values(values) for name, values in paired(clean, shifted).items()}


def training_seed(checkpoints: ArrayLike) -> Measured:
    """All pairs of checkpoints of one training method; a pair's agreement is the mean over clustering seeds.

    Args:
        checkpoints: integers ``(E, S, N)``, the partitions of each checkpoint and clustering seed; -1 is noise.

    Returns:
        ari, ami, matched_acc over the pairs of checkpoints: many clusterings of one network are no evidence about
        another training. Skipped with a single checkpoint.

    Raises:
        InputError: not three dimensions, or ids that ``Labelings.of`` refuses.

    Examples:
        >>> training_seed([[[0, 0, 1, 1]], [[1, 1, 0, 0]]])["ari"].mean
        1.0
    """
    labels = np.asarray(checkpoints)
    if labels.ndim != 3:
        raise InputError(f"checkpoints must be partitions (checkpoints, seeds, images), not of shape {labels.shape}.")
    if len(labels) < 2:
        return Skipped("one training seed has no other to agree with")
    by_seed = [pairwise(labels[:, seed]) for seed in range(labels.shape[1])]
    return {name: of_pairs(np.mean([matrices[name] for matrices in by_seed], axis=0)) for name in AGREEMENTS}


@dataclass(frozen=True)
class Axis:
    """Something that can be varied.

    Attributes:
        name: what results call it.
        summary: what it varies, in a few words.
        needs: the arguments that its function needs; ``function(**{name: ... for name in needs})``.
        cheap: whether it is quick enough for every condition; else it takes a subsample, or more forward passes.
        function: measures it.
        metrics: the names of what it measures.

    Examples:
        >>> AXES["shift"].needs
        ('clean', 'shifted')
    """

    name: str
    summary: str
    needs: tuple[str, ...]
    cheap: bool
    function: Callable[..., Measured]
    metrics: tuple[str, ...] = tuple(AGREEMENTS)


_TOGETHER = (*AGREEMENTS, "pac", "sample_consensus", "cluster_jaccard")
AXES: dict[str, Axis] = {
    axis.name: axis
    for axis in (
        Axis("initialization", "the clusterer's seed", ("partitions", "clusterer"), True, initialization, _TOGETHER),
        Axis("algorithm", "the clustering algorithm", ("features", "k"), False, algorithm),
        Axis("projection", "random linear views of the features", ("features", "k", "clusterer"), True, projection),
        Axis("bootstrap", "the sample of images", ("features", "k", "clusterer"), True, bootstrap, _TOGETHER),
        Axis("augmentation", "augmented views of each image", ("views", "k", "clusterer"), False, augmentation),
        Axis("shift", "clean or shifted images", ("clean", "shifted"), True, shift),
        Axis("training_seed", "the seed of the training", ("checkpoints",), True, training_seed),
    )
}


def subsample(n: int, limit: int, seed: int) -> Ids:
    """The indices of at most ``limit`` of n images, drawn without replacement: int64, ascending.

    Raises:
        InputError: a limit below 1.

    Examples:
        >>> subsample(3, limit=10, seed=0)
        array([0, 1, 2])
        >>> len(subsample(100, limit=10, seed=0))
        10
    """
    _at_least(1, limit=limit)
    return np.arange(n) if n <= limit else np.sort(np.random.default_rng(seed).choice(n, limit, replace=False))


def _some(points: Matrix, limit: int, seed: int) -> Matrix:
    return points[subsample(len(points), limit, seed)]


def _cluster(points: Matrix, k: int, clusterer: str, seed: int) -> Ids:
    labels: Ids = CLUSTERERS.load(clusterer)().fit(points, k, seed).labels
    return labels


def _at_least(least: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < least:
            raise InputError(f"{name} must be at least {least}, not {number}.")
