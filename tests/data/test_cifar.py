"""CIFAR-10 from its official batches."""

import pytest

from shiftbench.data import load_dataset
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
