"""Random views of whole batches, on the device the images are on, with parameters of their own for every image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from shiftbench.errors import InputError

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Crop, affine map, greyscale, colour jitter, mirroring, in this order; each can be switched off.

    Crop, greyscale, jitter and mirroring have the distributions of torchvision's RandomResizedCrop,
    RandomGrayscale, ColorJitter and RandomHorizontalFlip, with one exception: the four jitter operations come
    in one random order per batch rather than per image.

    Nothing here adds noise, blurs, warps elastically, pixelates or compresses: an encoder trained on a
    benchmark corruption would be scored on what it was taught. Jitter does move brightness and contrast; it
    belongs to the published recipes of natural images, and a recipe of ours leaves it out.

    Args:
        crop: range of the crop's share of the image area, aspect ratio within 3/4..4/3; None = no crop.
        zoom: range of the affine map's enlargement, drawn on a log scale.
        stretch: the two axes are zoomed apart by up to this factor.
        degrees: rotation, up to this angle either way.
        shear: up to this angle in degrees either way.
        translate: up to this share of the image size, either way and axis. What comes in from outside is
            black.
        grayscale: probability of losing all colour.
        jitter: strength of brightness, contrast, saturation and hue jitter: factors are drawn from 1 +-
            strength, the hue shift from +-strength turns.
        second_view: the second view's jitter strengths relative to the first's.
        flip: probability of mirroring.

    Raises:
        InputError: a value outside its range.
    """

    crop: Range | None = None
    zoom: Range = (1.0, 1.0)
    stretch: float = 1.0
    degrees: float = 0.0
    shear: float = 0.0
    translate: float = 0.0
    grayscale: float = 0.0
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    second_view: float = 1.0
    flip: float = 0.0

    def __post_init__(self) -> None:
        ranges = {
            "crop must rise within 0..1": self.crop is None or 0 < self.crop[0] <= self.crop[1] <= 1,
            "zoom must rise above 0": 0 < self.zoom[0] <= self.zoom[1],
            "stretch must be at least 1": self.stretch >= 1,
            "shear must be within 0..89 degrees": 0 <= self.shear < 90,
            "jitter must be within 0..1, and 0..0.5 for hue": all(0 <= s <= 1 for s in self.jitter)
            and self.jitter[3] <= 0.5,
            "second_view must be within 0..1": 0 <= self.second_view <= 1,
            "grayscale and flip must be within 0..1": all(0 <= p <= 1 for p in (self.grayscale, self.flip)),
        }
        for rule, kept in ranges.items():
            if not kept:
                raise InputError(f"trainer.augmentation: {rule}, got {self}.")

    def __call__(self, images: torch.Tensor, view: int, generator: torch.Generator) -> torch.Tensor:
        """Draw one view of each image.

        Args:
            images: uint8 (B, 3, H, W).
            view: 0 for the first view, 1 for the second.
            generator: where all randomness comes from; on the images' device.

        Returns:
            float32 (B, 3, H, W), values 0..255.
        """
        pixels = images.float()
        if self.crop:
            pixels = resized_crop(pixels, crop_boxes(pixels, self.crop, (3 / 4, 4 / 3), generator))
        if self.zoom != (1, 1) or self.stretch > 1 or self.degrees or self.shear or self.translate:
            maps = self._affine_maps(pixels, generator)
            grid = functional.affine_grid(maps, list(pixels.shape), align_corners=False)
            pixels = functional.grid_sample(pixels, grid, align_corners=False)
        if self.grayscale:
            pixels = torch.where(_chance(self.grayscale, pixels, generator), luma(pixels), pixels)
        if any(self.jitter):
            strengths = [strength * (self.second_view if view else 1) for strength in self.jitter]
            pixels = color_jitter(pixels / 255, strengths, generator) * 255
        if self.flip:
            pixels = torch.where(_chance(self.flip, pixels, generator), pixels.flip(3), pixels)
        return pixels

    def _affine_maps(self, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """float32 (B, 2, 3): output positions to input positions, rotation @ shear @ scale and an offset."""
        angle, shear, zoom, stretch, across, down = _uniform((6, len(like)), -1, 1, like, generator)
        angle, tan = angle * math.radians(self.degrees), torch.tan(shear * math.radians(self.shear))
        low, high = (math.log(bound) for bound in self.zoom)
        zoom = torch.exp((low + high) / 2 + zoom * (high - low) / 2)
        stretch = torch.exp(stretch * math.log(self.stretch) / 2)
        cos, sin, x, y = angle.cos(), angle.sin(), 1 / (zoom * stretch), stretch / zoom
        rows = [cos * x, (cos * tan - sin) * y, 2 * self.translate * across]
        rows += [sin * x, (sin * tan + cos) * y, 2 * self.translate * down]
        return torch.stack(rows, dim=1).view(-1, 2, 3)


def crop_boxes(images: torch.Tensor, scale: Range, ratio: Range, generator: torch.Generator) -> torch.Tensor:
    """Crops of random area and aspect ratio, whole pixels, as torchvision's RandomResizedCrop draws them.

    Returns:
        float32 (B, 4): top, left, height, width. Where ten draws find no crop that fits, the largest central
        one.
    """
    count, _, height, width = images.shape
    area = height * width * _uniform((count, 10), *scale, images, generator)
    aspect = _uniform((count, 10), math.log(ratio[0]), math.log(ratio[1]), images, generator).exp()
    tall, wide = (area / aspect).sqrt().round(), (area * aspect).sqrt().round()
    fits = (tall > 0) & (tall <= height) & (wide > 0) & (wide <= width)
    first = fits.float().argmax(dim=1, keepdim=True)
    fallback_tall = torch.tensor(min(height, round(width / ratio[0])), device=images.device, dtype=torch.float32)
    fallback_wide = torch.tensor(min(width, round(height * ratio[1])), device=images.device, dtype=torch.float32)
    found = fits.any(dim=1)
    tall = torch.where(found, tall.gather(1, first)[:, 0], fallback_tall)
    wide = torch.where(found, wide.gather(1, first)[:, 0], fallback_wide)
    down, across = _uniform((2, count), 0, 1, images, generator)
    down, across = torch.where(found, down, 0.5), torch.where(found, across, 0.5)
    top, left = (down * (height - tall + 1)).floor(), (across * (width - wide + 1)).floor()
    return torch.stack([top.clamp(max=height - tall), left.clamp(max=width - wide), tall, wide], dim=1)


def resized_crop(images: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Cut one box out of each image and enlarge it bilinearly to the image's size.

    Both axes are small matrices per image, so that the batch is two products. A box is never larger than the
    image, so nothing is reduced and no antialiasing is called for.

    Args:
        images: float (B, C, H, W).
        boxes: float (B, 4), top, left, height, width.

    Returns:
        float (B, C, H, W).
    """
    height, width = images.shape[-2:]
    top, left, tall, wide = boxes.unbind(dim=1)
    rows, columns = _bilinear(top, tall, height), _bilinear(left, wide, width)
    return rows[:, None] @ images @ columns.transpose(1, 2)[:, None]


def _bilinear(start: torch.Tensor, length: torch.Tensor, size: int) -> torch.Tensor:
    pixels = torch.arange(size, device=start.device, dtype=start.dtype)
    inside = (pixels + 0.5) * (length / size)[:, None] - 0.5
    source = start[:, None] + inside.clamp(min=0).minimum(length[:, None] - 1)
    return (1 - (source[:, :, None] - pixels).abs()).clamp(min=0)  # (B, size, size)


def color_jitter(images: torch.Tensor, strengths: Sequence[float], generator: torch.Generator) -> torch.Tensor:
    """Jitter brightness, contrast, saturation and hue, each image by its own factors, in one order per batch.

    Args:
        images: float (B, 3, H, W), values 0..1.
        strengths: of the four; factors come from 1 +- strength, the hue shift from +-strength turns.
        generator: where factors and order come from.

    Returns:
        float (B, 3, H, W), values 0..1.
    """
    shifts = _uniform((4, len(images), 1, 1, 1), -1, 1, images, generator)
    order = torch.randperm(4, generator=generator, device=images.device)
    for operation in order.tolist():
        shift = shifts[operation] * strengths[operation]
        factor = 1 + shift
        if operation == 0:
            images = (images * factor).clamp(0, 1)
        elif operation == 1:
            mean = luma(images).mean(dim=(1, 2, 3), keepdim=True)
            images = torch.lerp(mean, images, factor).clamp(0, 1)
        elif operation == 2:
            images = torch.lerp(luma(images), images, factor).clamp(0, 1)
        else:
            images = shift_hue(images, shift)
    return images


def luma(images: torch.Tensor) -> torch.Tensor:
    """ITU-R 601 grey of RGB images: (B, 3, H, W) -> (B, 1, H, W)."""
    weights = torch.tensor([0.2989, 0.587, 0.114], device=images.device, dtype=images.dtype)
    return (images * weights.view(3, 1, 1)).sum(dim=1, keepdim=True)


def shift_hue(images: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Turn the hue in HSV, keeping saturation and value.

    A channel of an HSV colour is value - chroma * max(0, min(k, 4 - k, 1)), k = (n + 6 hue) mod 6 and n = 5,
    3, 1 for red, green, blue (Smith 1978 in its piecewise-linear form): no case distinction per pixel.

    Args:
        images: float (B, 3, H, W), values 0..1.
        turns: float, broadcast against (B, 1, H, W); 1 is a whole turn.
    """
    red, green, blue = images.unbind(dim=1)
    value, chroma = images.amax(dim=1), images.amax(dim=1) - images.amin(dim=1)
    safe = chroma.clamp_min(1e-12)
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    offsets = torch.tensor([5.0, 3.0, 1.0], device=images.device, dtype=images.dtype).view(3, 1, 1)
    k = (offsets + hue[:, None] + 6 * turns) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)


def _chance(probability: float, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return _uniform((len(like), 1, 1, 1), 0, 1, like, generator) < probability


def _uniform(
    shape: tuple[int, ...], low: float, high: float, like: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    return torch.empty(shape, device=like.device).uniform_(low, high, generator=generator)
