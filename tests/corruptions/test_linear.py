"""The banded maps equal scipy's and OpenCV's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from shiftbench.corruptions.linear import gaussian, resize, separable, zoom

X = np.random.default_rng(0).random((2, 3, 21, 34)).astype(np.float32) * 255


def mapped(rows: object, columns: object) -> np.ndarray:
    return separable(torch.from_numpy(X), rows, columns).numpy()


@pytest.fixture(params=["compiled", "tensors"], autouse=True)
def path(request: pytest.FixtureRequest) -> None:
    if request.param == "tensors":
        request.getfixturevalue("tensor_path")


@pytest.mark.parametrize("sigma", [0.05, 0.4, 1, 2.5, 9])
def test_gaussian_is_scipys(sigma: float) -> None:
    for mirrored, mode in ((False, "nearest"), (True, "reflect")):
        ours = mapped(gaussian(21, sigma, 3.0, mirrored), gaussian(34, sigma, 3.0, mirrored))
        theirs = ndimage.gaussian_filter(X.astype(float), (0, 0, sigma, sigma), mode=mode, truncate=3)
        np.testing.assert_allclose(ours, theirs, atol=2e-4)


@pytest.mark.parametrize("factor", [1, 1.01, 1.21, 2, 2.5, 4.5])
def test_zoom_is_scipys(factor: float) -> None:
    crops = [(int(np.ceil(n / factor)), n) for n in X.shape[2:]]
    (h, top), (w, left) = ((crop, (n - crop) // 2) for crop, n in crops)
    whole = ndimage.zoom(X[..., top : top + h, left : left + w].astype(float), (1, 1, factor, factor), order=1)
    np.testing.assert_allclose(mapped(zoom(21, factor, "all"), zoom(34, factor, "all")), whole, atol=2e-4)
    corner = mapped(zoom(21, factor, "corner"), zoom(34, factor, "corner"))
    np.testing.assert_allclose(corner, whole[..., :21, :34], atol=2e-4)
    y, x = (whole.shape[2] - 21) // 2, (whole.shape[3] - 34) // 2
    centre = mapped(zoom(21, factor, "centre"), zoom(34, factor, "centre"))
    np.testing.assert_allclose(centre, whole[..., y : y + 21, x : x + 34], atol=2e-4)


def test_resize_is_opencvs() -> None:
    cubic = cv2.resize(X[0, 0], (38, 24), interpolation=cv2.INTER_CUBIC)
    ours = mapped(resize(21, 24, 21 / 24, cubic=True), resize(34, 38, 34 / 38, cubic=True))
    np.testing.assert_allclose(ours[0, 0], cubic, atol=2e-3)
    linear = cv2.resize(X[0, 0], (0, 0), fx=0.3, fy=0.3)
    ours = mapped(resize(21, 6, 1 / 0.3, cubic=False), resize(34, 10, 1 / 0.3, cubic=False))
    np.testing.assert_allclose(ours[0, 0], linear, atol=2e-3)


def test_uint8_is_truncated() -> None:
    x = torch.from_numpy(X.astype(np.uint8))
    rows, columns = gaussian(21, 1.0), gaussian(34, 1.0)
    exact = separable(x.float(), rows, columns)
    result = separable(x, rows, columns)
    assert result.dtype == torch.uint8
    assert ((exact + 2**-12).floor() == result).all()
