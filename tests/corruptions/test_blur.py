"""The blurs' own parts: kernels, the scan of glass blur, rays, the zoom matrix."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from shiftbench.corruptions import TABLES, blur, corrupt
from shiftbench.corruptions.motion import motion
from shiftbench.corruptions.severity import CONSTANTS

DISKS = sorted({row for rows in CONSTANTS["defocus_blur"].values() for row in rows})


@pytest.mark.parametrize(("radius", "alias_blur"), DISKS)
def test_disk_is_the_published_one(radius: float, alias_blur: float) -> None:
    """The published recipe: a disk on a grid, blurred by OpenCV."""
    half, size = (8, 3) if radius <= 8 else (radius, 5)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.float32)
    disk = cv2.GaussianBlur(disk / disk.sum(), (size, size), sigmaX=alias_blur)
    quarter = blur.disk_weights(radius, alias_blur)
    reach = len(quarter) - 1
    expected = disk[half : half + reach + 1, half : half + reach + 1]
    np.testing.assert_allclose(quarter / 2**22, expected, atol=2e-6)
    assert disk[half, half + reach + 1 :].max(initial=0) < 2**-23
    whole = 4 * quarter[1:, 1:].sum() + 4 * quarter[0, 1:].sum() + quarter[0, 0]
    assert (whole >= 2**22) == (disk.sum(dtype=float) >= 1)


@pytest.mark.parametrize("delta", [1, 2, 4])
def test_glass_scan_copies_in_the_published_order(delta: int) -> None:
    rng = np.random.default_rng(delta)
    values = rng.integers(0, 256, (2, 3, 14, 17), dtype=np.uint8)
    moves = rng.integers(0, 2 * delta, (2, 3, 14 - 2 * delta, 17 - 2 * delta, 2), dtype=np.uint8)
    expected = values.transpose(0, 2, 3, 1).copy()
    for image, repetitions in zip(expected, moves.astype(int) - delta, strict=True):
        for steps in repetitions:
            for h in range(14 - delta, delta, -1):
                for w in range(17 - delta, delta, -1):
                    dx, dy = steps[14 - delta - h, 17 - delta - w]
                    image[h, w], image[h + dy, w + dx] = image[h + dy, w + dx], image[h, w]
    scanned = values.copy()
    blur._displace(scanned, moves, delta)
    np.testing.assert_array_equal(scanned, expected.transpose(0, 3, 1, 2))
    followed = blur._displaced(torch.from_numpy(values), torch.from_numpy(moves), delta)
    np.testing.assert_array_equal(followed.numpy(), expected.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("table", ["cifar", "imagecorruptions"])
@pytest.mark.parametrize("angle", [-135.0, -90.0, -44.0, 0.0, 45.0])
def test_motion_is_a_weighted_sum_along_a_ray(table: str, angle: float) -> None:
    x = np.random.default_rng(0).random((11, 14)).astype(np.float32)
    radius, sigma = 7, 3.0
    weights = np.exp(-0.5 * (np.arange(2 * radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    expected = np.zeros((11, 14))
    for i, weight in enumerate(weights):
        dy = int(np.ceil(i * np.sin(np.deg2rad(angle)) - 0.5))
        dx = int(np.ceil(i * np.cos(np.deg2rad(angle)) - 0.5))
        if table == "imagecorruptions" and (abs(dy) >= 11 or abs(dx) >= 14):
            break
        rows, columns = (np.arange(11) + dy).clip(0, 10), (np.arange(14) + dx).clip(0, 13)
        expected += weight * x[np.ix_(rows, columns)]
    ours = motion(torch.from_numpy(x)[None, None], radius, sigma, torch.tensor([angle]), TABLES[table])
    np.testing.assert_allclose(ours[0, 0].numpy(), expected, atol=1e-6)


def test_published_motion_blur_keeps_a_plain_image_and_the_package_darkens_it() -> None:
    """The ray of severity 5 is longer than a 32 pixel image; only ImageMagick repeats the edge to its end."""
    plain = torch.full((4, 3, 32, 32), 200, dtype=torch.uint8)
    assert torch.equal(corrupt(plain, "motion_blur", 5, table="imagenet"), plain)
    assert corrupt(plain, "motion_blur", 5, table="imagecorruptions").max() < 200


def test_published_motion_blur_is_rounded() -> None:
    edge = torch.zeros(8, 1, 16, 16, dtype=torch.uint8)
    edge[..., 8:] = 255
    rounded = corrupt(edge, "motion_blur", 3, table="cifar").float()
    angle = [float(a) for a in blur.Draws(0, "motion_blur", 3, torch.arange(8)).uniform((), -45, 45, 0)]
    exact = motion(edge.float(), 6, 2, torch.tensor(angle), TABLES["cifar"])
    assert (rounded - exact).abs().max() <= 0.501


@pytest.mark.parametrize("name", ["zoom_blur", "defocus_blur", "gaussian_blur"])
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("value", [0, 1, 77, 255])
def test_a_plain_image_stays_plain(name: str, table: str, value: int) -> None:
    plain = torch.full((1, 3, 24, 40), value, dtype=torch.uint8)
    for severity in (1, 4):
        result = corrupt(plain, name, severity, table=table)
        assert len(result.unique()) == 1
        if name != "defocus_blur":
            assert torch.equal(result, plain)


@pytest.mark.parametrize(
    ("table", "row"), [("imagenet", (1.31, 0.03)), ("imagecorruptions", (1.31, 0.03)), ("cifar", (1.26, 0.01))]
)
def test_zoom_blur_is_the_mean_of_scipys_zooms(
    photographs: Callable[..., Tensor], table: str, row: tuple[float, float]
) -> None:
    """Trimmed on both sides in the published sets, on the right and below in the package."""
    clean = photographs(2, 40, 52)
    x = clean.numpy().astype(float)
    total = x.copy()
    factors = np.arange(1, *row)
    for factor in factors:
        h, w = int(np.ceil(40 / factor)), int(np.ceil(52 / factor))
        top, left = (40 - h) // 2, (52 - w) // 2
        layer = ndimage.zoom(x[..., top : top + h, left : left + w], (1, 1, factor, factor), order=1)
        y, z = (0, 0) if table == "imagecorruptions" else ((layer.shape[2] - 40) // 2, (layer.shape[3] - 52) // 2)
        total += layer[..., y : y + 40, z : z + 52]
    expected = total / (len(factors) + 1)
    ours = corrupt(clean, "zoom_blur", 5, table=table).numpy()
    assert np.abs(ours + 0.5 - expected).max() < 0.51


def test_zoom_weights_sum_to_one() -> None:
    begin, source, weights = blur._zoom_weights(32, 20, 1.31, 0.03, "corner")
    assert (np.add.reduceat(weights, begin[:-1]) == 2**22).all()
    assert begin[-1] == len(source) == len(weights)
    assert source.max() < 640
