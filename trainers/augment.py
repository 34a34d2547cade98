"""Random views of whole batches, on the device of the images, each image with its own random parameters.

Written here since torchvision's transforms give all images of a batch the same parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from shiftbench.errors import InputError
from shiftbench.trainers.ranges import above_zero, at_least, require, rising, within

Interval = tuple[float, float]

RATIO = (3 / 4, 4 / 3)  # aspect ratios of a crop
ATTEMPTS = 10  # to draw a crop that fits


@dataclass
class ViewRng:
    """The random numbers of the views of one step: each image has its own.

    Numbers are drawn for all images of the step, also for those of other processes. So the views of an image do not
    depend on how many processes share the work.

    Attributes:
        generator: draws the numbers, on the images' device.
        orders: draws the orders of operations, on the CPU, so that nothing waits for the device.
        count: number of images in the step, in all processes.
        rows: which of these images are in this process.
    """

    generator: torch.Generator
    orders: torch.Generator
    count: int
    rows: slice

    @classmethod
    def seeded(cls, seed: int, count: int, device: torch.device | str = "cpu") -> ViewRng:
        """The random numbers for ``count`` images, all in this process."""
        generator, orders = (torch.Generator(place).manual_seed(seed) for place in (device, "cpu"))
        return cls(generator, orders, count, slice(None))

    def uniform(self, number: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """Uniform numbers: float32 (number, B) for the B images of this process."""
        values = torch.empty(number, self.count, device=self.generator.device)
        return values.uniform_(low, high, generator=self.generator)[:, self.rows]

    def order(self, number: int) -> list[int]:
        """0..number-1 in a random order, the same for all images."""
        return torch.randperm(number, generator=self.orders).tolist()


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Crop, affine map, colour jitter, greyscale, blur, mirroring; each can be switched off.

    Crop, jitter, greyscale, blur and mirroring have the distributions of torchvision's RandomResizedCrop (v2,
    antialiased), ColorJitter, RandomGrayscale, GaussianBlur and RandomHorizontalFlip, with one exception: the four
    jitter operations come in one random order per batch rather than per image.

    An encoder that was trained with a corruption of the benchmark would be scored on what it was taught. Jitter moves
    brightness and contrast, and blur is one of the corruptions: published recipes of natural images have both, our
    own recipes leave them out. Nothing here adds noise, warps elastically, pixelates or compresses.

    Args:
        size: height and width of the views; None = those of the images.
        crop: range of the crop's share of the image area, aspect ratio within 3/4..4/3; None = no crop.
        zoom: range of the affine map's enlargement, drawn on a log scale.
        stretch: largest factor between the zooms of the two axes.
        degrees: rotation, up to this angle either way.
        shear: up to this angle in degrees either way.
        translate: up to this share of the image size, either way on both axes. What comes in from outside is black.
        jitter: strength of brightness, contrast, saturation and hue jitter: factors are drawn from 1 +-
            strength, the hue shift from +-strength turns.
        jitter_chance: probability that an image is jittered at all.
        second_view: jitter strengths of all views but the first, relative to the first's.
        grayscale: probability of losing all colour.
        grayscale_first: before the jitter, as ConCURL does it, or after it, as SimCLR does.
        blur: probability of a Gaussian blur.
        blur_kernel: its width in pixels, odd.
        blur_sigma: range of its standard deviation in pixels.
        flip: probability of mirroring.
        clean: the views, counted from 0, that are the images themselves, brought to ``size``.

    Raises:
        InputError: a value outside its range.
    """

    size: int | None = None
    crop: Interval | None = None
    zoom: Interval = (1.0, 1.0)
    stretch: float = 1.0
    degrees: float = 0.0
    shear: float = 0.0
    translate: float = 0.0
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    jitter_chance: float = 1.0
    second_view: float = 1.0
    grayscale: float = 0.0
    grayscale_first: bool = True
    blur: float = 0.0
    blur_kernel: int = 23
    blur_sigma: Interval = (0.1, 2.0)
    flip: float = 0.0
    clean: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        where = "trainer.augmentation."
        at_least(8, where, size=self.size)
        above_zero(where, crop=self.crop, zoom=self.zoom, blur_sigma=self.blur_sigma)
        at_least(1, where, stretch=self.stretch)
        within(0, 1, where, crop=self.crop, jitter=self.jitter, jitter_chance=self.jitter_chance)
        within(0, 1, where, second_view=self.second_view, grayscale=self.grayscale, blur=self.blur, flip=self.flip)
        at_least(3, where, blur_kernel=self.blur_kernel)
        at_least(0, where, clean=self.clean)
        rising(where, crop=self.crop, zoom=self.zoom, blur_sigma=self.blur_sigma)
        require(0 <= self.shear < 90, where + "shear", self.shear, "at least 0 and below 90 degrees")
        require(self.jitter[3] <= 0.5, where + "jitter", self.jitter, "at most 0.5 for hue, the last of them")
        require(self.blur_kernel % 2 == 1, where + "blur_kernel", self.blur_kernel, "odd")

    def __call__(self, images: torch.Tensor, view: int, rng: ViewRng) -> torch.Tensor:
        """Draw one view of each image.

        Args:
            images: uint8 (B, 3, H, W).
            view: 0 for the first view, 1 for the second, ...
            rng: the random numbers.

        Returns:
            float32 (B, 3, size, size), values 0..255.
        """
        if view in self.clean:
            return self.unchanged(images)
        pixels = images.float()
        height, width = images.shape[-2:]
        size = (self.size or height, self.size or width)
        if self.crop or self.flip or size != (height, width):
            boxes = crop_boxes(height, width, self.crop, rng) if self.crop else _whole(pixels)
            mirrored = rng.uniform(1)[0] < self.flip if self.flip else None
            pixels = resized_crop(pixels, boxes, size, mirrored)
        if self.zoom != (1, 1) or self.stretch > 1 or self.degrees or self.shear or self.translate:
            grid = functional.affine_grid(self._affine_maps(rng), list(pixels.shape), align_corners=False)
            pixels = functional.grid_sample(pixels, grid, align_corners=False)
        if self.grayscale and self.grayscale_first:
            pixels = self._decoloured(pixels, rng)
        if any(self.jitter):
            strengths = [strength * (self.second_view if view else 1) for strength in self.jitter]
            pixels = color_jitter(pixels, strengths, rng, self.jitter_chance)
        if self.grayscale and not self.grayscale_first:
            pixels = self._decoloured(pixels, rng)
        if self.blur:
            chosen, spread = rng.uniform(1)[0] < self.blur, rng.uniform(1, *self.blur_sigma)[0]
            pixels = gaussian_blur(pixels, torch.where(chosen, spread, 0), self.blur_kernel)
        return pixels

    def unchanged(self, images: torch.Tensor) -> torch.Tensor:
        """The images themselves, brought to ``size``: uint8 (B, 3, H, W) -> float32 (B, 3, size, size), 0..255."""
        pixels, size = images.float(), self.size
        if size is None or size == images.shape[-1]:
            return pixels
        return resized_crop(pixels, _whole(pixels), (size, size))

    def _decoloured(self, pixels: torch.Tensor, rng: ViewRng) -> torch.Tensor:
        keep = (rng.uniform(1)[0] >= self.grayscale).float()
        return torch.lerp(luma(pixels), pixels, keep.view(-1, 1, 1, 1))

    def _affine_maps(self, rng: ViewRng) -> torch.Tensor:
        """float32 (B, 2, 3): output positions to input positions, rotation @ shear @ scale and an offset."""
        angle, shear, zoom, stretch, across, down = rng.uniform(6, -1, 1)
        angle, tan = angle * math.radians(self.degrees), torch.tan(shear * math.radians(self.shear))
        low, high = (math.log(bound) for bound in self.zoom)
        zoom = torch.exp((low + high) / 2 + zoom * (high - low) / 2)
        stretch = torch.exp(stretch * math.log(self.stretch) / 2)
        cos, sin, x, y = angle.cos(), angle.sin(), 1 / (zoom * stretch), stretch / zoom
        rows = [cos * x, (cos * tan - sin) * y, 2 * self.translate * across]
        rows += [sin * x, (sin * tan + cos) * y, 2 * self.translate * down]
        return torch.stack(rows, dim=1).view(-1, 2, 3)


