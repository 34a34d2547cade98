"""CIFAR-10 from its official batches."""

import numpy as np
import pytest
import torch

from shiftbench.corruptions import corrupt
from shiftbench.corruptions.export import write_set
from shiftbench.data import load_dataset
from shiftbench.data.cifar import load_cifar_c
from shiftbench.errors import InputError


@pytest.mark.realdata
def test_official_order_and_labels(real_data):
    data = load_dataset("cifar10", path=str(real_data))
    assert (len(data.train), len(data.test)) == (50_000, 10_000)
    assert [data.classes[i] for i in data.test.labels[:5]] == ["cat", "ship", "ship", "airplane", "frog"]
    assert data.train.images.float().mean(dim=(0, 2, 3)).div(255).tolist() == pytest.approx(
        [0.4914, 0.4822, 0.4465], abs=1e-4
    )


def test_missing_batches(tmp_path):
    with pytest.raises(InputError, match="cifar-10-python"):
        load_dataset("cifar10", path=str(tmp_path))


def test_a_batch_that_is_not_the_official_one_is_not_opened(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]:
        (folder / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(InputError, match="not the official"):
        load_dataset("cifar10", path=str(tmp_path))


@pytest.fixture
def corrupted(tmp_path):
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    write_set(tmp_path, images, [2, 0, 1, 2, 0, 1], names=["fog"], table="cifar")
    return tmp_path, images


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_a_written_set_reads_back(corrupted, severity):
    folder, images = corrupted
    split = load_cifar_c(folder, "fog", severity)
    assert torch.equal(split.images, corrupt(images, "fog", severity, table="cifar"))
    assert split.labels.tolist() == [2, 0, 1, 2, 0, 1]


def test_sets_that_cannot_be_read(corrupted):
    folder = corrupted[0]
    with pytest.raises(InputError, match="holds no whole snow"):
        load_cifar_c(folder, "snow", 1)
    with pytest.raises(InputError, match="severity must be"):
        load_cifar_c(folder, "fog", 6)
    np.save(folder / "fog.npy", np.zeros((7, 32, 32, 3), np.uint8))
    with pytest.raises(InputError, match="must be uint8"):
        load_cifar_c(folder, "fog", 1)
    (folder / "fog.npy").write_bytes(b"")
    with pytest.raises(InputError, match="holds no whole fog"):
        load_cifar_c(folder, "fog", 1)
