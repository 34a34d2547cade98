"""Backbones by shape, by parameter count, and against torchvision; heads by their specification."""

import pytest
import torch
from torch import nn

from shiftbench.encoders.backbones import Head, build_backbone, small_cnn
from shiftbench.encoders.resnet import resnet18_cifar
from shiftbench.errors import InputError
from shiftbench.registry import BACKBONES
from shiftbench.runtime.compat import torchvision


@pytest.mark.parametrize("name", BACKBONES.names())
def test_every_registered_backbone_gives_one_vector_per_image(name, device):
    backbone = build_backbone(name).to(device).eval()
    size = getattr(backbone, "image_size", 2 * backbone.stride)
    with torch.inference_mode():
        features = backbone(torch.randn(2, 3, size, size, device=device))
    assert features.shape == (2, backbone.feature_dim)
    assert features.isfinite().all()


@pytest.mark.parametrize("name", BACKBONES.names())
def test_stride_is_the_distance_between_last_positions(name):
    """An image of 4 strides a side has 4x4 positions in the last map that a convolution makes."""
    backbone = build_backbone(name).eval()
    size = getattr(backbone, "image_size", 4 * backbone.stride)
    maps = []
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output: maps.append(output.shape[-2:]))
    with torch.inference_mode():
        backbone(torch.randn(1, 3, size, size))
    assert tuple(maps[-1]) == (size // backbone.stride,) * 2


@pytest.mark.parametrize(
    ("name", "size"),
    [("small_cnn", 32), ("resnet18_cifar", 32), ("resnet18", 64), ("resnet8", 32), ("resnet20", 32), ("wrn40_2", 32)],
)
def test_every_parameter_learns(name, size):
    backbone = build_backbone(name)
    backbone(torch.randn(4, 3, size, size)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_resnet18_cifar_has_the_published_size():
    """ConCURL's ResNet-18 with a linear head to 128 dimensions: 11.23 million parameters."""
    model = nn.Sequential(resnet18_cifar(), nn.Linear(512, 128))
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(11.23e6, abs=5e3)


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85)])
def test_cifar_resnets_have_the_published_sizes(depth, millions):
    """He et al. 2016, table 6; ResNet-8 is the next smaller of the same family, 6 n + 2 layers."""
    sizes = [sum(p.numel() for p in build_backbone(f"resnet{n}").parameters()) for n in (8, depth)]
    per_block = (sizes[1] - sizes[0]) / (depth - 8)  # every further layer of each stage costs the same
    assert sizes[1] == pytest.approx(millions * 1e6, abs=5e3)
    assert per_block * 6 == 2 * 9 * (16**2 + 32**2 + 64**2) + 4 * (16 + 32 + 64)


def test_the_narrow_resnet18_is_the_full_one_at_a_quarter_of_the_width():
    """Layer for layer: a quarter of the channels on either side of each convolution, but for the image's own three."""
    full, narrow = resnet18_cifar(), build_backbone("resnet18_narrow")
    shapes = [
        [tuple(module.weight.shape[:2]) for module in network.modules() if isinstance(module, nn.Conv2d)]
        for network in (full, narrow)
    ]
    assert len(shapes[0]) == 20
    assert shapes[1] == [(out // 4, into if into == 3 else into // 4) for out, into in shapes[0]]
    assert (narrow.stride, narrow.feature_dim) == (full.stride, full.feature_dim // 4)


def test_resnet18_cifar_starts_as_pytorch_starts_convolutions():
    """Uniform within 1/sqrt(fan in), where torchvision's own ResNets start normal with fan out."""
    weight = resnet18_cifar().layer4[1].conv2.weight
    bound = (512 * 9) ** -0.5
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_imagenet_resnets_are_torchvisions(name):
    theirs = torchvision().models.get_model(name, weights=None).eval()
    backbone = build_backbone(name).eval()
    missing = backbone.load_state_dict(theirs.state_dict(), strict=False)
    assert set(missing.unexpected_keys) == {"fc.weight", "fc.bias"}
    assert missing.missing_keys == []
    theirs.fc = nn.Identity()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(backbone(images), theirs(images))


def test_small_cnn_ignores_brightness_and_contrast_of_the_whole_image():
    backbone, images = small_cnn().eval(), torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(backbone(0.3 * images + 2), backbone(images), atol=1e-3, rtol=1e-3)


def test_small_cnn_takes_a_constant_image():
    assert small_cnn().eval()(torch.ones(2, 3, 32, 32)).isfinite().all()


@pytest.mark.parametrize(
    "spec",
    [
        {"dims": [6, 4], "batch_norm": False, "normalize": True},
        {"dims": [6, 8, 4], "batch_norm": True, "normalize": False},
        {"dims": [6, 8, 7, 4], "batch_norm": False, "normalize": False},
    ],
)
def test_a_head_is_rebuilt_from_its_spec(spec):
    head = Head(**spec)
    assert head.spec() == spec
    other = Head(**head.spec())
    other.load_state_dict(head.state_dict())
    features = torch.randn(5, 6)
    assert torch.equal(other.eval()(features), head.eval()(features))


def test_a_head_is_the_layers_it_says():
    head = Head([6, 8, 4], batch_norm=True)
    kinds = [type(module) for module in head]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    norms = Head([6, 4], normalize=True)(torch.randn(5, 6)).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(5))


def test_a_head_needs_two_widths():
    with pytest.raises(InputError, match=r"dims=\[6\]"):
        Head([6])


def test_an_unknown_backbone_names_the_nearest():
    with pytest.raises(InputError, match="resnet18_cifar"):
        build_backbone("resnet18_cifr")


def test_a_backbone_must_say_its_width():
    with pytest.raises(InputError, match="feature_dim"):
        build_backbone("torch.nn:Identity")
