"""Augmentations against torchvision, pixel by pixel where it is exact and by distribution where it is random."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from shiftbench.errors import InputError
from shiftbench.runtime.compat import torchvision
from shiftbench.trainers.augment import (
    Augmentation,
    ViewRng,
    color_jitter,
    crop_boxes,
    gaussian_blur,
    luma,
    resized_crop,
    shift_hue,
)

AFFINE = {"zoom": (0.8, 1.3), "stretch": 1.3, "degrees": 15.0, "shear": 15.0, "translate": 0.1}
COLOR = {"crop": (0.2, 1.0), "grayscale": 0.2, "jitter": (0.4, 0.4, 0.4, 0.4), "second_view": 0.95, "flip": 0.5}
BLUR = {"blur": 0.5, "blur_kernel": 5, "blur_sigma": (0.5, 2.0)}
ALL = {**AFFINE, **COLOR, **BLUR, "jitter_chance": 0.8}


def random_images(count: int, size: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)


@pytest.fixture
def images() -> torch.Tensor:
    return random_images(12)


def functional():
    return torchvision().transforms.functional


def v2():
    torchvision()
    from torchvision.transforms import v2

    return v2


@pytest.mark.parametrize("options", [{}, AFFINE, COLOR, BLUR, ALL])
def test_shape_dtype_and_range(images, options, device):
    views = Augmentation(**options)(images.to(device), 0, ViewRng.seeded(0, 12, device))
    assert views.shape == images.shape
    assert views.dtype == torch.float32
    assert views.min() >= -1e-3
    assert views.max() <= 255 + 1e-3


def test_everything_off_changes_nothing(images):
    assert torch.equal(Augmentation()(images, 0, ViewRng.seeded(0, len(images))), images.float())


@pytest.mark.parametrize("options", [AFFINE, COLOR, BLUR, ALL])
def test_the_generator_decides_everything(images, options):
    augment = Augmentation(**options)
    first = augment(images, 0, ViewRng.seeded(3, 12))
    torch.manual_seed(99)
    assert torch.equal(augment(images, 0, ViewRng.seeded(3, 12)), first)
    assert not torch.equal(augment(images, 0, ViewRng.seeded(4, 12)), first)


@pytest.mark.parametrize("options", [AFFINE, COLOR])
def test_each_image_has_its_own_parameters(images, options):
    same = images[:1].expand(12, -1, -1, -1)
    views = Augmentation(**options)(same, 0, ViewRng.seeded(0, 12))
    assert len({view.numpy().tobytes() for view in views}) == 12


@pytest.mark.parametrize("name", ["crop", "zoom", "stretch", "degrees", "shear", "translate", "jitter", "flip", "blur"])
def test_each_option_alone_changes_the_images(images, name):
    alone = Augmentation(**{name: ALL[name]}, blur_kernel=5)
    assert not torch.equal(alone(images, 0, ViewRng.seeded(0, 12)), images.float())


def test_what_happens_to_an_image_does_not_depend_on_who_shares_the_work(images):
    """Two processes with halves of the step make the views that one process makes."""
    augment = Augmentation(**ALL)
    whole, halves = ViewRng.seeded(0, 12), [ViewRng.seeded(0, 12), ViewRng.seeded(0, 12)]
    for view in range(2):
        expected = augment(images, view, whole)
        found = []
        for half, draws in enumerate(halves):
            draws.rows = slice(6 * half, 6 * half + 6)
            found.append(augment(images[draws.rows], view, draws))
        torch.testing.assert_close(torch.cat(found), expected, atol=1e-3, rtol=0)


def test_the_second_view_is_jittered_less(images):
    augment = Augmentation(jitter=(0.4, 0.0, 0.0, 0.0), second_view=0.5)
    first, second = ((augment(images, view, ViewRng.seeded(0, 12)) - images).abs().mean() for view in (0, 1))
    assert second < 0.7 * first


def test_views_of_another_size_and_clean_ones(images):
    """A clean view is the image itself, reduced or enlarged as torchvision does it."""
    augment = Augmentation(**{**ALL, "size": 24, "clean": (1,)})
    assert augment(images, 0, ViewRng.seeded(0, 12)).shape == (12, 3, 24, 24)
    for size in (11, 24):
        clean = Augmentation(**{**ALL, "size": size, "clean": (1,)})(images, 1, ViewRng.seeded(0, 12))
        theirs = functional().resize(images.float(), [size, size], antialias=True)
        torch.testing.assert_close(clean, theirs, atol=1e-2, rtol=0)
    assert torch.equal(Augmentation(clean=(0,), flip=1.0)(images, 0, ViewRng.seeded(0, 12)), images.float())


def test_affine_maps_stay_in_their_ranges():
    """Recover zoom, stretch, rotation and shear from the maps by a QR decomposition of their inverse."""
    augment = Augmentation(**AFFINE)
    maps = augment._affine_maps(ViewRng.seeded(0, 20_000)).double()
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
    many = augment(image.expand(4000, -1, -1, -1), 0, ViewRng.seeded(0, 4000))
    maps = augment._affine_maps(ViewRng.seeded(0, 4000))
    turned = maps[:, 1, 0].argmax()  # the largest sine
    np.testing.assert_allclose(many[turned].numpy(), np.rot90(image[0].numpy(), 1, (1, 2)), atol=0.5)


@pytest.mark.parametrize("size", [(16, 16), (7, 5), (40, 20)])
def test_resized_crop_is_torchvisions(images, size):
    """Antialiased, the pixels outside the box unseen, enlarged and reduced; mirrored where it is asked for."""
    boxes = crop_boxes(16, 16, (0.2, 1.0), ViewRng.seeded(0, 12))
    mirrored = torch.arange(12) % 3 == 0
    ours = resized_crop(images.float(), boxes, size, mirrored)
    for image, view, box, turned in zip(images, ours, boxes.int().tolist(), mirrored, strict=True):
        theirs = functional().resized_crop(image.float(), *box, size=list(size), antialias=True)
        torch.testing.assert_close(view, theirs.flip(2) if turned else theirs, atol=1e-2, rtol=0)


@pytest.mark.parametrize(("height", "width", "scale"), [(32, 32, (0.2, 1.0)), (24, 40, (0.6, 1.0))])
def test_crop_boxes_have_torchvisions_distribution(height, width, scale):
    boxes = crop_boxes(height, width, scale, ViewRng.seeded(0, 4000)).numpy()
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
    boxes = crop_boxes(10, 40, (1.0, 1.0), ViewRng.seeded(0, 5))
    assert torch.equal(boxes, torch.tensor([[0.0, 14.0, 10.0, 13.0]]).expand(5, 4))


def test_hue_shift_is_torchvisions(images):
    """For random colours, greys, and colours with two equal channels."""
    corners = torch.tensor(list(itertools.product([0.0, 0.5, 1.0], repeat=3))).view(27, 3, 1, 1).expand(-1, -1, 16, 16)
    pixels = torch.cat([images.float() / 255, corners])
    for turns in (-0.5, -0.13, 0.0, 0.4):
        ours = shift_hue(255 * pixels, torch.tensor(turns)) / 255
        torch.testing.assert_close(ours, functional().adjust_hue(pixels, turns), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("channel", "operation"), [(0, "adjust_brightness"), (1, "adjust_contrast"), (2, "adjust_saturation")]
)
def test_each_jitter_is_torchvisions_with_a_factor_from_its_range(images, channel, operation):
    strengths = [0.4 * (other == channel) for other in range(4)]
    jittered = color_jitter(images.float(), strengths, ViewRng.seeded(0, 12)) / 255
    factors = 1 + 0.4 * ViewRng.seeded(0, 12).uniform(4, -1, 1)[channel]
    for image, view, factor in zip(images.float() / 255, jittered, factors, strict=True):
        expected = getattr(functional(), operation)(image, factor.item())
        torch.testing.assert_close(view, expected, atol=1e-4, rtol=0)


def test_jitter_comes_in_a_random_order(images):
    """Brightness before contrast and contrast before brightness both occur, and nothing else does."""
    pixels, seen = images.float() / 255, []
    for seed in range(20):
        brightness, contrast = 1 + 0.4 * ViewRng.seeded(seed, 12).uniform(4, -1, 1)[:2]
        operations = [("adjust_brightness", brightness), ("adjust_contrast", contrast)]
        jittered = color_jitter(255 * pixels, (0.4, 0.4, 0.0, 0.0), ViewRng.seeded(seed, 12)) / 255
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


@pytest.mark.parametrize("kernel", [5, 23])
def test_blur_is_torchvisions(kernel):
    images = random_images(6, 24).float()
    sigmas = torch.tensor([0.1, 0.4, 0.8, 1.3, 2.0, 0.0])
    for image, blurred, sigma in zip(images, gaussian_blur(images, sigmas, kernel), sigmas, strict=True):
        theirs = functional().gaussian_blur(image, [kernel, kernel], [sigma.item()] * 2) if sigma else image
        torch.testing.assert_close(blurred, theirs, atol=1e-2, rtol=0)
    with pytest.raises(InputError, match=r"blur_kernel=49 is too wide for images of 24x24 pixels: at most 47"):
        gaussian_blur(images, sigmas, 49)


@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({"crop": (0.2, 1.0)}, lambda: v2().RandomResizedCrop(12, (0.2, 1.0), antialias=True)),
        ({"jitter": (0.4, 0.0, 0.0, 0.0)}, lambda: v2().ColorJitter(brightness=0.4)),
        ({"jitter": (0.0, 0.4, 0.0, 0.0)}, lambda: v2().ColorJitter(contrast=0.4)),
        ({"jitter": (0.0, 0.0, 0.4, 0.0)}, lambda: v2().ColorJitter(saturation=0.4)),
        ({"jitter": (0.0, 0.0, 0.0, 0.4)}, lambda: v2().ColorJitter(hue=0.4)),
        (
            {"jitter": (0.4, 0.0, 0.0, 0.0), "jitter_chance": 0.8},
            lambda: v2().RandomApply([v2().ColorJitter(brightness=0.4)], 0.8),
        ),
        ({"grayscale": 0.2}, lambda: v2().RandomGrayscale(0.2)),
        ({"flip": 0.3}, lambda: v2().RandomHorizontalFlip(0.3)),
        (
            {"blur": 0.5, "blur_kernel": 5},
            lambda: v2().RandomApply([v2().GaussianBlur(5, (0.1, 2.0))], 0.5),
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_views_are_distributed_as_torchvisions(options, theirs):
    """One pixel of many views of one image: Kolmogorov and Smirnov tell no difference."""
    image = random_images(1, 12)
    ours = Augmentation(**options)(image.expand(3000, -1, -1, -1), 0, ViewRng.seeded(0, 3000))[:, 0, 4, 7] / 255
    torch.manual_seed(1)
    transform = theirs()
    views = torch.stack([transform(image[0].float() / 255)[0, 4, 7] for _ in range(1500)])
    assert stats.ks_2samp(ours.round(decimals=4), views.round(decimals=4)).pvalue > 1e-3


def test_grey_comes_before_or_after_the_jitter(images):
    """Hue moves only what still has colour: turned before it is lost, red becomes a darker or lighter grey."""
    options = {"grayscale": 1.0, "jitter": (0.0, 0.0, 0.0, 0.4)}
    first = Augmentation(**options, grayscale_first=True)(images, 0, ViewRng.seeded(0, 12))
    last = Augmentation(**options, grayscale_first=False)(images, 0, ViewRng.seeded(0, 12))
    torch.testing.assert_close(first, luma(images.float()).expand(-1, 3, -1, -1), atol=1e-3, rtol=0)
    assert torch.equal(last[:, 0], last[:, 1])
    assert not torch.allclose(last, first, atol=1)
    torch.testing.assert_close(luma(images.float()), functional().rgb_to_grayscale(images.float()), atol=0.1, rtol=0)


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
        {"jitter_chance": -0.1},
        {"size": 4},
        {"blur": 2.0},
        {"blur_kernel": 4},
        {"blur_sigma": (0.0, 1.0)},
        {"clean": (-1,)},
    ],
)
def test_values_outside_their_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Augmentation(**wrong)
