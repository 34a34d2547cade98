"""The weather's own parts: the plasma, the textures, the flakes, the drops."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import chisquare
from torch import Tensor

from shiftbench.corruptions import TABLES, corrupt, textures
from shiftbench.corruptions.droplets import droplets
from shiftbench.corruptions.plasma import plasma
from shiftbench.errors import InputError


def frost_file(name: str) -> np.ndarray:
    spec = importlib.util.find_spec("imagecorruptions")
    assert spec is not None
    assert spec.origin is not None
    return cv2.imread(str(Path(spec.origin).parent / "frost" / name))[..., ::-1]


@pytest.mark.parametrize(
    ("table", "scale", "interpolation"),
    [
        ("imagenet", 1.0, None),
        ("tiny_imagenet", 0.3, cv2.INTER_LINEAR),
        ("cifar", 0.2, cv2.INTER_LINEAR),
        ("imagecorruptions", 1.1, cv2.INTER_CUBIC),
    ],
)
def test_textures_are_opencvs(table: str, scale: float, interpolation: int | None) -> None:
    pixels, shapes, starts = textures.textures(TABLES[table].frost, 3, 32, 32)
    assert len(shapes) == 5  # the published code never draws the sixth
    for name, (height, width), start in zip(textures._NAMES, shapes.tolist(), starts.tolist(), strict=True):
        expected = frost_file(name)
        if interpolation == cv2.INTER_LINEAR:
            expected = cv2.resize(expected, (0, 0), fx=scale, fy=scale)
        elif interpolation == cv2.INTER_CUBIC:
            size = [int(np.ceil(side * scale)) for side in expected.shape[1::-1]]
            expected = cv2.resize(expected, size, interpolation=interpolation)
        assert expected.shape == (height, width, 3)
        ours = pixels[:, start : start + height * width].view(3, height, width).permute(1, 2, 0).numpy()
        assert np.abs(ours.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("table", TABLES)
def test_frost_on_images_larger_than_the_textures(table: str) -> None:
    black = torch.zeros(2, 3, 360, 700, dtype=torch.uint8)
    assert corrupt(black, "frost", 5, table=table).float().std() > 5


def test_frost_draws_each_texture_equally_often(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = [torch.full((3, 40, 50), value, dtype=torch.uint8) for value in (10, 20, 30, 40, 50)]
    monkeypatch.setattr(textures, "_originals", lambda: plain)
    textures.textures.cache_clear()
    black = torch.zeros(1000, 3, 8, 8, dtype=torch.uint8)
    drawn = corrupt(black, "frost", 1, table="imagenet")
    textures.textures.cache_clear()
    values, counts = drawn[:, 0, 0, 0].unique(return_counts=True)
    assert values.tolist() == [4, 8, 12, 16, 20]
    assert chisquare(counts).pvalue > 0.01


def test_missing_textures_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    textures._originals.cache_clear()
    with pytest.raises(InputError, match="pip install imagecorruptions"):
        textures._originals()


def test_plasma_is_a_torus_scaled_to_one() -> None:
    """Diamond-square by the book: every point is the mean of its four neighbours plus noise, before the scaling."""
    size, decay = 16, 1.7
    noise = np.random.default_rng(0).uniform(-1, 1, (1, size * size - 1)).astype(np.float32)
    height, used, step, reach = np.zeros((size, size)), 0, size, 100.0
    while step > 1:
        half, cells = step // 2, size // step
        for kind in range(3):
            for j in range(cells):
                for k in range(cells):
                    y = j * step + (half if kind != 1 else 0)
                    x = k * step + (half if kind != 2 else 0)
                    if kind == 0:
                        around = [
                            (y - half, x - half),
                            (y - half, x + half),
                            (y + half, x - half),
                            (y + half, x + half),
                        ]
                    else:
                        around = [(y - half, x), (y + half, x), (y, x - half), (y, x + half)]
                    mean = sum(height[v % size, u % size] for v, u in around) / 4
                    height[y, x] = mean + reach**2 * noise[0, used]
                    used += 1
        step, reach = half, reach / decay
    height -= height.min()
    ours = plasma(torch.from_numpy(noise), size, decay)[0].numpy()
    np.testing.assert_allclose(ours, height / height.max(), atol=1e-5)
    assert used == size * size - 1


def test_fog_keeps_the_maximum_and_black_images() -> None:
    black = torch.zeros(2, 3, 20, 20, dtype=torch.uint8)
    assert torch.equal(corrupt(black, "fog", 5), black)
    grey = torch.full((2, 3, 20, 20), 120, dtype=torch.uint8)
    assert corrupt(grey, "fog", 5).amax() <= 120


def test_flakes_fall_symmetrically() -> None:
    """On a black image snow is the layer plus itself turned by 180 degrees, and the same in every channel."""
    black = torch.zeros(3, 3, 32, 32, dtype=torch.uint8)
    snow = corrupt(black, "snow", 4, table="cifar")
    assert torch.equal(snow, snow.flip(2, 3))
    assert torch.equal(snow[:, 0], snow[:, 2])
    assert len(snow.unique()) > 10


def opencv_droplets(liquid: np.ndarray) -> np.ndarray:
    """The published steps, in OpenCV."""
    dist = 255 - cv2.Canny(liquid, 50, 150)
    dist = np.minimum(cv2.distanceTransform(dist, cv2.DIST_L2, 5), 20)
    dist = cv2.equalizeHist(cv2.blur(dist, (3, 3)).astype(np.uint8))
    dist = cv2.filter2D(dist, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    light = liquid * cv2.blur(dist, (3, 3)).astype(np.float32)
    return light / light.max()


@pytest.mark.parametrize("smoothing", [0.7, 1.0, 2.0, 4.0])
def test_droplets_are_opencvs(smoothing: float) -> None:
    rng = np.random.default_rng(int(10 * smoothing))
    liquid = gaussian_filter(rng.normal(0.65, 0.3, (6, 40, 33)), (0, smoothing, smoothing), mode="nearest")
    liquid = (np.where(liquid < 0.68, 0, liquid) * 255).clip(0, 255).astype(np.uint8)
    ours = droplets(torch.from_numpy(liquid)).numpy()
    for mine, layer in zip(ours, liquid, strict=True):
        np.testing.assert_allclose(mine, opencv_droplets(layer), atol=1e-6)


def test_no_drop_leaves_the_image(images: Tensor) -> None:
    assert torch.equal(droplets(torch.zeros(1, 16, 16, dtype=torch.uint8)), torch.zeros(1, 16, 16))
    small = images[:, :, :8, :8].repeat(20, 1, 1, 1)
    spattered = corrupt(small, "spatter", 1, table="imagecorruptions")
    unchanged = (spattered == small).flatten(1).all(1)
    assert 0 < unchanged.sum() < len(small)


def test_frost_reads_its_textures_without_the_package(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    code = """
import sys, torch
from shiftbench.corruptions import corrupt
corrupt(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), "frost", 1)
print(sorted({"imagecorruptions", "cv2", "skimage", "pandas", "sklearn", "torchvision"} & set(sys.modules)))
"""
    result = run_python(code)
    assert result.stdout.strip() == "[]", result.stderr
