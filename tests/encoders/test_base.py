"""The contract of an encoder."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from shiftbench.encoders.base import Encoder, module_encoder, pick_device, weights_hash
from shiftbench.encoders.load import load_encoder
from shiftbench.encoders.preprocess import Preprocess
from shiftbench.errors import InputError
from shiftbench.runtime import compat

PLAIN = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
CPU = torch.device("cpu")


def noise(number, height=32, width=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (number, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.fixture
def images():
    return noise(5)


def test_preprocess_is_the_usual_normalisation(images):
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    wanted = (images.float() / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    torch.testing.assert_close(Preprocess(mean, std)(images), wanted)


def assert_same_pixels(found, wanted):
    """Up to the rounding of two directions in integer arithmetic: noise is the worst case."""
    assert found.shape == wanted.shape
    apart = (found - wanted).abs()
    assert apart.max() <= 2.001
    assert (apart > 1.001).float().mean() <= 1e-3


def test_preprocess_resizes_other_sizes_only(images):
    resized = Preprocess(*PLAIN, size=16)(images)
    assert resized.shape == (5, 3, 16, 16)
    assert torch.equal(Preprocess(*PLAIN, size=32)(images), images.float() / 255)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 40), (33, 90), (64, 37)])
@pytest.mark.parametrize(("size", "shorter"), [(24, None), (24, 24), (24, 27), (28, 32), (40, 43)])
def test_preprocess_is_torchvisions(interpolation, height, width, size, shorter):
    v2 = compat.torchvision().transforms.v2
    images = noise(3, height, width)
    mode = v2.InterpolationMode(interpolation)
    steps = [v2.Resize((size, size) if shorter is None else shorter, interpolation=mode, antialias=True)]
    wanted = v2.Compose([*steps, v2.CenterCrop(size)])(images).float()
    crop = None if shorter is None else size / shorter
    found = Preprocess(*PLAIN, size, crop=crop, interpolation=interpolation)(images) * 255
    assert found.shape == (3, 3, size, size)
    assert_same_pixels(found, wanted)
    assert torch.allclose(found, found.round(), atol=1e-3)


@pytest.mark.parametrize("crop_pct", [0.875, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_preprocess_is_timms(interpolation, crop_pct):
    compat.torchvision()
    data = pytest.importorskip("timm.data")
    from PIL import Image

    images = noise(2, 40, 56)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    transform = data.create_transform(
        (3, 48, 48), is_training=False, interpolation=interpolation, mean=mean, std=std, crop_pct=crop_pct
    )
    wanted = torch.stack([transform(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
    found = Preprocess(mean, std, 48, crop=crop_pct, interpolation=interpolation)(images)
    level = 1 / 255 / torch.tensor(std).view(1, 3, 1, 1)
    assert_same_pixels(found / level, wanted / level)


def test_the_preprocessing_follows_from_its_description(images):
    preprocess = Preprocess((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 24, crop=0.8, interpolation="bicubic")
    assert torch.equal(Preprocess(**preprocess.describe())(images), preprocess(images))
    assert Preprocess(*PLAIN).describe() == {"mean": [0.0] * 3, "std": [1.0] * 3, "size": None}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size=0"),
        ({"size": 2.5}, "size=2.5"),
        ({"crop": 0.9}, "crop=0.9"),
        ({"size": 32, "crop": 224}, "crop=224"),
        ({"size": 32, "interpolation": "bicubik"}, "Did you mean 'bicubic'"),
    ],
)
def test_preprocessing_that_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        Preprocess(*PLAIN, **options)


class Small(nn.Module):
    """Convolutions, tokens, and a layer that runs twice."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 3, 2)
        self.norm = nn.BatchNorm2d(6)
        self.twice = nn.ReLU()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.last = nn.Linear(6, 4)

    def forward(self, images):
        maps = self.twice(self.norm(self.conv(images)))
        tokens = maps.flatten(2).transpose(1, 2)
        mixed, _ = self.attention(tokens, tokens, tokens)
        return self.last(self.twice(mixed).mean(1))


@pytest.fixture
def small():
    return module_encoder("small", Small(), Preprocess(*PLAIN), {"head": nn.Linear(4, 2)}, device=CPU)


def test_module_encoder_in_eval_mode_with_heads_first(images):
    backbone = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3072, 4))
    encoder = module_encoder("mine", backbone, Preprocess(*PLAIN), {"head": nn.Linear(4, 2)}, device=CPU)
    found = encoder.features(images)
    assert {name: value.shape for name, value in found.items()} == {"head": (5, 2), "backbone": (5, 4)}
    assert encoder.feature_name() == "head"
    assert encoder.feature_name("backbone") == "backbone"
    assert encoder.feature_name("no such") == "head"
    assert torch.equal(encoder(images), found["head"])
    assert torch.equal(encoder(images), encoder(images))  # no dropout


def test_the_default_feature_can_be_chosen(images):
    encoder = module_encoder(
        "s", Small(), Preprocess(*PLAIN), {"head": nn.Linear(4, 2)}, device=CPU, default="backbone"
    )
    assert encoder.feature_names == ("backbone", "head")
    assert torch.equal(encoder(images), encoder.features(images)["backbone"])


