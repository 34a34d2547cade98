"""Who gets which images, and that files and memory give the same batches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shiftbench.errors import InputError
from shiftbench.images import ImageFiles, centre_square
from shiftbench.trainers.feed import batches, resident, steps


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((48, 16), [(0, 16), (16, 16), (32, 16)]),
        ((50, 20), [(0, 20), (20, 20), (40, 10)]),
        ((50, 20, 1, True), [(0, 20), (20, 20)]),
        ((41, 20), [(0, 20), (20, 20)]),  # BatchNorm cannot do with one image
        ((51, 20, 2), [(0, 10), (20, 10), (40, 5)]),  # all processes have as many: one image is left out
        ((43, 20, 2), [(0, 10), (20, 10)]),
        ((16, 16), [(0, 16)]),
    ],
)
def test_steps(arguments, expected):
    assert steps(*arguments) == expected


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (23, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def files(images, tmp_path) -> ImageFiles:
    paths = [tmp_path / f"{number:02}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return ImageFiles(list(map(str, paths)), 12, centre_square)


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_files_and_memory_give_the_same_batches(images, files, workers):
    order = torch.randperm(23, generator=torch.Generator().manual_seed(1))[:18]
    memory = list(batches(images, order, 5, torch.device("cpu")))
    decoded = list(batches(files, order, 5, torch.device("cpu"), workers))
    assert [len(index) for index, _ in memory] == [5, 5, 5, 3]
    assert torch.equal(torch.cat([index for index, _ in decoded]), order)
    for (index, pixels), (same, found) in zip(memory, decoded, strict=True):
        assert torch.equal(index, same)
        assert torch.equal(pixels, images[index])
        assert torch.equal(found, pixels)


def test_a_broken_file_is_one_clear_line(files):
    Path(files.files[3]).write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"Cannot read the image .*03\.png"):
        list(batches(files, torch.arange(23), 5, torch.device("cpu")))


def test_images_stay_where_they_must(images, files, device):
    assert resident(files, device) is files
    moved = resident(images, device)
    assert moved.device.type == device.type
    [(index, pixels)] = batches(images, torch.arange(4), 4, moved.device)
    assert index.device == pixels.device == moved.device
    assert np.array_equal(pixels.cpu().numpy(), images[:4].numpy())