def crop_boxes(height: int, width: int, scale: Interval, rng: ViewRng, ratio: Interval = RATIO) -> torch.Tensor:
    """Crops of random area and aspect ratio, whole pixels, as torchvision's RandomResizedCrop draws them.

    Returns:
        float32 (B, 4): top, left, height, width. Where none of ten random crops fits, the largest central crop.
    """
    area = height * width * rng.uniform(ATTEMPTS, *scale)
    aspect = rng.uniform(ATTEMPTS, math.log(ratio[0]), math.log(ratio[1])).exp()
    tall, wide = (area / aspect).sqrt().round(), (area * aspect).sqrt().round()
    fits = (tall > 0) & (tall <= height) & (wide > 0) & (wide <= width)
    first, any_fits = fits.float().argmax(dim=0, keepdim=True), fits.any(dim=0)
    tall = torch.where(any_fits, tall.gather(0, first)[0], float(min(height, round(width / ratio[0]))))
    wide = torch.where(any_fits, wide.gather(0, first)[0], float(min(width, round(height * ratio[1]))))
    down, across = torch.where(any_fits, rng.uniform(2), 0.5)
    top, left = (down * (height - tall + 1)).floor(), (across * (width - wide + 1)).floor()
    return torch.stack([top.minimum(height - tall), left.minimum(width - wide), tall, wide], dim=1)


