"""CPU seconds of k-means and of scoring partitions, against scikit-learn; and how they grow with N.

    python -m benchmarks.clustering [--data DIR] [--repeats 3] [--seeds 20] [--threads 1 2] [--only growth speed scores]

``features`` are CIFAR-10's images (``--data`` or SHIFTBENCH_DATA holds the python batches) behind one layer of random
convolutions, as in Coates et al. 2011; ``blobs`` overlap. Every seed is one k-means++ start; scikit-learn runs them one
after the other and, to save time, only the first few, whose time is scaled up and whose inertia is compared. Both use
the same number of threads, in turns. Agreement and consensus of partitions: ``python -m benchmarks.agreement``.
"""

from __future__ import annotations

import argparse
import os
import pickle
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans as Sklearn
from sklearn.cluster import MiniBatchKMeans
from sklearn.datasets import make_blobs
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    confusion_matrix,
    normalized_mutual_info_score,
)
from threadpoolctl import threadpool_limits

from shiftbench.clustering.kmeans import KMeans
from shiftbench.clustering.lloyd import lloyd, plus_plus
from shiftbench.metrics.counts import contingency
from shiftbench.metrics.external import scores

Matrix = NDArray[np.float32]
Times = tuple[float, float]  # CPU seconds, wall seconds

K = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SHIFTBENCH_DATA"), help="with cifar-10-batches-py")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--reference-seeds", type=int, default=5, help="that scikit-learn runs, of these")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", default=["growth", "speed", "scores"])
    options = parser.parse_args()
    KMeans().fit(np.eye(20, dtype=np.float32), 3, 0)  # compiles
    if "growth" in options.only:
        growth(options.repeats)
    if "speed" in options.only:
        for name, points in data_sets(options.data).items():
            for threads in options.threads:
                speed(name, points, threads, options)
            same_start(points)
            if torch.cuda.is_available():
                on_cuda(points, options.seeds)
    if "scores" in options.only:
        scoring(options.repeats)


def data_sets(folder: Path | None) -> dict[str, Matrix]:
    blobs = {
        f"blobs, {n:,} x {d}": make_blobs(n, d, centers=K, cluster_std=spread, random_state=0)[0].astype(np.float32)
        for n, d, spread in ((50_000, 128, 20.0), (10_000, 512, 40.0))
    }
    if folder is None:
        print("No --data and no SHIFTBENCH_DATA: blobs alone.")
        return blobs
    train = np.concatenate([images(folder, f"data_batch_{i}") for i in range(1, 6)])
    real = {"features, 50,000 x 128": (train, 32), "features, 10,000 x 512": (images(folder, "test_batch"), 128)}
    return {name: random_features(*given) for name, given in real.items()} | blobs


def images(folder: Path, batch: str) -> NDArray[np.uint8]:
    with (Path(folder) / "cifar-10-batches-py" / batch).open("rb") as file:
        return pickle.load(file, encoding="bytes")[b"data"].reshape(-1, 3, 32, 32)


def random_features(pictures: NDArray[np.uint8], filters: int) -> Matrix:
    """Rectified random 6x6 convolutions, averaged over the four quarters of the image: (N, 4 filters)."""
    weights = torch.randn(filters, 3, 6, 6, generator=torch.Generator().manual_seed(0)) / 10
    chunks = []
    for chunk in torch.from_numpy(pictures).split(1000):
        maps = torch.conv2d(chunk / 255 - 0.5, weights, stride=2).relu()
        chunks.append(torch.nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1))
    return torch.cat(chunks).numpy()


def speed(name: str, points: Matrix, threads: int, options: argparse.Namespace) -> None:
    """All seeds of ours against a loop over scikit-learn's, in turns."""
    few = range(options.reference_seeds)
    scale = options.seeds / len(few)
    work: dict[str, Callable[[], Sequence[Any]]] = {
        "ours": lambda: KMeans(workers=threads).fit_seeds(points, K, range(options.seeds)),
        "KMeans(n_init=1)": lambda: [Sklearn(K, n_init=1, random_state=seed).fit(points) for seed in few],
        "MiniBatchKMeans(6000, n_init=20)": lambda: [
            MiniBatchKMeans(K, batch_size=6000, n_init=20, random_state=seed).fit(points) for seed in few[:2]
        ],
    }
    runs: dict[str, list[Times]] = {key: [] for key in work}
    fits: dict[str, Sequence[Any]] = {}
    with threadpool_limits(threads):
        for _ in range(options.repeats):
            for key, run in work.items():
                seconds, fits[key] = timed(run)
                runs[key].append(seconds)
    factor = {"ours": 1.0, "KMeans(n_init=1)": scale, "MiniBatchKMeans(6000, n_init=20)": options.seeds / 2}
    cost = {key: [factor[key] * median(column) for column in zip(*times, strict=True)] for key, times in runs.items()}
    inertia = median(fit.inertia for fit in fits["ours"][: len(few)])
    print(f"\n{name}, k = {K}, {options.seeds} seeds, {threads} thread(s); median inertia 1 = ours")
    for key, (cpu, wall) in cost.items():
        ratio = [other / own for other, own in zip((cpu, wall), cost["ours"], strict=True)]
        theirs = median(getattr(fit, "inertia_", None) or fit.inertia for fit in fits[key][: len(few)]) / inertia
        print(
            f"  {key:34}{cpu:8.2f} s CPU {ratio[0]:6.1f}x{wall:8.2f} s wall {ratio[1]:6.1f}x   {theirs:.4f}", flush=True
        )


