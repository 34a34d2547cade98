"""CPU seconds of the parts of a ConCURL step, and of the whole, against the same written plainly; images/s on a GPU.

    python -m benchmarks.training [--repeats 3] [--threads 2] [--only consensus nce views step inference]
    python -m benchmarks.training --only methods --device cuda [--batch 512]

The plain side is written as the published code is: PIL and torchvision's transforms image by image, a float32 network, a loop
over projections, a gather of B x (1 + m) x D negatives. Everything runs in turns; medians over the repeats. On one thread
CPU seconds are measured, whatever else the machine does; on several, wall seconds, which want a quiet machine. Images,
weights and banks are random: what they hold does not change the time. Views are compared with kornia's too, where it is
installed.

``methods`` trains every method's `common` recipe on random images of CIFAR-10's size and says images/s, the share of the
device's matrix rate that the network takes up, and where the rest goes.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from shiftbench.configs import compose
from shiftbench.encoders.backbones import build_backbone
from shiftbench.encoders.precision import fast_copy
from shiftbench.registry import METHODS
from shiftbench.runtime.compat import torchvision
from shiftbench.trainers.augment import Augmentation, ViewRng
from shiftbench.trainers.concurl import consensus_loss, random_transforms, sinkhorn
from shiftbench.trainers.engine import Trainer
from shiftbench.trainers.instance import InstanceBank, nce_loss

BATCH, IMAGES, K = 128, 50_000, 10
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ROWS = ("consensus", "nce", "views", "step", "inference", "methods")

Work = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=ROWS[:-1])
    parser.add_argument("--device", default="cpu", help="of --only methods")
    parser.add_argument("--batch", type=int, default=512, help="of --only methods")
    options = parser.parse_args()
    torch.manual_seed(0)
    if "methods" in options.only:
        methods(torch.device(options.device), options.batch)
    rows = {"consensus": consensus, "nce": nce, "views": views, "step": step, "inference": inference}
    torch.set_num_threads(options.threads)
    watch = Watch(options.repeats, time.process_time if options.threads == 1 else time.perf_counter)
    print(f"{'CPU ms' if options.threads == 1 else 'ms':48}{'plain':>10}{'ours':>10}{'ratio':>8}")
    for name, measure in rows.items():
        if name in options.only:
            measure(watch)


@dataclass(frozen=True)
class Watch:
    """Times things that do the same."""

    repeats: int
    clock: Callable[[], float]

    def compare(self, name: str, plain: Work, *ours: tuple[str, Work], times: int = 1) -> None:
        """Print a line for each variant: all in turn, ``times`` the repeats, after one run that warms up."""
        seconds: list[list[float]] = [[] for _ in range(1 + len(ours))]
        works = [plain, *(work for _, work in ours)]
        for repeat in range(1 + times * self.repeats):
            for work, spent in zip(works, seconds, strict=True):
                start = self.clock()
                work()
                if repeat:
                    spent.append(self.clock() - start)
        plain_seconds, *own_seconds = map(median, seconds)
        for (variant, _), spent in zip(ours, own_seconds, strict=True):
            print(
                f"{f'{name}, {variant}':48}{1e3 * plain_seconds:10.1f}{1e3 * spent:10.1f}{plain_seconds / spent:7.1f}x",
                flush=True,
            )


# ---- the terms ---------------------------------------------------------------------------------------------------


def consensus_in_a_loop(
    z1: torch.Tensor, z2: torch.Tensor, prototypes: torch.Tensor, q1: torch.Tensor, q2: torch.Tensor, maps: torch.Tensor
) -> torch.Tensor:
    total = torch.zeros(())
    for projection in maps:
        directions = functional.normalize(prototypes @ projection.t(), dim=1)
        scores1 = functional.normalize(z1 @ projection.t(), dim=1) @ directions.t()
        scores2 = functional.normalize(z2 @ projection.t(), dim=1) @ directions.t()
        log_p1, log_p2 = (
            torch.log(functional.softmax(scores1 / 0.1, 1)),
            torch.log(functional.softmax(scores2 / 0.1, 1)),
        )
        total = total - (torch.mean(torch.sum(q2 * log_p1, 1)) + torch.mean(torch.sum(q1 * log_p2, 1))) / 2
    return total / len(maps)


def consensus(watch: Watch) -> None:
    z1, z2 = (torch.randn(BATCH, 256, requires_grad=True) for _ in range(2))
    prototypes = functional.normalize(torch.randn(K, 256), dim=1)
    q1, q2 = (sinkhorn(torch.randn(BATCH, K)) for _ in range(2))
    maps = random_transforms("projection", 64, 152, 256, torch.Generator().manual_seed(0))

    def plain() -> torch.Tensor:
        return consensus_in_a_loop(z1, z2, prototypes, q1, q2, maps)

    def ours() -> torch.Tensor:
        return consensus_loss(z1, z2, prototypes, q1, q2, maps)

    def half() -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return ours()

    variants = [(name, lambda work=work: work().backward()) for name, work in (("float32", ours), ("bfloat16", half))]
    watch.compare("consensus, M = 64", lambda: plain().backward(), *variants, times=5)
    counts = [operations(lambda work=work: work().backward()) for work in (plain, ours)]
    print(
        f"    operations {counts[0]:,} and {counts[1]:,}: {counts[0] / counts[1]:.0f} times fewer; the losses differ by "
        f"{abs(plain().item() - ours().item()):.0e}, in bfloat16 by {abs(plain().item() - half().item()):.0e}"
    )


class _Count(TorchDispatchMode):
    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        views = (
            "view",
            "t.",
            "transpose",
            "expand",
            "slice",
            "select",
            "detach",
            "unbind",
            "split",
            "alias",
            "unsqueeze",
        )
        self.total += not any(f"aten.{name}" in str(func) for name in views)
        return func(*args, **(kwargs or {}))


def operations(work: Work) -> int:
    """Kernels that compute something, forward and backward."""
    with _Count() as count:
        work()
    return count.total


def nce(watch: Watch) -> None:
    bank = InstanceBank(IMAGES, 128, temperature=0.85, negatives=4096)
    features = functional.normalize(torch.randn(BATCH, 128), dim=1).requires_grad_()
    index = torch.randperm(IMAGES)[:BATCH]
    bank.loss(features, index)  # sets the normaliser

    def plain() -> torch.Tensor:
        drawn = torch.cat([index[:, None], torch.randint(IMAGES, (BATCH, 4096))], dim=1)
        negatives = bank.bank.index_select(0, drawn.view(-1)).view(BATCH, 4097, 128)
        similarities = torch.bmm(negatives, features[:, :, None])[:, :, 0]
        return nce_loss(similarities, 0.85, bank.normalizer, IMAGES)

    ours = ("float32", lambda: bank.loss(features, index).backward())
    watch.compare("NCE, m = 4096, N = 50,000", lambda: plain().backward(), ours)


# ---- views -------------------------------------------------------------------------------------------------------


def published_views() -> Augmentation:
    return Augmentation(crop=(0.2, 1.0), grayscale=0.2, jitter=(0.4,) * 4, second_view=0.95, flip=0.5)


def pil_views() -> list[Any]:
    transforms = torchvision().transforms
    return [
        transforms.Compose([
            transforms.RandomResizedCrop(32, scale=(0.2, 1.0)),
            transforms.RandomGrayscale(0.2),
            transforms.ColorJitter(*[strength] * 4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ])
        for strength in (0.4, 0.38)
    ]  # fmt: skip


def views(watch: Watch) -> None:
    images = random_images(4 * BATCH)
    arrays, transforms = images.permute(0, 2, 3, 1).contiguous().numpy(), pil_views()
    augment = published_views()
    mean, std = (255 * torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))

    def plain() -> list[torch.Tensor]:
        pictures = [Image.fromarray(array) for array in arrays]
        return [torch.stack([transform(picture) for picture in pictures]) for transform in transforms]

    def ours() -> None:
        for start in range(0, len(images), BATCH):
            rng = ViewRng.seeded(start, BATCH)
            for view in (0, 1):
                (augment(images[start : start + BATCH], view, rng) - mean) / std

    name = f"two views of {len(images)} images of 32 px"
    watch.compare(name, plain, (f"{BATCH} at once", ours))
    if importlib.util.find_spec("kornia"):
        watch.compare(name, kornia_views(images), ("beside kornia", ours))


def kornia_views(images: torch.Tensor) -> Work:
    from kornia import augmentation

    transforms = [
        augmentation.AugmentationSequential(
            augmentation.RandomResizedCrop((32, 32), scale=(0.2, 1.0)),
            augmentation.RandomGrayscale(p=0.2),
            augmentation.ColorJitter(*[strength] * 4, p=1.0),
            augmentation.RandomHorizontalFlip(),
            augmentation.Normalize(MEAN, STD),
        )
        for strength in (0.4, 0.38)
    ]

    def work() -> None:
        for part in images.split(BATCH):
            for transform in transforms:
                transform(part.float() / 255)

    return work


def random_images(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)


# ---- the whole step ----------------------------------------------------------------------------------------------


def step(watch: Watch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trainer = engine("concurl", Path(folder), "cpu", "preset=paper", f"trainer.batch={BATCH}")
    index, rng = torch.arange(BATCH), ViewRng.seeded(0, BATCH)
    pixels = trainer.images[index]
    method = METHODS.load("concurl")(build_backbone("resnet18_cifar"), samples=IMAGES, k=K)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, foreach=False)
    arrays, transforms = pixels.permute(0, 2, 3, 1).contiguous().numpy(), pil_views()
    maps, bank = method.transforms, method.bank

    def plain() -> None:
        pictures = [Image.fromarray(array) for array in arrays]
        batch = [torch.stack([transform(picture) for picture in pictures]) for transform in transforms]
        hidden = [method.backbone(view) for view in batch]
        features = method.heads["head"](hidden[0])
        drawn = torch.cat([index[:, None], torch.randint(IMAGES, (BATCH, 4096))], dim=1)
        gathered = bank.bank.index_select(0, drawn.view(-1)).view(BATCH, 4097, -1)
        similarities = torch.bmm(gathered, features[:, :, None])[:, :, 0]
        exemplar = nce_loss(similarities, 0.85, torch.tensor(float(IMAGES)), IMAGES)
        z1, z2 = (method.heads["cluster_head"](view) for view in hidden)
        prototypes = method.prototypes.detach()
        scores = [functional.normalize(z, dim=1) @ prototypes.t() for z in (z1, z2)]
        q1, q2 = (sinkhorn(similarities) for similarities in scores)
        optimizer.zero_grad()
        (exemplar + consensus_in_a_loop(z1, z2, prototypes, q1, q2, maps)).backward()
        optimizer.step()
        bank.update(features.detach(), index)

    def ours() -> None:
        trainer._step(index, pixels, rng)

    watch.compare("ConCURL step, ResNet-18, B = 128", plain, ("bfloat16", ours))


def inference(watch: Watch) -> None:
    network = build_backbone("resnet18_cifar").eval()
    quick = fast_copy(network)
    images = random_images(BATCH).float() / 255
    flat = images.contiguous(memory_format=torch.channels_last)

    def ours() -> torch.Tensor:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            return quick(flat)

    def plain() -> torch.Tensor:
        with torch.inference_mode():
            return network(images)

    watch.compare("ResNet-18 features of 128 images", plain, ("bfloat16, folded", ours))


# ---- every method, on a GPU --------------------------------------------------------------------------------------


def engine(method: str, folder: Path, device: str, *overrides: str) -> Trainer:
    """The trainer of a method on random images of CIFAR-10's size and number, in bfloat16."""
    path = folder / "random.npz"
    if not path.exists():
        np.savez(
            path,
            train_images=random_images(IMAGES).permute(0, 2, 3, 1).numpy(),
            test_images=random_images(2).permute(0, 2, 3, 1).numpy(),
        )
    given = ["data=npz", f"data.path='{path}'", f"device={device}", f"trainer.k={K}", "trainer.precision=bfloat16"]
    return Trainer(compose("train", [f"method={method}", *given, *overrides]))


