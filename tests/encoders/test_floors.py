"""The floors: pixels, their principal components, an untrained network."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from shiftbench.encoders.load import load_encoder
from shiftbench.errors import InputError
from shiftbench.images import ImageFiles


@pytest.fixture(scope="module")
def images():
    """60 images with structure: sums of a few random pictures."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(12, 3, 8, 8, generator=generator)
    weights = torch.rand(60, 12, generator=generator) ** 3
    mixed = torch.einsum("nk,kchw->nchw", weights / weights.sum(1, keepdim=True), pictures)
    return (mixed * 255).round().to(torch.uint8)


def test_pixels_are_the_pixels(images):
    features = load_encoder("pixels")(images)
    np.testing.assert_allclose(features, images.numpy().reshape(60, -1) / 255, rtol=1e-6)


def test_random_is_seeded_and_leaves_the_global_generator_alone():
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, two, other = load_encoder("random"), load_encoder("random"), load_encoder("random?seed=1")
    assert torch.equal(before, torch.get_rng_state())
    assert one.fingerprint == two.fingerprint != other.fingerprint
    assert torch.equal(one(images), two(images))
    assert not torch.equal(one(images), other(images))


def test_pca_is_scikit_learns(images):
    encoder = load_encoder("pca:5?size=8")
    assert encoder.needs_fit
    assert encoder.fit(images[:50]) is encoder
    values = images.flatten(1).double().numpy() / 255
    reference = PCA(5, svd_solver="full").fit(values[:50])
    found, wanted = encoder(images).numpy(), reference.transform(values)
    signs = np.sign((found * wanted).sum(0))
    np.testing.assert_allclose(found, wanted * signs, atol=1e-5)
    largest = encoder._axes.numpy()[np.abs(encoder._axes.numpy()).argmax(0), np.arange(5)]
    assert (largest > 0).all()


def test_pca_resizes_and_is_fitted_anew_for_other_data(images):
    encoder = load_encoder("pca:5").fit(images)
    assert encoder(images).shape == (60, 5)
    assert encoder._axes.shape == (3 * 32 * 32, 5)
    first, print_first = encoder(images), encoder.fingerprint
    assert load_encoder("pca:5").fit(images).fingerprint == print_first
    encoder.fit(images[:40])
    assert encoder.fingerprint != print_first
    assert not torch.allclose(encoder(images), first)
    assert load_encoder("pca:4").fit(images).fingerprint != print_first
    assert load_encoder("pca:5?size=16").fit(images).fingerprint != print_first


def test_pca_of_images_in_files(images, tmp_path):
    files = [tmp_path / f"{index}.png" for index in range(60)]
    for file in files:
        file.touch()
    decoded = ImageFiles(files, 8, lambda file, size: images[int(file.stem)].permute(1, 2, 0).numpy())
    found = load_encoder("pca:3?size=8").fit(decoded)(images)
    torch.testing.assert_close(found, load_encoder("pca:3?size=8").fit(images)(images))


def test_a_choice_of_feature_is_fitted_too(images):
    encoder = load_encoder("pca:3?size=8&l2=true")
    encoder.fit(images)
    assert encoder.feature_names == ("backbone+l2",)
    torch.testing.assert_close(encoder(images).norm(dim=1), torch.ones(60))


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("pixels:3", "takes nothing"),
        ("pca", "a number of components is needed"),
        ("pca:0", "a number of components is needed"),
        ("pca:x", "a number of components is needed"),
        ("pca:3?size=4", "size=4"),
        ("random:resnet999", "Unknown backbone"),
    ],
)
def test_floors_that_cannot_be(uri, message):
    with pytest.raises(InputError, match=message):
        load_encoder(uri)


def test_pca_says_what_it_needs(images):
    with pytest.raises(InputError, match=r"call its fit\(images\) first"):
        load_encoder("pca:3")(images)
    with pytest.raises(InputError, match="60 images of 192 values have at most 59 components"):
        load_encoder("pca:60?size=8").fit(images)