def _whole(images: torch.Tensor) -> torch.Tensor:
    """The boxes that hold all of each image."""
    boxes = torch.zeros(len(images), 4, device=images.device)
    boxes[:, 2], boxes[:, 3] = images.shape[-2:]
    return boxes


def resized_crop(
    images: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int], mirrored: torch.Tensor | None = None
) -> torch.Tensor:
    """Cut one box out of each image and bring it to a size, bilinearly and antialiased.

    Each axis is a small matrix per image, so that the whole batch takes two products. Mirroring reverses one of them.

    Args:
        images: float (B, C, H, W).
        boxes: float (B, 4), top, left, height, width.
        size: height and width of what is returned.
        mirrored: bool (B,), which images to mirror; None = none.

    Returns:
        float (B, C, *size).
    """
    count, channels, height, width = images.shape
    top, left, tall, wide = boxes.unbind(dim=1)
    rows, columns = _bilinear(top, tall, height, size[0]), _bilinear(left, wide, width, size[1], mirrored)
    narrow = torch.bmm(images.reshape(count, channels * height, width), columns.transpose(1, 2))
    rows = rows[:, None].expand(-1, channels, -1, -1).reshape(count * channels, size[0], height)
    return torch.bmm(rows, narrow.view(count * channels, height, size[1])).view(count, channels, *size)


def _bilinear(
    start: torch.Tensor, length: torch.Tensor, source: int, size: int, mirrored: torch.Tensor | None = None
) -> torch.Tensor:
    """float (B, size, source): the weights of the source's pixels in each of the target's, rows sum to 1.

    The weights are a triangle, as wide as two pixels of the coarser grid. What lies outside the box has weight 0.
    """
    scale = (length / size)[:, None, None]
    centres = start[:, None, None] + scale * (torch.arange(size, device=start.device)[:, None] + 0.5)
    if mirrored is not None:
        centres = torch.where(mirrored[:, None, None], centres.flip(1), centres)
    pixels = torch.arange(source, device=start.device) + 0.5
    weights = (1 - (pixels - centres).abs() / scale.clamp(min=1)).clamp(min=0)
    first, end = start[:, None], (start + length)[:, None]
    weights = weights * ((pixels > first) & (pixels < end))[:, None]
    return weights / weights.sum(dim=2, keepdim=True)


def color_jitter(images: torch.Tensor, strengths: Sequence[float], rng: ViewRng, chance: float = 1.0) -> torch.Tensor:
    """Jitter brightness, contrast, saturation and hue, each image by its own factors, in one order per batch.

    Args:
        images: float (B, 3, H, W), values 0..255.
        strengths: of the four; factors come from 1 +- strength, the hue shift from +-strength turns.
        rng: the random numbers.
        chance: probability that an image is jittered.

    Returns:
        float (B, 3, H, W), values 0..255.
    """
    shifts = rng.uniform(4, -1, 1)
    if chance < 1:
        shifts = shifts * (rng.uniform(1) < chance)
    for operation in rng.order(4):
        if not strengths[operation]:
            continue
        shift = (shifts[operation] * strengths[operation]).view(-1, 1, 1, 1)
        if operation == 3:
            images = shift_hue(images, shift)
        elif operation == 0:
            images = (images * (1 + shift)).clamp_(0, 255)
        else:
            grey = luma(images)
            target = grey if operation == 2 else grey.mean(dim=(2, 3), keepdim=True)
            images = torch.lerp(target, images, 1 + shift).clamp_(0, 255)
    return images


