"""The contract of an encoder."""

import numpy as np
import pytest
import torch
from torch import nn

from shiftbench.encoders import Encoder, load_encoder
from shiftbench.encoders.base import Preprocess, module_encoder, pick_device, weights_hash
from shiftbench.errors import InputError


@pytest.fixture
def images():
    return torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_preprocess_is_the_usual_normalisation(images):
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    wanted = (images.float() / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    torch.testing.assert_close(Preprocess(mean, std)(images), wanted)


def test_preprocess_resizes_other_sizes_only(images):
    resized = Preprocess((0, 0, 0), (1, 1, 1), size=16)(images)
    assert resized.shape == (5, 3, 16, 16)
    assert torch.equal(Preprocess((0, 0, 0), (1, 1, 1), size=32)(images), images.float() / 255)


def test_pixels_are_the_pixels(images):
    features = load_encoder("pixels")(images)
    np.testing.assert_allclose(features, images.numpy().reshape(5, -1) / 255, rtol=1e-6)


def test_random_is_seeded_and_leaves_the_global_generator_alone(images):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, two, other = load_encoder("random"), load_encoder("random"), load_encoder("random?seed=1")
    assert torch.equal(before, torch.get_rng_state())
    assert one.fingerprint == two.fingerprint != other.fingerprint
    assert torch.equal(one(images), two(images))
    assert not torch.equal(one(images), other(images))


def test_module_encoder_in_eval_mode_with_heads_first(images):
    backbone = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3072, 4))
    encoder = module_encoder(
        "mine", backbone, Preprocess((0, 0, 0), (1, 1, 1)), {"head": nn.Linear(4, 2)}, device=torch.device("cpu")
    )
    found = encoder.features(images)
    assert {name: value.shape for name, value in found.items()} == {"head": (5, 2), "backbone": (5, 4)}
    assert encoder.feature_name() == "head"
    assert encoder.feature_name("backbone") == "backbone"
    assert encoder.feature_name("no such") == "head"
    assert torch.equal(encoder(images), found["head"])
    assert torch.equal(encoder(images), encoder(images))  # no dropout


def test_weights_hash_follows_values_names_and_unsaved_buffers():
    def hash_of(**change):
        torch.manual_seed(0)
        layer = nn.Linear(3, 2)
        with torch.no_grad():
            layer.weight[0, 0] += change.get("weight", 0)
        return weights_hash(nn.ModuleList([Preprocess((change.get("mean", 0), 0, 0), (1, 1, 1)), layer]))

    assert hash_of() == hash_of()
    assert len({hash_of(), hash_of(weight=1e-3), hash_of(mean=0.5)}) == 3


@pytest.mark.parametrize(
    "bad",
    [torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.uint8), torch.zeros(2, 1, 8, 8, dtype=torch.uint8)],
)
def test_other_images_are_refused(bad):
    with pytest.raises(InputError, match="uint8"):
        load_encoder("pixels")(bad)


def test_encoder_that_returns_another_shape(images):
    encoder = Encoder("odd", lambda x: {"backbone": x.float()}, fingerprint="")
    with pytest.raises(InputError, match=r"'odd' returned backbone of shape .*\(5, D\) is needed"):
        encoder(images)


def test_unknown_device():
    with pytest.raises(InputError, match="Unknown device 'gpu'"):
        pick_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA device"):
            pick_device("cuda")
