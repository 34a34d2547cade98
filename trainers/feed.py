"""From the training split to the batches of an epoch: which process gets which images, and how they reach the device."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from shiftbench.images import ImageFiles, Images, chunks, take

RESIDENT = 0.5  # share of a GPU's free memory that the images may take for good


def resident(images: Images, device: torch.device) -> Images:
    """The images in the memory of the device if they are decoded and fit; else as they are."""
    if isinstance(images, ImageFiles) or images.device == device:
        return images
    if device.type == "cuda" and images.nbytes > RESIDENT * torch.cuda.mem_get_info(device)[0]:
        return images
    return images.to(device)


def steps(images: int, batch: int, processes: int = 1, drop_last: bool = False) -> list[tuple[int, int]]:
    """The steps of an epoch: (position of the first image in the epoch's order, images of each process).

    All processes get equally many images, so that means over processes are means over images. Images of the last step
    that cannot be shared equally are left out of the epoch. So is a last step with fewer than two images per process,
    which BatchNorm cannot train on.
    """
    full, rest = divmod(images, batch)
    shares = [(step * batch, batch // processes) for step in range(full)]
    if rest // processes > 1 and not drop_last:
        shares.append((full * batch, rest // processes))
    return shares


def batches(
    images: Images, order: torch.Tensor, size: int, device: torch.device, workers: int | None = None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of images in a given order: (int64 (B,), uint8 (B, 3, H, W)), both on the device.

    Threads decode files two batches ahead of the batch in use.

    Args:
        images: N images, see :func:`resident`.
        order: int64 (M,), on the CPU.
        size: images per batch; the last may have fewer.
        device: where the batches go.
        workers: number of decoding threads; None = one per core.

    Raises:
        InputError: a file is no image, truncated or too large.
    """
    if not isinstance(images, ImageFiles) and images.device == device:
        for index in order.to(device).split(size):
            yield index, images[index]
        return
    parts: Iterator[tuple[int, torch.Tensor]]
    if isinstance(images, ImageFiles):
        parts = chunks(take(images, order.numpy()), size, workers)
    else:
        parts = ((start, images[order[start : start + size]]) for start in range(0, len(order), size))
    for start, pixels in parts:
        if device.type == "cuda":
            pixels = pixels.pin_memory()
        yield order[start : start + size].to(device), pixels.to(device, non_blocking=True)