def same_start(points: Matrix) -> None:
    """How many labels agree with scikit-learn's from the same initial centers."""
    start = points[plus_plus(points, K, range(3))]
    threshold = 1e-4 * float(points.var(axis=0, dtype=np.float64).mean())
    centers, labels, steps = lloyd(points, start, 300, threshold)
    for i in range(len(start)):
        reference = Sklearn(K, init=start[i], n_init=1, algorithm="lloyd").fit(points.astype(np.float64))
        inertia = np.square(points - centers[i][labels[i]]).sum(dtype=np.float64)
        print(
            f"    same start: {(labels[i] == reference.labels_).mean():.3%} of labels equal, inertia off by "
            f"{abs(inertia / reference.inertia_ - 1):.0e}, {steps[i]} and {reference.n_iter_} iterations"
        )


def on_cuda(points: Matrix, seeds: int) -> None:
    """The same on the GPU, against one plain Lloyd after the other there, of as many iterations."""
    tensor = torch.from_numpy(points).cuda()
    KMeans().fit_seeds(tensor, K, range(seeds))
    torch.cuda.synchronize()
    (_, ours), fits = timed(lambda: KMeans().fit_seeds(tensor, K, range(seeds)))
    (_, plain), _ = timed(lambda: [plain_lloyd(tensor, fit.n_iter, seed) for seed, fit in enumerate(fits)])
    print(f"    on {torch.cuda.get_device_name()}: {ours:.3f} s, plain torch Lloyd {plain / ours:.1f}x")


def plain_lloyd(points: torch.Tensor, iterations: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centers = points[torch.randperm(len(points), generator=generator)[:K].to(points.device)]
    for _ in range(iterations):
        labels = torch.cdist(points, centers).argmin(1)
        centers = torch.stack([points[labels == cluster].mean(0) for cluster in range(K)])
    torch.cuda.synchronize()
    return centers


def growth(repeats: int) -> None:
    """Time of ten iterations of five seeds, and the memory they take, N up to a million."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((1_000_000, 32), np.float32)
    points += rng.normal(scale=1, size=(K, 32)).astype(np.float32)[rng.integers(K, size=len(points))]
    print("\n10 iterations, 5 seeds, D = 32, k = 10: CPU seconds per million images, and memory that it took")
    for n in (62_500, 125_000, 250_000, 500_000, 1_000_000):
        clusterer, some = KMeans(max_iter=10, tol=0), points[:n]
        seconds = [timed(lambda fit=clusterer.fit_seeds, x=some: fit(x, K, range(5)))[0][0] for _ in range(repeats)]
        tracemalloc.start()
        clusterer.fit_seeds(some, K, range(5))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(f"  N = {n:9,}: {median(seconds) / n * 1e6:6.2f} s {peak / 2**20:6.0f} MiB", flush=True)


def scoring(repeats: int) -> None:
    """ACC, NMI, ARI and AMI of 50,000 labels, against four calls of scikit-learn and scipy."""
    rng = np.random.default_rng(0)
    truth = rng.integers(10, size=50_000)
    partition = np.where(rng.random(50_000) < 0.4, rng.integers(10, size=50_000), truth)

    def reference() -> list[float]:
        table = confusion_matrix(truth, partition)
        rows, columns = linear_sum_assignment(-table)
        metrics = (normalized_mutual_info_score, adjusted_rand_score, adjusted_mutual_info_score)
        return [table[rows, columns].sum() / len(truth), *(metric(truth, partition) for metric in metrics)]

    def ours() -> list[float]:
        by_name = scores(contingency(truth, partition))
        return [by_name[name] for name in ("acc", "nmi", "ari", "ami")]

    np.testing.assert_allclose(ours(), reference(), atol=1e-9)
    own, theirs = (median(timed(work)[0][0] for _ in range(10 * repeats)) for work in (ours, reference))
    print(f"\nACC + NMI + ARI + AMI of 50,000 labels: {own * 1e3:.2f} ms, scikit-learn and scipy {theirs / own:.0f}x")


def timed(work: Callable[[], Any]) -> tuple[Times, Any]:
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return (time.process_time() - cpu, time.perf_counter() - wall), result


if __name__ == "__main__":
    main()
