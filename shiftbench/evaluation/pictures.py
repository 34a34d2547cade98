"""Pictures for the report: what each cluster looks like, which images leave their cluster first, and a map of the features."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch.nn.functional import interpolate

from shiftbench.corruptions import SEVERITIES, corrupt
from shiftbench.evaluation.candidates import Candidate
from shiftbench.evaluation.context import encode_for
from shiftbench.evaluation.partitions import Partitions
from shiftbench.evaluation.plan import Plan
from shiftbench.evaluation.readouts import Clustered
from shiftbench.features.cache import FeatureCache
from shiftbench.metrics.agreement import paired
from shiftbench.metrics.consensus import consensus_partition, sample_consensus
from shiftbench.records import CLEAN, Condition, Sample, atomic_path
from shiftbench.runtime.clock import Clock
from shiftbench.runtime.parallel import single_threaded

TYPICAL, SWITCHING, MAPPED = 8, 24, 1000
SIDE, CLUSTERS = 64, 100  # pixels of a picture, clusters that are shown


def save_examples(plan: Plan, changed: Collection[str]) -> None:
    """Write ``examples/``: one archive per encoder, and one of the corruptions used.

    An encoder without clean partitions gets no archive. Of several features or clusterers the first is shown. All images
    are from the test split, as uint8 (H, W, 3), at most ``SIDE`` pixels high.

    Args:
        plan: the evaluation.
        changed: slugs of the encoders whose partitions are new; archives of the other encoders stay as they are.
    """
    folder = plan.folder / "examples"
    with single_threaded():
        _save_corruptions(plan, folder / "corruptions.npz")
        for slug in plan.encoders:
            path = folder / f"{slug}.npz"
            if slug in changed or not path.exists():
                candidate = next(candidate for candidate in plan.candidates if candidate.slug == slug)
                _save_encoder(plan, candidate, path)


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its stub takes only allow_pickle by name


def _pictures(images: torch.Tensor) -> np.ndarray:
    """uint8 (N, H, W, 3), shrunk to thumbnails."""
    height, width = images.shape[-2:]
    if max(height, width) > SIDE:
        size = [max(1, round(side * SIDE / max(height, width))) for side in (height, width)]
        images = interpolate(images.float(), size, mode="area").round().to(torch.uint8)
    return images.permute(0, 2, 3, 1).contiguous().numpy()


def _save_corruptions(plan: Plan, path: Path) -> None:
    """One test image under every corruption of the plan: uint8 (corruptions, 6, H, W, 3), the clean one first."""
    conditions = [c for c, s in plan.samples.items() if c.shift == "corruption" and isinstance(s, Sample)]
    names = list(dict.fromkeys(condition.corruption for condition in conditions))
    if not names:
        return
    image = plan.data.test.images[:1]
    rows = [
        torch.cat([image, *(corrupt(image, n, s, table=plan.table, seed=plan.seed) for s in SEVERITIES)]) for n in names
    ]
    _save(path, {"names": np.array(names), "images": np.stack([_pictures(row) for row in rows])})


def _save_encoder(plan: Plan, candidate: Candidate, path: Path) -> None:
    readout = Clustered(plan.clusterers[0])
    versions = [
        c
        for c, s in plan.samples.items()
        if isinstance(s, Sample) and s.rows is not None and s.n == plan.sample(CLEAN).n
    ]
    kept = {condition: Partitions.load(plan.path(candidate, readout, condition)) for condition in versions}
    made = {condition: partitions for condition, partitions in kept.items() if partitions is not None and partitions.ok}
    clean = made.pop(CLEAN, None)
    features = _features(plan, candidate, CLEAN)
    if clean is None or features is None:
        return
    frozen = "frozen" in clean.protocols  # only frozen clusters are the same under every condition
    shown = clean.protocols.index("frozen") if frozen else 0
    worst = min(made, key=lambda c: paired_agreement(clean.labels[shown], made[c].labels[shown]), default=CLEAN)
    moved = _features(plan, candidate, worst)
    if moved is None:
        worst, moved = CLEAN, features
    partition, k = clean.labels[shown, 0], int(clean.ks[shown])
    arrays = _consensus(clean.labels[shown], k) | _typical(plan, CLEAN, partition, features, k, "typical")
    if frozen and made:
        arrays |= _switching(plan, partition, [partitions.labels[shown, 0] for partitions in made.values()])
    if frozen and worst != CLEAN:
        arrays |= _typical(plan, worst, made[worst].labels[shown, 0], moved, k, "typical_shifted")
    rows = np.unique(np.linspace(0, len(features) - 1, min(MAPPED, len(features))).round().astype(int))
    _save(path, arrays | _map(features, moved, rows, worst) | _colours(plan, partition, rows))


def _consensus(labels: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """The consensus partition of partitions (S, N), and how far they agree on each image, both (N,)."""
    if len(labels) < 2:
        return {}
    together = consensus_partition(labels, k)
    return {"consensus": together.labels, "sample_consensus": sample_consensus(labels)}


def paired_agreement(clean: np.ndarray, shifted: np.ndarray) -> float:
    """Mean ARI between the clean and the shifted partition of each seed, both (S, N)."""
    return float(paired(clean, shifted, ["ari"])["ari"].mean())


def _features(plan: Plan, candidate: Candidate, condition: Condition) -> np.ndarray | None:
    """Raw features of a condition, from the cache if they are there; None where the encoder fails."""
    cache = None if plan.cache is None else FeatureCache(plan.cache)
    encoded = encode_for(plan, [candidate], plan.sample(condition), plan.about(condition), cache, Clock())
    features = encoded[candidate.slug, candidate.raw]
    return None if isinstance(features, Exception) else features


def _typical(
    plan: Plan, condition: Condition, partition: np.ndarray, features: np.ndarray, k: int, name: str
) -> dict[str, np.ndarray]:
    """The images nearest to the mean of each cluster under a condition, (k, TYPICAL); their positions, -1 for none."""
    index = np.full((min(k, CLUSTERS), TYPICAL), -1, dtype=np.int64)
    for cluster in range(len(index)):
        members = np.flatnonzero(partition == cluster)
        if len(members):
            away = np.linalg.norm(features[members] - features[members].mean(axis=0), axis=1)
            nearest = members[np.argsort(away, kind="stable")][:TYPICAL]
            index[cluster, : len(nearest)] = nearest
    pictures = _seen(plan, condition, np.maximum(index, 0).ravel())
    pictures = pictures.reshape(*index.shape, *pictures.shape[1:])
    pictures[index < 0] = 255
    return {name: pictures, f"{name}_index": index}


def _seen(plan: Plan, condition: Condition, positions: np.ndarray) -> np.ndarray:
    """Thumbnails, uint8 (n, H, W, 3), of scored images as they are under a condition."""
    sample = plan.sample(condition)
    pictures = []
    for start in range(0, len(positions), plan.batch_size):
        chosen = positions[start : start + plan.batch_size]
        rows = np.asarray(sample.rows)[chosen]
        images = plan.data.test.images[rows] if sample.images is None else sample.images[chosen]
        if sample.change is not None:
            images = sample.change(images, torch.from_numpy(rows))
        pictures.append(_pictures(images))
    return np.concatenate(pictures)


def _switching(plan: Plan, clean: np.ndarray, shifted: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The images that leave their clean cluster under most conditions."""
    rate = np.mean([partition != clean for partition in shifted], axis=0)
    index = np.argsort(-rate, kind="stable")[:SWITCHING]
    return {"switching": _seen(plan, CLEAN, index), "switching_index": index, "switching_rate": rate[index]}


def _map(clean: np.ndarray, shifted: np.ndarray, rows: np.ndarray, worst: Condition) -> dict[str, np.ndarray]:
    """Features on the first two principal axes of the clean features, clean and under the condition that moves most."""
    with np.errstate(invalid="ignore"):  # constant features explain no share of their variance
        axes = PCA(n_components=min(2, clean.shape[1]), svd_solver="randomized", random_state=0).fit(clean[rows])
    return {
        "map_clean": _plane(axes.transform(clean[rows])),
        "map_shifted": _plane(axes.transform(shifted[rows])),
        "map_condition": np.array(worst.label),
    }


def _plane(points: np.ndarray) -> np.ndarray:
    """float32 (n, 2), also from features with a single dimension."""
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1]))).astype(np.float32)


def _colours(plan: Plan, partition: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    labels = plan.sample(CLEAN).labels
    return {"map_cluster": partition[rows]} | ({} if labels is None else {"map_label": labels[rows]})
