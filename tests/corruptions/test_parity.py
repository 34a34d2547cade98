"""The table ``imagecorruptions`` against the package of that name.

Fast tests take a few photographs, the slow ones CIFAR-10's test images. Random corruptions are fed with the package's
own draws, and compared in the mean as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from torch import Tensor

from shiftbench.corruptions import SEVERITIES, TABLES, corrupt
from shiftbench.corruptions.sampling import Draws
from shiftbench.corruptions.severity import constants
from shiftbench.corruptions.textures import textures
from shiftbench.registry import CORRUPTIONS

TABLE = TABLES["imagecorruptions"]
EXACT = ["brightness", "saturate", "pixelate", "jpeg_compression"]
CLOSE = ["defocus_blur", "zoom_blur", "contrast", "gaussian_blur"]
INJECTED = ["glass_blur", "motion_blur", "snow", "frost", "fog", "elastic_transform", "spatter"]
RANDOM = ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", *INJECTED]


def from_package(
    package: ModuleType, images: Tensor, name: str, severity: int, seeds: range | None = None
) -> np.ndarray:
    """The package's results, uint8 (N, 3, H, W), with NumPy seeded anew for every image if ``seeds`` are given."""
    results = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spatter divides by zero
        for i, image in enumerate(images.permute(0, 2, 3, 1).contiguous().numpy()):
            if seeds is not None:
                np.random.seed(seeds[i])  # noqa: NPY002 - the generator that the package draws from
            results.append(package.corrupt(image, severity=severity, corruption_name=name))
    return np.stack(results).transpose(0, 3, 1, 2)


def its_draws(name: str, row: tuple[float, ...], height: int, width: int, seed: int) -> dict[str, np.ndarray]:
    """What the package draws for one image after NumPy was seeded, under the keys of ``Recorded``."""
    legacy = np.random.RandomState(seed)
    if name == "motion_blur":
        return {"u0": legacy.random_sample(1)}
    if name == "fog":
        size = 1 << (max(height, width) - 1).bit_length()
        return {"u0": legacy.random_sample(size * size - 1)}
    if name == "elastic_transform":
        return {"u1": legacy.random_sample((2, height, width))}
    if name in ("snow", "spatter"):
        return {"n0": legacy.normal(size=(height, width)), "u1": legacy.random_sample(1)}
    if name == "frost":
        which = legacy.randint(5)
        h, w = textures(TABLE.frost, 3, height, width)[1][which].tolist()
        top, left = legacy.randint(0, h - height), legacy.randint(0, w - width)
        return {"u0": np.array([(which + 0.5) / 5, (top + 0.5) / (h - height), (left + 0.5) / (w - width)])}
    delta, repetitions = int(row[1]), int(row[2])
    count = repetitions * (height - 2 * delta) * (width - 2 * delta)
    return {"i0": np.stack([legacy.randint(-delta, delta, size=2) for _ in range(count)]) + delta}


def injected_difference(
    package: ModuleType, recorded: Callable[..., Draws], images: Tensor, name: str, severity: int
) -> np.ndarray:
    """Absolute difference to the package, (n, 3, H, W), both with the package's draws, where it does not fail."""
    row = constants(name, severity, TABLE.name)
    seeds = range(len(images))
    draws = [its_draws(name, row, *images.shape[2:], seed) for seed in seeds]
    stacked = {key: np.stack([draw[key] for draw in draws]) for key in draws[0]}
    ours = CORRUPTIONS.load(name)(images, row, TABLE, recorded(**stacked)).numpy()
    theirs = from_package(package, images, name, severity, seeds)
    return np.abs(ours.astype(int) - theirs)[not_black(theirs)]


def not_black(theirs: np.ndarray) -> np.ndarray:
    """Which images are not what the package makes of the NaN where spatter divides by zero; all, elsewhere."""
    return theirs.any((1, 2, 3))


