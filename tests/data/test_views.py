"""Augmented views: small changes, seeded by position."""

import pytest
import torch

from shiftbench.data.views import augmented

IMAGES = torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
INDEX = torch.arange(6)


def test_a_view_depends_on_position_view_and_seed_alone(device):
    images = IMAGES.to(device)
    whole = augmented(images, INDEX, view=0)
    parts = torch.cat([augmented(images[:2], INDEX[:2], view=0), augmented(images[2:], INDEX[2:], view=0)])
    assert whole.dtype == torch.uint8
    assert whole.shape == IMAGES.shape
    assert torch.equal(whole, parts)
    assert not torch.equal(whole, augmented(images, INDEX, view=1))
    assert not torch.equal(whole, augmented(images, INDEX, view=0, seed=1))
    assert not torch.equal(whole[0], augmented(images[:1], torch.tensor([5]), view=0)[0])


def test_views_are_crops_of_the_image_in_another_light():
    ramp = torch.arange(32).repeat(32, 1) * 4 + 40
    images = ramp.expand(50, 3, 32, 32).to(torch.uint8)
    seen = augmented(images, torch.arange(50), view=0).float()
    columns = seen[:, 0].mean(dim=1)
    assert (columns[:, 1:] >= columns[:, :-1]).all()  # not mirrored
    spread = (columns[:, -1] - columns[:, 0]) / columns.mean(dim=1)
    whole = (ramp[0, -1] - ramp[0, 0]) / ramp[0].float().mean()
    assert (spread <= whole * 1.15).all()
    assert (spread >= whole * 0.5).all()
    light = seen.mean(dim=(1, 2, 3)) / images.float().mean()
    assert light.min() < 0.9
    assert light.max() > 1.1


@pytest.mark.parametrize("value", [0, 255])
def test_flat_images_stay_in_range(value):
    seen = augmented(torch.full((4, 3, 8, 8), value, dtype=torch.uint8), torch.arange(4), view=0)
    assert ((seen == 0).all() and value == 0) or (seen >= 0.8 * 255 - 1).all()