def methods(device: torch.device, batch: int) -> None:
    """Images/s of each method's steps; TFLOP/s of its products and convolutions, beside those of a large product."""

    side = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    rate = 2 * side**3 / seconds(lambda: left @ right, 20, device)
    print(f"{device}, bfloat16 products of {side} x {side}: {rate / 1e12:.1f} TFLOP/s; B = {batch}")
    print(f"{'method':10}{'images/s':>12}{'views/s':>12}{'of the rate':>13}{'views':>9}{'the rest':>10}   ms")
    with tempfile.TemporaryDirectory() as folder:
        for name in METHODS.names():
            measured(engine(name, Path(folder), str(device), "preset=common", f"trainer.batch={batch}"), rate)


def measured(trainer: Trainer, rate: float) -> None:
    """One line about a method's steps."""
    batch, device, numbers = trainer.options.batch, trainer.device, range(trainer.method.views)
    index, rng = torch.arange(batch, device=device), ViewRng.seeded(0, batch, device)
    pixels = trainer.images[index]

    def step() -> None:
        trainer._step(index, pixels, rng)

    def augment() -> None:
        for view in numbers:
            trainer.augment(pixels, view, rng)

    with FlopCounterMode(display=False) as work:
        step()
    count = 30 if device.type == "cuda" else 1
    whole, augmenting = (seconds(part, count, device) for part in (step, augment))
    share = work.get_total_flops() / whole / rate
    print(
        f"{trainer.name:10}{batch / whole:12,.0f}{len(numbers) * batch / whole:12,.0f}{share:13.0%}"
        f"{1e3 * augmenting:9.1f}{1e3 * (whole - augmenting):10.1f}",
        flush=True,
    )


def seconds(work: Work, count: int, device: torch.device) -> float:
    """Wall seconds of one call, after one that warms up."""
    for repeat in range(count + 1):
        if repeat == 1:
            synchronize(device)
            start = time.perf_counter()
        work()
    synchronize(device)
    return (time.perf_counter() - start) / count


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