def levels_differ(package: ModuleType, images: Tensor, name: str, severity: int) -> np.ndarray:
    ours = corrupt(images, name, severity, table=TABLE.name).numpy()
    return np.abs(ours.astype(int) - from_package(package, images, name, severity))


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", EXACT)
def test_bit_exact(reference: ModuleType, images: Tensor, name: str, severity: int) -> None:
    assert levels_differ(reference, images, name, severity).max() == 0


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", CLOSE)
def test_within_a_level(reference: ModuleType, images: Tensor, name: str, severity: int) -> None:
    """The share leaves out the plain image, whose values are all whole in exact arithmetic."""
    difference = levels_differ(reference, images, name, severity)
    assert difference.max() <= 1
    assert (difference[:-1] > 0).mean() < 0.003


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("name", INJECTED)
def test_with_the_packages_draws(
    reference: ModuleType, recorded: Callable[..., Draws], images: Tensor, name: str, severity: int
) -> None:
    some = images[:4]
    difference = injected_difference(reference, recorded, some, name, severity)
    assert difference.max() <= 1
    assert (difference > 0).mean() < (0 if name == "frost" else 0.004) + 1e-9


@pytest.mark.parametrize(
    "name", ["motion_blur", "snow", "frost", "fog", "elastic_transform", "zoom_blur", "defocus_blur"]
)
def test_larger_and_not_square(
    reference: ModuleType, recorded: Callable[..., Draws], photographs: Callable[..., Tensor], name: str
) -> None:
    """Sides that are not powers of two, where the zoomed layers are larger than the image."""
    some = photographs(1, 70, 91)
    if name in RANDOM:
        difference = injected_difference(reference, recorded, some, name, 4)
    else:
        difference = levels_differ(reference, some, name, 4)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.004


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", EXACT + CLOSE)
def test_deterministic_on_cifar(reference: ModuleType, cifar_test: Tensor, name: str, severity: int) -> None:
    difference = levels_differ(reference, cifar_test[:500], name, severity)
    assert difference.max() <= (0 if name in EXACT else 1)
    assert (difference > 0).mean() < 0.003


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", INJECTED)
def test_injected_on_cifar(
    reference: ModuleType, recorded: Callable[..., Draws], cifar_test: Tensor, name: str, severity: int
) -> None:
    some = cifar_test[: 60 if name == "glass_blur" else 200]
    difference = injected_difference(reference, recorded, some, name, severity)
    assert len(difference) > 0.9 * len(some)
    if name == "spatter":  # a value on the threshold's very edge may be a drop in one precision and none in the other
        assert (difference.max((1, 2, 3)) > 1).sum() <= 2
    else:
        assert difference.max() <= 1
    assert (difference > 0).mean() < 0.004


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", RANDOM)
def test_mean_squared_error_on_cifar(reference: ModuleType, cifar_test: Tensor, name: str, severity: int) -> None:
    """The ratio of the mean squared errors over the same images is 1 within 3 standard errors.

    The mean of the images' ratios would be above 1 for two equal but random errors; the ratio of the means is not.
    """
    clean = cifar_test[:500]
    seeds = range(1000, 1500)
    theirs = from_package(reference, clean, name, severity, seeds)
    ours = corrupt(clean, name, severity, table=TABLE.name, seed=7).numpy()
    a, b = (((x.astype(float) - clean.numpy()) ** 2).mean((1, 2, 3)) for x in (theirs, ours))
    a, b = a[not_black(theirs)], b[not_black(theirs)]
    ratio = b.mean() / a.mean()
    error = (b - ratio * a).std(ddof=1) / a.mean() / len(a) ** 0.5
    assert abs(ratio - 1) < 3 * error
    assert error < 0.1


def test_every_corruption_of_the_package_is_compared(reference: ModuleType) -> None:
    assert sorted(EXACT + CLOSE + RANDOM) == sorted(reference.get_corruption_names("all"))
