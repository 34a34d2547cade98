"""A whole evaluation against a pipeline of the usual parts.

    python -m benchmarks.evaluation --data DIR --checkpoint 'resnet20-12fca82f.th?norm=imagenet' [--fork DIR] [--images 2000]

``--data`` (or SHIFTBENCH_DATA) holds CIFAR-10's python batches. Both sides score the same images of the test split under
the 15 corruptions at 5 severities with frozen and refitted k-means of ten seeds each: ACC, NMI, ARI and AMI. The usual
parts are imagecorruptions image by image, PIL images, torchvision's transforms, a DataLoader, the float32 network, and
scikit-learn's KMeans, scores and scipy's assignment for each seed; ``--fork`` names the folder that
imagecorruptions-imaug is installed in, which compiles glass blur. Ours does more in its time: per-class recalls,
agreement, label-free scores, intervals, tables. CPU seconds of the process, one thread on both sides.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

import shiftbench
from benchmarks.corruptions import load_fork
from shiftbench.corruptions import SEVERITIES, corruptions
from shiftbench.data.base import load_dataset
from shiftbench.encoders.base import ModuleEncoder
from shiftbench.records import Dataset, Split
from shiftbench.runtime import compat
from shiftbench.runtime.parallel import single_threaded

SEEDS = 10
Seconds = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SHIFTBENCH_DATA"), help="with cifar-10-batches-py")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--fork", type=Path, help="folder that imagecorruptions-imaug is installed in")
    parser.add_argument("--images", type=int, default=2000, help="of the test split")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    whole = load_dataset("cifar10", root=str(options.data))
    test = Split(whole.test.images[: options.images], whole.test.labels[: options.images])
    data = replace(whole, train=Split(whole.train.images[:5000], whole.train.labels[:5000]), test=test)
    usual = load_fork(options.fork) if options.fork else compat.imagecorruptions()
    with single_threaded():
        shiftbench.evaluate(
            "pixels", data=_tiny(data), floors=[], shift="corruption", cache=None, results=_folder(), workers=1
        )
        ours = score_with_ours(options.checkpoint, data)
        naive = score_with_usual_parts(options.checkpoint, data, usual.corrupt)
    print("| CPU s | usual parts | shiftbench | ratio |\n|---|---|---|---|")
    for stage in ("corrupt", "encode", "cluster and score", "all but encode", "all"):
        print(f"| {stage} | {naive[stage]:.1f} | {ours[stage]:.1f} | {naive[stage] / ours[stage]:.1f} |")


def score_with_ours(checkpoint: str, data: Dataset) -> Seconds:
    begun = time.process_time()
    results = shiftbench.evaluate(
        checkpoint, data=data, floors=[], probes=[], shift="corruption", cache=None, results=_folder(), workers=1
    )
    seconds: Seconds = {"all": time.process_time() - begun}
    spent = results.run["cpu_seconds"]
    seconds |= {"corrupt": spent["change images"], "encode": spent["encode"]}
    seconds["all but encode"] = seconds["all"] - seconds["encode"]
    seconds["cluster and score"] = seconds["all but encode"] - seconds["corrupt"]
    return seconds


def score_with_usual_parts(checkpoint: str, data: Dataset, corrupt: Callable[..., np.ndarray]) -> Seconds:
    spent: Seconds = defaultdict(float)
    encoder = shiftbench.load_encoder(checkpoint, device="cpu", dtype="float32")
    assert isinstance(encoder, ModuleEncoder)
    network = encoder.backbone.float().to(memory_format=torch.contiguous_format)
    transforms = compat.torchvision().transforms
    about = encoder.origin["preprocess"]
    prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize(about["mean"], about["std"])])

    def encode(pictures: list[Image.Image]) -> np.ndarray:
        class Pictures(torch.utils.data.Dataset[Any]):
            def __len__(self) -> int:
                return len(pictures)

            def __getitem__(self, index: int) -> torch.Tensor:
                return prepare(pictures[index])

        with counted(spent, "encode"), torch.inference_mode():
            loader = torch.utils.data.DataLoader(Pictures(), batch_size=128)
            return np.concatenate([network(batch).numpy() for batch in loader])

    def pictures(split: Split) -> list[Image.Image]:
        return [Image.fromarray(image) for image in split.images[:].permute(0, 2, 3, 1).numpy()]

    clean = pictures(data.test)
    train = encode(pictures(data.train))
    with counted(spent, "cluster and score"):
        frozen = [KMeans(10, n_init=1, random_state=seed).fit(train) for seed in range(SEEDS)]
        maps = [assignment(data.train.labels, fitted.labels_) for fitted in frozen]
    for name in ["clean", *corruptions("common")]:
        for severity in SEVERITIES if name != "clean" else (0,):
            with counted(spent, "corrupt"):
                changed = (
                    clean
                    if not severity
                    else [
                        Image.fromarray(corrupt(np.asarray(image), corruption_name=name, severity=severity))
                        for image in clean
                    ]
                )
            features = encode(changed)
            with counted(spent, "cluster and score"):
                for seed in range(SEEDS):
                    score(data.test.labels, frozen[seed].predict(features), maps[seed])
                    anew = KMeans(10, n_init=1, random_state=seed).fit(features).labels_
                    score(data.test.labels, anew, assignment(data.test.labels, anew))
    spent["all but encode"] = spent["corrupt"] + spent["cluster and score"]
    spent["all"] = spent["all but encode"] + spent["encode"]
    return spent


def assignment(labels: Any, partition: np.ndarray) -> np.ndarray:
    rows, columns = linear_sum_assignment(contingency_matrix(labels, partition), maximize=True)
    mapping = np.full(10, -1)
    mapping[columns] = rows
    return mapping


def score(labels: Any, partition: np.ndarray, mapping: np.ndarray) -> tuple[float, ...]:
    return (
        float((mapping[partition] == labels).mean()),
        normalized_mutual_info_score(labels, partition),
        adjusted_rand_score(labels, partition),
        adjusted_mutual_info_score(labels, partition),
    )


@contextmanager
def counted(spent: Seconds, stage: str) -> Iterator[None]:
    begun = time.process_time()
    yield
    spent[stage] += time.process_time() - begun


def _tiny(data: Dataset) -> Dataset:
    """Enough to compile what is compiled at its first use."""
    some = Split(data.test.images[:64], data.test.labels[:64])  # type: ignore[index]  # CIFAR-10 has labels
    return replace(data, train=some, test=some)


def _folder() -> str:
    return tempfile.mkdtemp()


if __name__ == "__main__":
    main()
