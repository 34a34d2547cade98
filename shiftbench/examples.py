"""Pictures for the report: what each cluster looks like, which images leave theirs first, and a map of the features."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA

from shiftbench.corruptions import SEVERITIES
from shiftbench.data.shifts import apply
from shiftbench.features import encode
from shiftbench.metrics.agreement import paired
from shiftbench.parallel import single_threaded
from shiftbench.partitions import Partitions
from shiftbench.plan import Plan
from shiftbench.records import CLEAN, Condition, atomic_path

TYPICAL, SWITCHING, MAPPED = 8, 24, 1000


def save_examples(plan: Plan, changed: Collection[str]) -> None:
    """Write ``examples/``: one archive per encoder, and one of the corruptions used.

    An encoder without clean partitions gets none. All images are from the test split, as uint8 (H, W, 3).

    Args:
        plan: the evaluation.
        changed: slugs of the encoders whose partitions are new; the others' archives stay as they are.
    """
    folder = plan.folder / "examples"
    with single_threaded():
        _save_corruptions(plan, folder / "corruptions.npz")
        for slug in plan.encoders:
            path = folder / f"{slug}.npz"
            if slug in changed or not path.exists():
                _save_encoder(plan, slug, path)


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its stub takes only allow_pickle by name


def _pictures(images: torch.Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).contiguous().numpy()


def _save_corruptions(plan: Plan, path: Path) -> None:
    """One test image under every corruption of the plan: uint8 (corruptions, 6, H, W, 3), the clean one first."""
    names = list(dict.fromkeys(one.corruption for one in plan.conditions if one.corruption))
    if not names:
        return
    image = plan.data.test.images[:1]
    rows = [
        torch.cat(
            [image, *(apply(Condition("corruption", n, s, plan.table), image, seed=plan.seed) for s in SEVERITIES)]
        )
        for n in names
    ]
    _save(path, {"names": np.array(names), "images": np.stack([_pictures(row) for row in rows])})


def _save_encoder(plan: Plan, slug: str, path: Path) -> None:
    kept = {one: Partitions.load(plan.path(slug, one)) for one in plan.conditions}
    made = {one: partitions for one, partitions in kept.items() if partitions is not None and partitions.ok}
    clean = made.pop(CLEAN, None)
    if clean is None:
        return
    rows = np.unique(np.linspace(0, len(plan.data.test) - 1, min(MAPPED, len(plan.data.test))).round().astype(int))
    features = encode(
        {slug: plan.encoders[slug]}, plan.data.test.images, feature=plan.feature, batch_size=plan.batch_size
    )
    found = features[slug]
    if isinstance(found, Exception):
        return
    arrays = _typical(plan, clean.labels[0, 0], found)
    if made:
        arrays |= _switching(plan, clean.labels[0, 0], [one.labels[0, 0] for one in made.values()])
    worst = min(made, key=lambda one: paired(clean.labels[0], made[one].labels[0])["ari"].mean()) if made else CLEAN
    _save(path, arrays | _map(plan, slug, found, rows, worst) | _colours(plan, clean.labels[0, 0], rows))


def _typical(plan: Plan, partition: np.ndarray, features: np.ndarray) -> dict[str, np.ndarray]:
    """The images nearest to the mean of each cluster of the clean test split, (k, TYPICAL)."""
    index = np.full((plan.k, TYPICAL), -1, dtype=np.int64)
    for cluster in range(plan.k):
        members = np.flatnonzero(partition == cluster)
        if len(members):
            away = np.linalg.norm(features[members] - features[members].mean(axis=0), axis=1)
            nearest = members[np.argsort(away, kind="stable")][:TYPICAL]
            index[cluster, : len(nearest)] = nearest
    pictures = _pictures(plan.data.test.images[index.ravel()]).reshape(*index.shape, *_shape(plan))
    pictures[index < 0] = 255
    return {"typical": pictures, "typical_index": index}


def _shape(plan: Plan) -> tuple[int, int, int]:
    channels, height, width = plan.data.test.images.shape[1:]
    return height, width, channels


def _switching(plan: Plan, clean: np.ndarray, shifted: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The images that leave their clean cluster under most conditions."""
    rate = np.mean([partition != clean for partition in shifted], axis=0)
    index = np.argsort(-rate, kind="stable")[:SWITCHING]
    images = _pictures(plan.data.test.images[index])
    return {"switching": images, "switching_index": index, "switching_rate": rate[index]}


def _map(plan: Plan, slug: str, clean: np.ndarray, rows: np.ndarray, worst: Condition) -> dict[str, np.ndarray]:
    """Features on the first two principal axes of the clean ones, clean and under the condition that moves most."""
    images = plan.data.test.images
    with np.errstate(invalid="ignore"):  # constant features explain no share of their variance
        axes = PCA(n_components=min(2, clean.shape[1]), svd_solver="randomized", random_state=0).fit(clean[rows])
    shifted = encode(
        {slug: plan.encoders[slug]}, images, worst, feature=plan.feature, batch_size=plan.batch_size, seed=plan.seed
    )[slug]
    moved = clean if isinstance(shifted, Exception) else shifted
    return {
        "map_clean": _plane(axes.transform(clean[rows])),
        "map_shifted": _plane(axes.transform(moved[rows])),
        "map_condition": np.array(worst.label),
    }


def _plane(points: np.ndarray) -> np.ndarray:
    """float32 (n, 2), also from features that have one dimension only."""
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1]))).astype(np.float32)


def _colours(plan: Plan, partition: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    labels = plan.data.test.labels
    return {"map_cluster": partition[rows]} | ({} if labels is None else {"map_label": labels[rows]})
