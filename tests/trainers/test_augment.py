"""Augmentations against torchvision, pixel by pixel where it is exact and by distribution where it is random."""

import numpy as np
import pytest
import torch
from scipy import stats

from shiftbench.compat import torchvision
from shiftbench.errors import InputError
from shiftbench.trainers.augment import (
    Augmentation,
    color_jitter,
    crop_boxes,
    luma,
    resized_crop,
    shift_hue,
)

AFFINE = {"zoom": (0.8, 1.3), "stretch": 1.3, "degrees": 15.0, "shear": 15.0, "translate": 0.1}
COLOR = {"crop": (0.2, 1.0), "grayscale": 0.2, "jitter": (0.4, 0.4, 0.4, 0.4), "second_view": 0.95, "flip": 0.5}
ALL = {**AFFINE, **COLOR}


def generator(seed: int = 0, device: str | torch.device = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (12, 3, 16, 16), generator=generator(), dtype=torch.uint8)


def functional():
    return torchvision().transforms.functional


@pytest.mark.parametrize("options", [{}, AFFINE, COLOR, ALL])
def test_shape_dtype_and_range(images, options, device):
    views = Augmentation(**options)(images.to(device), 0, generator(device=device))
    assert views.shape == images.shape
    assert views.dtype == torch.float32
    assert views.min() >= -1e-3
    assert views.max() <= 255 + 1e-3


def test_everything_off_changes_nothing(images):
    assert torch.equal(Augmentation()(images, 0, generator()), images.float())


@pytest.mark.parametrize("options", [AFFINE, COLOR, ALL])
def test_the_generator_decides_everything(images, options):
    augment = Augmentation(**options)
    first = augment(images, 0, generator(3))
    torch.manual_seed(99)
    assert torch.equal(augment(images, 0, generator(3)), first)
    assert not torch.equal(augment(images, 0, generator(4)), first)


@pytest.mark.parametrize("options", [AFFINE, COLOR])
def test_each_image_has_its_own_parameters(images, options):
    same = images[:1].expand(12, -1, -1, -1)
    views = Augmentation(**options)(same, 0, generator())
    assert len({view.numpy().tobytes() for view in views}) == 12


@pytest.mark.parametrize("name", sorted(ALL))
def test_each_option_alone_changes_the_images(images, name):
    if name == "second_view":
        jitter = Augmentation(jitter=(0.4, 0.0, 0.0, 0.0), second_view=0.5)
        changes = [(jitter(images, view, generator()) / images.float().clamp(min=1)) for view in (0, 1)]
        assert (changes[1] - 1).abs().mean() < (changes[0] - 1).abs().mean()
        return
    assert not torch.equal(Augmentation(**{name: ALL[name]})(images, 0, generator()), images.float())


