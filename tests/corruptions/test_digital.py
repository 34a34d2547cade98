"""The digital corruptions' own parts: the codec, Pillow's box filter, the affine step of elastic_transform."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from shiftbench.corruptions import corrupt, warp
from shiftbench.corruptions.jpeg import jpeg


def pillow_jpeg(image: Tensor, quality: int) -> Tensor:
    pixels = image.permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels.squeeze())
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=quality)
    decoded = np.array(Image.open(file).convert(picture.mode))
    return torch.from_numpy(decoded.reshape(pixels.shape)).permute(2, 0, 1)


@pytest.mark.parametrize("quality", [1, 7, 10, 15, 18, 25, 40, 49, 50, 58, 65, 80, 95, 100])
def test_jpeg_is_pillows(images: Tensor, quality: int) -> None:
    assert torch.equal(jpeg(images, quality), torch.stack([pillow_jpeg(image, quality) for image in images]))


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 9, 16), (3, 16, 9), (3, 28, 28), (3, 33, 47), (1, 15, 21)], ids=str)
def test_jpeg_is_pillows_at_odd_sizes(photographs: Callable[..., Tensor], shape: tuple[int, int, int]) -> None:
    odd = photographs(3, *shape[1:])[:, : shape[0]].contiguous()
    assert torch.equal(jpeg(odd, 30), torch.stack([pillow_jpeg(image, 30) for image in odd]))


@pytest.mark.parametrize(
    ("table", "enlarge"), [("cifar", Image.Resampling.BOX), ("imagecorruptions", Image.Resampling.NEAREST)]
)
@pytest.mark.parametrize("size", [(32, 32), (28, 28), (64, 64), (33, 47), (8, 9)], ids=str)
def test_pixelate_is_pillows(
    photographs: Callable[..., Tensor], table: str, enlarge: Image.Resampling, size: tuple[int, int]
) -> None:
    height, width = size
    clean = photographs(3, height, width)
    for severity, scale in enumerate(
        {"cifar": (0.95, 0.9, 0.85, 0.75, 0.65), "imagecorruptions": (0.6, 0.5, 0.4, 0.3, 0.25)}[table], 1
    ):
        ours = corrupt(clean, "pixelate", severity, table=table)
        for image, result in zip(clean, ours, strict=True):
            picture = Image.fromarray(image.permute(1, 2, 0).numpy())
            small = picture.resize((int(width * scale), int(height * scale)), Image.Resampling.BOX)
            expected = np.asarray(small.resize((width, height), enlarge))
            np.testing.assert_array_equal(result.permute(1, 2, 0).numpy(), expected)


def test_the_affine_map_moves_three_points() -> None:
    jitter = torch.from_numpy(np.random.default_rng(0).uniform(-3, 3, (4, 3, 2)))
    maps = warp.inverse_affine(jitter, 32, 40)
    for moves, inverse in zip(jitter.numpy(), maps.numpy(), strict=True):
        source = np.float32([[30, 26], [30, 6], [10, 6]])  # the centre (20, 16) and a third of the shorter side
        forward = cv2.getAffineTransform(source, np.float32(source + moves))
        np.testing.assert_allclose(inverse, cv2.invertAffineTransform(forward), atol=1e-4)


def test_affine_resampling_is_opencvs(photographs: Callable[..., Tensor]) -> None:
    """Up to OpenCV's places in 1/32 pixel; at places far outside too, where the border reflects again and again."""
    clean = photographs(3)
    for reach in (2.0, 7.0):
        jitter = torch.from_numpy(np.random.default_rng(1).uniform(-reach, reach, (3, 3, 2)))
        maps = warp.inverse_affine(jitter, 32, 32)
        ours = warp.elastic(clean, maps, None).float()
        for image, inverse, mine in zip(clean, maps.numpy(), ours, strict=True):
            theirs = cv2.warpAffine(
                image.permute(1, 2, 0).numpy().astype(np.float32),
                inverse,
                (32, 32),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REFLECT_101,
            )
            difference = np.abs(theirs - mine.permute(1, 2, 0).numpy() - 0.5)
            assert difference.mean() < 1.5


@pytest.mark.parametrize("scale", [1e6, 1e12, float("inf"), float("nan")])
def test_a_degenerate_map_reads_inside_the_image(images: Tensor, scale: float) -> None:
    maps = torch.tensor([[scale, -scale, 0.0], [0.0, scale, 1.0]]).repeat(12, 1, 1)
    assert warp.elastic(images, maps, None).shape == images.shape


def test_no_displacement_is_the_image(images: Tensor) -> None:
    assert torch.equal(warp.elastic(images, None, torch.zeros(12, 2, 32, 32)), images)
    identity = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).repeat(12, 1, 1)
    assert torch.equal(warp.elastic(images, identity, None), images)


def test_the_field_mirrors_at_the_edge(images: Tensor) -> None:
    far = torch.zeros(12, 2, 32, 32)
    far[:, 0] = 32.0
    assert torch.equal(warp.elastic(images, None, far), images.flip(3))
    assert torch.equal(warp.elastic(images, None, 2 * far), images)


@pytest.mark.parametrize(("table", "affine"), [("cifar", True), ("imagecorruptions", False)])
def test_only_the_published_elastic_transform_has_an_affine_step(table: str, affine: bool) -> None:
    """An image without rows keeps its columns straight under an affine map without shear of them only by chance."""
    ramp = (torch.arange(64, dtype=torch.uint8) * 4).expand(8, 3, 64, 64).contiguous()
    moved = corrupt(ramp, "elastic_transform", 1, table=table).float() - ramp.float()
    smooth = moved[:, 0, 24:40, 24:40].mean((1, 2)).abs()
    assert (smooth.mean() > 2) == affine


def test_elastic_constants_scale_with_the_image() -> None:
    """The published constants are multiples of the side: the same share of the picture moves at any size."""
    displacement = {}
    for side in (64, 128):
        ramp = (torch.arange(side) * (256 // side)).to(torch.uint8).expand(200, 1, side, side).contiguous()
        third = slice(side // 3, -side // 3)
        moved = corrupt(ramp, "elastic_transform", 1, table="tiny_imagenet").float() - ramp.float()
        displacement[side] = moved[..., third, third].abs().mean().item()
    assert displacement[64] == pytest.approx(displacement[128], rel=0.15)


def test_contrast_keeps_the_mean(images: Tensor) -> None:
    for severity in (1, 5):
        result = corrupt(images, "contrast", severity).float()
        assert (result.mean((2, 3)) - images.float().mean((2, 3)) + 0.5).abs().max() < 0.55
