"""What doctor says about a machine, a checkpoint, and a run that is not yet started."""

import time

import pytest
import torch

from shiftbench.cli import doctor
from shiftbench.cli.doctor import examine, photographs, predict, rate
from shiftbench.data.base import load_dataset
from shiftbench.data.shifts import resolve
from shiftbench.encoders.base import Encoder
from shiftbench.encoders.load import load_encoder
from shiftbench.errors import InputError
from shiftbench.registry import DATASETS


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(doctor, "PATIENCE", 0.05)


def test_the_machine_without_a_checkpoint():
    text = "\n".join(examine())
    for word in ("torch", "cores", "GB free", "upstream   robustbench: ok"):
        assert word in text
    for name in set(DATASETS) - set(doctor.OWN_DATA):
        assert f"data       {name}" in text


def test_a_checkpoint_without_data():
    text = "\n".join(examine("random:small_cnn?feature=backbone,convolutions"))
    for line in (
        "encoder    backbone: small_cnn",
        "encoder    preprocess: mean 0.5/0.5/0.5, std 0.5/0.5/0.5, size None",
        "encoder    feature backbone (default): 128 dimensions, finite",
        "encoder    feature convolutions+avg: 64 dimensions, finite",
        "images/s of one core in float32, on (3, 32, 32) photographs",
    ):
        assert line in text
    assert "WARNING" not in text
    assert "upstream" not in text


def test_several_checkpoints_data_and_shift():
    lines = list(examine(["pixels", "pca:4?size=8", "random"], data="digits", shift="fog"))
    text = "\n".join(lines)
    assert "images of digits" in text
    [head, *runs] = [line for line in lines if line.startswith("run")]
    assert "digits: 1,437 images to fit on, 2,160 to score in 6 conditions (0 skipped)" in head
    assert [line.split()[1] for line in runs] == ["pixels:", "pca:4:", "random:small_cnn:"]
    assert "0.00 GB of cache" in runs[0]


def test_what_is_wrong_is_said():
    class Broken(torch.nn.Module):
        pass

    with pytest.raises(InputError, match="No checkpoint 'nowhere'"):
        list(examine("nowhere"))
    with pytest.raises(InputError, match="fails on 64 photographs: "):
        list(examine("torch.linalg:inv"))
    assert any(line.startswith("WARNING") for line in doctor._try(constant(), None))


def constant():
    return Encoder("constant", lambda images: {"backbone": torch.ones(len(images), 3)}, fingerprint="")


def test_a_prediction_counts_images_time_and_bytes():
    """An encoder that takes ten milliseconds an image says so, whatever else the machine does."""

    def slow(images):
        time.sleep(0.01 * len(images))
        return {"backbone": torch.zeros(len(images), 7)}

    dataset = load_dataset("digits")
    samples = resolve(["fog", "snow-2"], dataset, table="cifar", seed=0)
    [forecast] = predict([Encoder("slow", slow, fingerprint="")], dataset, samples, workers=2)
    assert forecast.images == len(dataset.train) + 7 * len(dataset.test)
    assert forecast.rate <= 100
    assert forecast.seconds == pytest.approx(forecast.images / forecast.rate / 2)
    assert forecast.cache == 4 * 7 * forecast.images
    [pixels] = predict([load_encoder("pixels")], dataset, samples, workers=1)
    assert pixels.cache == 0  # made in no time, never stored


def test_rate_takes_few_images_of_a_slow_encoder():
    seen = []

    def slow(images):
        seen.append(len(images))
        time.sleep(0.02 * len(images))
        return {"backbone": torch.zeros(len(images), 7)}

    rate(Encoder("slow", slow, fingerprint=""), photographs(8))
    assert max(seen) == 4


def test_photographs_are_different_pictures_and_always_the_same():
    one = photographs(24, 10)
    assert one.shape == (10, 3, 24, 24)
    assert one.dtype == torch.uint8
    assert torch.equal(one, photographs(24, 10))
    assert len(one.flatten(1).unique(dim=0)) == 10