def luma(images: torch.Tensor) -> torch.Tensor:
    """ITU-R 601 grey of RGB images: (B, 3, H, W) -> (B, 1, H, W)."""
    red, green, blue = images.split(1, dim=1)
    return (0.2989 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def shift_hue(images: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Turn the hue in HSV, keeping saturation and value.

    A channel of an HSV colour is value - chroma * clamp(2 - 6 |t|, 0, 1), where t is how many turns lie between the
    hue and the channel's opposite colour, -1/2..1/2 (Smith 1978 in its piecewise-linear form): no case distinction
    per pixel.

    Args:
        images: float (B, 3, H, W), not negative, any scale.
        turns: float, broadcast against (B, 1, H, W); 1 is a whole turn.
    """
    red, green, blue = images.unbind(dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    sixths = torch.lerp(
        green - blue,
        torch.lerp(blue - red + 2 * chroma, red - green + 4 * chroma, _differ(value, green)),
        _differ(value, red),
    )
    hue = sixths.div_((6 * chroma).clamp_(min=1e-12))[:, None] + turns
    opposite = (torch.arange(3, 9, 2, device=images.device) % 6 / 6).view(3, 1, 1)  # 3, 5 and 1 sixths
    distance = hue - opposite
    distance.sub_(distance.round()).abs_().mul_(-6).add_(2).clamp_(0, 1)
    return value[:, None] - chroma[:, None] * distance


def _differ(larger: torch.Tensor, smaller: torch.Tensor) -> torch.Tensor:
    """0 where equal, else 1; on a CPU a fraction of what comparing and torch.where take."""
    return (larger - smaller).mul_(1e30).clamp_(max=1)


def gaussian_blur(images: torch.Tensor, sigma: torch.Tensor, kernel: int) -> torch.Tensor:
    """Blur each image by its own Gaussian, cut to ``kernel`` pixels, the image mirrored at its border.

    Each axis is a small matrix per image, as in :func:`resized_crop`.

    Args:
        images: float (B, C, H, W).
        sigma: float (B,), standard deviations in pixels; 0 leaves an image as it is.
        kernel: odd.

    Returns:
        float (B, C, H, W).

    Raises:
        InputError: the images are too small for the kernel.
    """
    count, channels, height, width = images.shape
    if kernel // 2 >= min(height, width):
        raise InputError(
            f"trainer.augmentation.blur_kernel={kernel} is too wide for images of {height}x{width} pixels: at most "
            f"{2 * min(height, width) - 1}."
        )
    offsets = torch.arange(-(kernel // 2), kernel // 2 + 1, device=images.device)
    taps = torch.exp(-(offsets**2) / (2 * sigma.clamp(min=1e-3)[:, None] ** 2))
    taps = taps / taps.sum(dim=1, keepdim=True)
    columns = _convolution(taps, offsets, width)
    rows = columns if height == width else _convolution(taps, offsets, height)
    blurred = torch.bmm(images.reshape(count, channels * height, width), columns.transpose(1, 2))
    rows = rows[:, None].expand(-1, channels, -1, -1).reshape(count * channels, height, height)
    return torch.bmm(rows, blurred.view(count * channels, height, width)).view_as(images)


def _convolution(taps: torch.Tensor, offsets: torch.Tensor, size: int) -> torch.Tensor:
    """float (B, size, size): convolution with taps (B, kernel) on a line that is mirrored at its ends."""
    places = (torch.arange(size, device=taps.device)[:, None] + offsets).abs()
    places = (size - 1) - ((size - 1) - places).abs()
    matrix = taps.new_zeros(len(taps), size, size)
    return matrix.scatter_add_(2, places.expand(len(taps), -1, -1), taps[:, None].expand(-1, size, -1))
