"""CPU seconds per image of shiftbench.corruptions against the packages it takes the place of.

    python -m benchmarks.corruptions [--data DIR] [--fork DIR] [--size 32 224] [--device cuda]

``--data`` (or SHIFTBENCH_DATA) holds CIFAR-10's python batches; without it, crops of scikit-learn's two photographs are
used. ``ic`` is imagecorruptions 1.1.2, repaired (shiftbench.runtime.compat); ``fork`` is imagecorruptions-imaug, which has the
same module name: ``pip install --no-deps --target DIR imagecorruptions-imaug``. All three get the same images and the
ImageNet constants, in turns, one thread each; medians over the repeats, means over the five severities. 224 px images
are enlarged 32 px images.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import pickle
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import ModuleType

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch.nn.functional import interpolate

from shiftbench.corruptions import SEVERITIES, corrupt, corruptions
from shiftbench.runtime.compat import imagecorruptions

CHUNK = {32: 250, 224: 16}
SLOW_SECONDS = 0.3  # what a reference may take per severity and repeat; sets how many images it gets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SHIFTBENCH_DATA"), help="with cifar-10-batches-py")
    parser.add_argument("--fork", type=Path, help="folder that imagecorruptions-imaug is installed in")
    parser.add_argument("--size", type=int, nargs="+", default=[32, 224], choices=sorted(CHUNK))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cuda: also time the 750,000 images of CIFAR-10-C there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the references divide by zero in spatter
    references = {"ic": imagecorruptions()}
    if options.fork:
        references["fork"] = load_fork(options.fork)
    else:
        print("imagecorruptions-imaug is left out: no --fork names the folder it is installed in.")
    images = load_images(options.data)
    for size in options.size:
        compare(resized(images[: CHUNK[size]], size), references, options.repeats)
    if options.device != "cpu":
        whole_set(images.to(options.device))


def load_fork(folder: Path) -> ModuleType:
    path = folder / "imagecorruptions" / "__init__.py"
    spec = importlib.util.spec_from_file_location("imagecorruptions_imaug", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"No imagecorruptions-imaug in {folder}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules["imagecorruptions_imaug"] = module
    spec.loader.exec_module(module)
    return module


def load_images(folder: Path | None) -> torch.Tensor:
    """CIFAR-10's test images or 10,000 crops of photographs, uint8 (10000, 3, 32, 32)."""
    if folder is None:
        print("No --data and no SHIFTBENCH_DATA: crops of scikit-learn's photographs.")
        pictures = torch.from_numpy(np.stack(load_sample_images().images)).permute(0, 3, 1, 2)
        crops = pictures.unfold(2, 32, 4).unfold(3, 32, 4).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        return crops[torch.randperm(len(crops), generator=torch.Generator().manual_seed(0))[:10_000]].contiguous()
    with (Path(folder) / "cifar-10-batches-py" / "test_batch").open("rb") as file:
        return torch.from_numpy(pickle.load(file, encoding="bytes")[b"data"].reshape(-1, 3, 32, 32).copy())


def resized(images: torch.Tensor, size: int) -> torch.Tensor:
    if images.shape[2] == size:
        return images
    return interpolate(images.float(), size=size, mode="bicubic", antialias=True).clamp(0, 255).to(torch.uint8)


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def compare(images: torch.Tensor, references: dict[str, ModuleType], repeats: int) -> None:
    """Print microseconds per image and the ratios, corruption by corruption and for the 15 together."""
    pictures = list(images.permute(0, 2, 3, 1).contiguous().numpy())
    columns = ["ours", "cifar table", *references]
    print(f"\n{images.shape[2]} px, chunks of {len(images)}, CPU microseconds per image, mean over severities")
    print(f"{'':18}" + "".join(f"{name:>13}" for name in columns) + "".join(f"{'x ' + r:>9}" for r in references))
    totals = dict.fromkeys(columns, 0.0)
    for name in corruptions("all"):
        times = dict.fromkeys(columns, 0.0)
        for severity in SEVERITIES:
            for column, seconds in one_cell(images, pictures, references, name, severity, repeats).items():
                times[column] += seconds / len(SEVERITIES)
        print_row(name, times, references)
        if name in corruptions("common"):
            totals = {column: totals[column] + times[column] / 15 for column in columns}
    print_row("mean of the 15", totals, references)
    suite = ", ".join(f"{column} {seconds * 750_000:.0f} s" for column, seconds in totals.items())
    print(f"10,000 images x 15 x 5: {suite}")


def one_cell(
    images: torch.Tensor,
    pictures: list[np.ndarray],
    references: dict[str, ModuleType],
    name: str,
    severity: int,
    repeats: int,
) -> dict[str, float]:
    def reference(module: ModuleType, count: int) -> Callable[[], object]:
        return lambda: [module.corrupt(p, severity=severity, corruption_name=name) for p in pictures[:count]]

    work: dict[str, tuple[Callable[[], object], int]] = {
        "ours": (lambda: corrupt(images, name, severity, table="imagecorruptions"), len(images)),
        "cifar table": (lambda: corrupt(images, name, severity, table="cifar"), len(images)),
    }
    for key, module in references.items():
        once = min(cpu_seconds(reference(module, 1)) for _ in range(2))
        count = max(1, min(len(pictures), int(SLOW_SECONDS / once)))
        work[key] = reference(module, count), count
    for run, _ in work.values():
        run()
    times: dict[str, list[float]] = {key: [] for key in work}
    for _ in range(repeats):
        for key, (run, count) in work.items():
            times[key].append(cpu_seconds(run) / count)
    return {key: median(values) for key, values in times.items()}


def print_row(name: str, times: dict[str, float], references: dict[str, ModuleType]) -> None:
    cells = "".join(f"{seconds * 1e6:13.1f}" for seconds in times.values())
    ratios = "".join(f"{times[key] / times['ours']:9.1f}" for key in references)
    print(f"{name:18}{cells}{ratios}", flush=True)


def whole_set(images: torch.Tensor) -> None:
    """Time the 15 corruptions x 5 severities of all images on their device."""
    index = torch.arange(len(images), device=images.device)
    chunks = list(zip(images.split(2500), index.split(2500), strict=True))
    for name in corruptions("common"):
        corrupt(*chunks[0][:1], name, 1, index=chunks[0][1])
    torch.cuda.synchronize()
    start = time.perf_counter()
    for name in corruptions("common"):
        for severity in SEVERITIES:
            for chunk, numbers in chunks:
                corrupt(chunk, name, severity, index=numbers)
    torch.cuda.synchronize()
    print(f"\n{75 * len(images):,} images on {images.device}: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
