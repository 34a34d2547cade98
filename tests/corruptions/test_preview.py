"""The contact sheet shows every corruption and severity where its labels say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from shiftbench.corruptions import SEVERITIES, corrupt, corruptions
from shiftbench.corruptions.preview import contact_sheet


@pytest.mark.parametrize("count", [1, 3])
def test_cells_are_the_corrupted_images(images: Tensor, count: int) -> None:
    sheet = np.asarray(contact_sheet(images[:count], table="imagenet", seed=2))
    left, top, cell, step = 120, 20, 64, 67
    names = corruptions("all")
    assert sheet.shape == (top + len(names) * step, left + 6 * step, 3)
    for row, name in enumerate(names):
        index = torch.tensor([row % count])
        expected = [
            images[index],
            *(corrupt(images[index], name, s, table="imagenet", seed=2, index=index) for s in SEVERITIES),
        ]
        for column, picture in enumerate(expected):
            y, x = top + row * step, left + column * step
            shown = sheet[y : y + cell : 2, x : x + cell : 2]
            np.testing.assert_array_equal(shown, picture[0].permute(1, 2, 0).numpy())


def test_labels_are_drawn(images: Tensor) -> None:
    sheet = np.asarray(contact_sheet(images[0], names=["fog", "snow"]))
    assert sheet.shape[0] == 20 + 2 * 67
    for region in (sheet[:20, 120:187], sheet[20:87, :120], sheet[87:154, :120]):
        assert region.min() < 100 < region.max()


def test_large_and_grey_images_keep_their_size(images: Tensor) -> None:
    large = images[:1].repeat(1, 1, 4, 3)
    assert contact_sheet(large, names=["fog"]).size == (120 + 6 * (96 + 3), 20 + 128 + 3)
    assert contact_sheet(images[:1, :1], names=["fog"]).mode == "RGB"