def test_layers_are_features_too(small, images):
    chosen = small.select(["norm", "conv", "attention", "head"])
    assert chosen.feature_names == ("norm+avg", "conv+avg", "attention+avg", "head")
    found = chosen.features(images)
    with torch.no_grad():
        maps = small.backbone.conv(images.float() / 255)
        torch.testing.assert_close(found["conv+avg"], maps.mean((2, 3)))
        normed = small.backbone.norm(maps)
        torch.testing.assert_close(found["norm+avg"], normed.mean((2, 3)))
        tokens = normed.relu().flatten(2).transpose(1, 2)
        mixed, _ = small.backbone.attention(tokens, tokens, tokens)
        torch.testing.assert_close(found["attention+avg"], mixed.mean(1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found["head"], small(images))
    assert small.feature_names == ("head", "backbone")  # the first encoder has not changed


def test_pooling_and_unit_length(small, images):
    with torch.no_grad():
        maps = small.backbone.conv(images.float() / 255)
    for pool, wanted in {"avg": maps.mean((2, 3)), "max": maps.amax((2, 3)), "flatten": maps.flatten(1)}.items():
        torch.testing.assert_close(small.select(["conv"], pool=pool)(images), wanted)
    tokens = small.select(["attention"], pool="cls")(images)
    assert tokens.shape == (5, 6)
    assert not torch.allclose(tokens, small.select(["attention"])(images))
    unit = small.select(["conv", "backbone"], l2=True).features(images)
    assert list(unit) == ["conv+avg+l2", "backbone+l2"]
    for value in unit.values():
        torch.testing.assert_close(value.norm(dim=1), torch.ones(5))


def test_choices_of_features_have_fingerprints_of_their_own(small):
    choices = [
        {},
        {"features": ["backbone"]},
        {"features": ["conv"]},
        {"features": ["conv"], "pool": "max"},
        {"l2": True},
    ]
    encoders = [small.select(**choice) for choice in choices] + [small.with_dtype("bfloat16")]
    assert len({encoder.fingerprint for encoder in encoders}) == len(encoders)
    assert small.select().fingerprint == small.fingerprint == small.with_dtype("float32").fingerprint
    other = module_encoder("small", Small(), Preprocess(*PLAIN, size=24), {"head": nn.Linear(4, 2)}, device=CPU)
    assert other.fingerprint != small.fingerprint


def test_layers_are_read_by_several_threads_at_once(small):
    chosen = small.select(["conv", "norm"])
    batches = [noise(4, seed=seed) for seed in range(16)]
    serial = [chosen.features(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for wanted, found in zip(serial, pool.map(chosen.features, batches), strict=True):
            for name, value in wanted.items():
                torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"features": ["cnov"]}, "Did you mean 'conv'"),
        ({"features": ["twice"]}, "runs 2 times"),
        ({"features": ["conv"], "pool": "mean"}, "Unknown pool"),
        ({"features": ["conv"], "pool": "cls"}, "gives maps"),
        ({"features": ["conv"], "pool": "none"}, "pool=avg, max, cls or flatten"),
    ],
)
def test_features_that_cannot_be(small, images, choice, message):
    with pytest.raises(InputError, match=message):
        small.select(**choice)(images)


def test_a_callables_maps_can_be_pooled(images):
    encoder = Encoder("maps", lambda x: {"backbone": x.float()}, fingerprint="f")
    torch.testing.assert_close(encoder.select(pool="avg")(images), images.float().mean((2, 3)))
    assert encoder.select(pool="avg").fingerprint != encoder.fingerprint
    with pytest.raises(InputError, match="Unknown feature 'layer1'"):
        encoder.select(["layer1"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_features_do_not_depend_on_the_batch(dtype):
    """Beyond rounding: kernels may add in another order for another number of images."""
    images = noise(33)
    encoder = load_encoder("random:resnet18_cifar", dtype=dtype)
    together = encoder(images)
    apart = torch.cat([encoder(part) for part in images.split([1, 16, 16])])
    tolerance = 1e-5 if dtype == "float32" else 2**-7
    assert (together - apart).abs().max() <= tolerance * together.abs().max()


def test_options_that_ride_on_a_name(images):
    encoder = load_encoder("random:resnet18_cifar?feature=layer1,backbone&pool=max&l2=true&name=mine")
    assert encoder.name == "mine"
    assert encoder.feature_names == ("layer1+max+l2", "backbone+l2")
    assert encoder(images).shape == (5, 64)
    assert load_encoder("random:resnet18_cifar", feature=["layer1"]).feature_names == ("layer1+avg",)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("random?l2=yes", "l2=yes: use true or false"),
        ("random?pool=mean&feature=linear", "Unknown pool 'mean'"),
        ("random?dtype=float16", "Unknown dtype 'float16'"),
        ("random?colour=3", "takes no such option: 'colour'"),
        ("pixels?dtype=bfloat16", "takes no dtype=bfloat16"),
        ("pixels?feature=layer1", "Unknown feature 'layer1'"),
    ],
)
def test_options_that_cannot_be(uri, message):
    with pytest.raises(InputError, match=message):
        load_encoder(uri)


def test_dtype_is_asked_for_once(images):
    with pytest.raises(InputError, match="dtype=float32 on the name, dtype=bfloat16 beside it"):
        load_encoder("random?dtype=float32", dtype="bfloat16")
    assert load_encoder("random?dtype=bfloat16").pinned
    assert not load_encoder("random").pinned
    assert load_encoder("pixels", dtype="bfloat16").dtype == "float32"  # it has no network
    assert load_encoder("random?dtype=bfloat16")(images).dtype == torch.float32


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


def test_encoders_compute_where_they_are_told_to(device, images):
    encoder = module_encoder("small", Small(), Preprocess(*PLAIN), device=device)
    found = encoder.select(["conv", "backbone"]).features(images)
    here = (
        module_encoder("small", Small(), Preprocess(*PLAIN), device=CPU).select(["conv", "backbone"]).features(images)
    )
    for name, value in here.items():
        assert found[name].device == CPU
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-4)
