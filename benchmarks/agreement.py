"""CPU seconds of agreement and consensus of many partitions, against the usual code with scikit-learn and scipy.

    python -m benchmarks.agreement [--data DIR] [--repeats 3]

The partitions are k-means with one seed each, k = 10, of CIFAR-10's 10,000 test images (64 principal components of the
pixels; without ``--data`` or SHIFTBENCH_DATA, of overlapping blobs), and, as the worst case, partitions with 30 % of the
ids redrawn at random. One thread each, in turns; medians over the repeats. The reference of the consensus multiplies
one-hot matrices and links with scipy: 2 GB.
"""

from __future__ import annotations

import argparse
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score

from shiftbench.clustering.kmeans import KMeans
from shiftbench.metrics.agreement import Labelings, pairwise
from shiftbench.metrics.consensus import consensus_partition
from shiftbench.runtime.parallel import single_threaded

Ids = NDArray[np.int64]

N, K, SEEDS, LABELINGS = 10_000, 10, 20, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SHIFTBENCH_DATA"), help="with cifar-10-batches-py")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with single_threaded():
        features = load_features(options.data)
        fitted = np.stack([partition.labels for partition in KMeans().fit_seeds(features, K, range(LABELINGS))])
        rng = np.random.default_rng(0)
        redrawn = np.where(rng.random(fitted.shape) < 0.3, rng.integers(K, size=fitted.shape), fitted[:1])
        print(f"{'':42}{'ours':>12}{'reference':>12}{'ratio':>8}   CPU seconds")
        for name, partitions in {"k-means": fitted, "30 % at random": redrawn}.items():
            agreement(name, partitions, options.repeats)
            consensus(name, partitions[:SEEDS], options.repeats)


def load_features(folder: Path | None) -> NDArray[np.float32]:
    if folder is None:
        print("No --data and no SHIFTBENCH_DATA: blobs.")
        return make_blobs(N, n_features=64, centers=K, cluster_std=8, random_state=0)[0].astype(np.float32)
    with (Path(folder) / "cifar-10-batches-py" / "test_batch").open("rb") as file:
        pixels = pickle.load(file, encoding="bytes")[b"data"].astype(np.float32) / 255
    centred = pixels - pixels.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, -64:]
    return np.ascontiguousarray(centred @ axes)


def agreement(name: str, partitions: Ids, repeats: int) -> None:
    def reference() -> NDArray[np.float64]:
        return np.array([adjusted_rand_score(partitions[i], partitions[j]) for i, j in zip(*upper, strict=True)])

    upper = np.triu_indices(len(partitions), 1)
    ours, agreements = timed(lambda: pairwise(partitions, ["ari"])["ari"], repeats)
    theirs, expected = timed(reference)
    np.testing.assert_allclose(agreements[upper], expected, atol=1e-12)
    show(f"pairwise ARI, {len(partitions)} partitions, {name}", ours, theirs)


def consensus(name: str, partitions: Ids, repeats: int) -> None:
    def reference() -> Ids:
        together = np.zeros((N, N), np.float32)
        for ids in partitions:
            one_hot = (ids[:, None] == np.arange(K)).astype(np.float32)
            together += one_hot @ one_hot.T
        tree = linkage(squareform(1 - together / len(partitions), checks=False), "average")
        return fcluster(tree, K, "maxclust")

    ours, merged = timed(lambda: consensus_partition(partitions, K), repeats)
    theirs, expected = timed(reference)
    distinct = len(Labelings.of(partitions).weights)
    show(f"consensus of {len(partitions)} partitions, {name}", ours, theirs)
    print(
        f"    {distinct:,} distinct samples, {'exact' if merged.exact else 'the most frequent linked'}; ARI to the "
        f"reference {adjusted_rand_score(merged.labels, expected):.3f}"
    )


def timed(work: Callable[[], Any], repeats: int = 0) -> tuple[float, Any]:
    """The median after a first, compiling run, or without repeats the time of that run."""
    seconds = []
    for _ in range(1 + repeats):
        start = time.process_time()
        result = work()
        seconds.append(time.process_time() - start)
    return median(seconds[1:] or seconds), result


def show(name: str, ours: float, theirs: float) -> None:
    print(f"{name:42}{ours:12.4f}{theirs:12.3f}{theirs / ours:7.0f}x", flush=True)


if __name__ == "__main__":
    main()