def test_affine_maps_stay_in_their_ranges():
    """Recover zoom, stretch, rotation and shear from the maps by a QR decomposition of their inverse."""
    augment = Augmentation(**AFFINE)
    maps = augment._affine_maps(torch.empty(20_000, 3, 8, 8), generator()).double()
    rotation, upper = np.linalg.qr(maps[:, :, :2].numpy())
    sign = np.sign(np.diagonal(upper, axis1=1, axis2=2))
    rotation, upper = rotation * sign[:, None, :], upper * sign[:, :, None]
    angle = np.degrees(np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0]))
    shear = np.degrees(np.arctan(upper[:, 0, 1] / upper[:, 1, 1]))
    zoom = 1 / np.sqrt(upper[:, 0, 0] * upper[:, 1, 1])
    stretch = upper[:, 1, 1] / upper[:, 0, 0]
    for values, low, high in ((angle, -15, 15), (shear, -15, 15), (zoom, 0.8, 1.3), (stretch, 1 / 1.3, 1.3)):
        assert values.min() == pytest.approx(low, rel=0.01)
        assert values.max() == pytest.approx(high, rel=0.01)
    for share in maps[:, :, 2].numpy().T / 2:
        assert stats.kstest(share, stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-3


def test_an_affine_map_moves_the_image_as_it_says():
    """A quarter turn: the map of an angle of 90 degrees is numpy's rotation."""
    augment = Augmentation(degrees=90.0)
    image = torch.arange(48, dtype=torch.uint8).view(1, 3, 4, 4)
    many = augment(image.expand(4000, -1, -1, -1), 0, generator())
    maps = augment._affine_maps(torch.empty(4000, 3, 4, 4), generator())
    turned = maps[:, 1, 0].argmax()  # the largest sine
    np.testing.assert_allclose(many[turned].numpy(), np.rot90(image[0].numpy(), 1, (1, 2)), atol=0.5)


def test_resized_crop_is_torchvisions(images):
    boxes = crop_boxes(images, (0.2, 1.0), (3 / 4, 4 / 3), generator())
    ours = resized_crop(images.float(), boxes)
    for image, view, box in zip(images, ours, boxes.int().tolist(), strict=True):
        theirs = functional().resized_crop(image.float(), *box, size=[16, 16], antialias=True)
        torch.testing.assert_close(view, theirs, atol=1e-2, rtol=0)


@pytest.mark.parametrize(("height", "width", "scale"), [(32, 32, (0.2, 1.0)), (24, 40, (0.6, 1.0))])
def test_crop_boxes_have_torchvisions_distribution(height, width, scale):
    boxes = crop_boxes(torch.empty(4000, 3, height, width), scale, (3 / 4, 4 / 3), generator()).numpy()
    torch.manual_seed(0)
    draw = torchvision().transforms.RandomResizedCrop.get_params
    image = torch.empty(3, height, width)
    theirs = np.array([draw(image, scale, (3 / 4, 4 / 3)) for _ in range(4000)], dtype=float)
    for ours, other in zip(boxes.T, theirs.T, strict=True):
        assert stats.ks_2samp(ours, other).pvalue > 1e-3
    assert (boxes[:, 0] + boxes[:, 2] <= height).all()
    assert (boxes[:, 1] + boxes[:, 3] <= width).all()
    assert boxes.min() >= 0


def test_crop_falls_back_to_the_largest_central_box():
    boxes = crop_boxes(torch.empty(5, 3, 10, 40), (1.0, 1.0), (3 / 4, 4 / 3), generator())
    assert torch.equal(boxes, torch.tensor([[0.0, 14.0, 10.0, 13.0]]).expand(5, 4))


def test_hue_shift_is_torchvisions(images):
    pixels = torch.cat([images.float() / 255, torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 0.5)])
    for turns in (-0.5, -0.13, 0.0, 0.4):
        ours = shift_hue(pixels, torch.tensor(turns))
        torch.testing.assert_close(ours, functional().adjust_hue(pixels, turns), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("channel", "operation"), [(0, "adjust_brightness"), (1, "adjust_contrast"), (2, "adjust_saturation")]
)
def test_each_jitter_is_torchvisions_with_a_factor_from_its_range(images, channel, operation):
    pixels = images.float() / 255
    strengths = [0.4 * (other == channel) for other in range(4)]
    jittered = color_jitter(pixels, strengths, generator())
    draws = torch.empty(4, 12).uniform_(-1, 1, generator=generator())
    for image, view, factor in zip(pixels, jittered, 1 + 0.4 * draws[channel], strict=True):
        expected = getattr(functional(), operation)(image, factor.item())
        torch.testing.assert_close(view, expected, atol=1e-4, rtol=0)


def test_jitter_comes_in_a_random_order(images):
    """Brightness before contrast and contrast before brightness both occur, and nothing else does."""
    pixels, seen = images.float() / 255, []
    for seed in range(20):
        brightness, contrast = 1 + 0.4 * torch.empty(4, 12).uniform_(-1, 1, generator=generator(seed))[:2]
        operations = [("adjust_brightness", brightness), ("adjust_contrast", contrast)]
        jittered = color_jitter(pixels, (0.4, 0.4, 0.0, 0.0), generator(seed))
        orders = []
        for order in (operations, operations[::-1]):
            view = pixels
            for name, factors in order:
                apply = getattr(functional(), name)
                view = torch.stack([apply(image, factor.item()) for image, factor in zip(view, factors, strict=True)])
            orders.append(torch.allclose(view, jittered, atol=1e-4))
        assert sum(orders) == 1
        seen.append(orders[0])
    assert set(seen) == {True, False}


def test_flip_and_grayscale_happen_as_often_as_asked():
    images = torch.randint(0, 256, (4000, 3, 4, 4), generator=generator(), dtype=torch.uint8)
    flipped = (Augmentation(flip=0.3)(images, 0, generator()) != images).flatten(1).any(1)
    assert flipped.float().mean().item() == pytest.approx(0.3, abs=0.03)
    gray = Augmentation(grayscale=0.2)(images, 0, generator())
    colourless = (gray[:, 0] == gray[:, 1]).flatten(1).all(1)
    assert colourless.float().mean().item() == pytest.approx(0.2, abs=0.03)
    expected = functional().rgb_to_grayscale(images.float())
    torch.testing.assert_close(luma(images.float()), expected, atol=0.1, rtol=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop": (0.0, 1.0)},
        {"crop": (0.5, 1.2)},
        {"zoom": (0.0, 1.0)},
        {"zoom": (1.2, 1.0)},
        {"stretch": 0.5},
        {"shear": 90.0},
        {"jitter": (0.4, 0.4, 0.4, 0.6)},
        {"second_view": 2.0},
        {"flip": 1.5},
    ],
)
def test_values_outside_their_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Augmentation(**wrong)
