"""What an encoder has to beat: the pixels, their principal components, and a network that has learned nothing."""

from __future__ import annotations

import hashlib

import numpy as np
import scipy.linalg
import torch

from shiftbench.encoders.backbones import build_backbone
from shiftbench.encoders.base import Encoder, module_encoder
from shiftbench.encoders.preprocess import Preprocess, normalisation
from shiftbench.errors import InputError
from shiftbench.images import Images, chunks, take
from shiftbench.records import images_digest

DEFAULT_BACKBONE = "small_cnn"
PCA_IMAGES = 10_000  # images that pca is fitted on, evenly spaced over the training split
PCA_SIZE = 32  # side in pixels of the images that pca is fitted on


def pixels(location: str, *, device: torch.device) -> Encoder:
    """Raw pixels: uint8 (N, 3, H, W) -> float32 (N, 3*H*W) on the 0..1 scale.

    Args:
        location: must be empty; pixels have no weights.
        device: unused, since nothing is computed.

    Examples:
        >>> pixels("", device=torch.device("cpu"))(torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)).unique()
        tensor([1.])
    """
    if location:
        raise InputError(f"pixels takes nothing behind a colon, got {location!r}.")
    fingerprint = hashlib.sha256(b"pixels, 0..1, flattened").hexdigest()
    return Encoder("pixels", lambda images: {"backbone": images.flatten(1).float() / 255}, fingerprint=fingerprint)


def random(location: str, *, device: torch.device, seed: str | int = 0, norm: str = "half") -> Encoder:
    """An untrained backbone with its usual initialisation.

    Args:
        location: a backbone's name; empty takes the small CNN.
        device: where it runs.
        seed: of the initialisation.
        norm: input normalisation, a name of ``NORMS``.

    Examples:
        >>> random("small_cnn", device=torch.device("cpu"), seed=1).name
        'random:small_cnn'
    """
    name = location or DEFAULT_BACKBONE
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        backbone = build_backbone(name)
    origin = {"backbone": name, "seed": int(seed), "norm": norm}
    return module_encoder(f"random:{name}", backbone, Preprocess(*normalisation(norm)), device=device, origin=origin)


class PixelPCA(Encoder):
    """The first principal components of the pixels: uint8 (N, 3, H, W) -> float32 (N, K); see :func:`pca`.

    Examples:
        >>> images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 3, 8, 8)
        >>> PixelPCA(components=1, size=8).fit(images)(images).shape
        torch.Size([10, 1])
    """

    needs_fit = True

    def __init__(self, components: int, size: int = PCA_SIZE) -> None:
        super().__init__(f"pca:{components}", self._sources, fingerprint="")
        self.components = components
        self._resize = Preprocess((0.0,) * 3, (1.0,) * 3, size)
        self._mean, self._axes = torch.empty(0), torch.empty(0)
        self._fingerprint = self._digest(b"")
        self.origin = {"preprocess": self._resize.describe()}

    def fit(self, images: Images) -> PixelPCA:
        """Find the components of up to 10,000 clean training images uint8 (N, 3, H, W), evenly spaced.

        The signs are such that the largest weight of each component is positive.

        Raises:
            InputError: fewer images or pixels than components.
        """
        rows = np.unique(np.linspace(0, len(images) - 1, min(PCA_IMAGES, len(images))).round().astype(np.int64))
        chosen = take(images, rows)  # files stay files
        dimensions = 3 * (self._resize.size or 0) ** 2
        if self.components > min(len(rows) - 1, dimensions):
            raise InputError(
                f"{self.name}: {len(rows)} images of {dimensions} values have at most "
                f"{min(len(rows) - 1, dimensions)} components."
            )
        total, products = torch.zeros(dimensions, dtype=torch.float64), torch.zeros(dimensions, dimensions)
        centre = self._flat(chosen[: min(500, len(rows))]).mean(
            0
        )  # near the mean, so that float32 products are exact enough
        for _, chunk in chunks(chosen, 500):
            values = self._flat(chunk) - centre
            total += values.double().sum(0)
            products += values.T @ values
        shift = total / len(rows)
        covariance = products.double() / len(rows) - torch.outer(shift, shift)
        top = (dimensions - self.components, dimensions - 1)
        _, axes = scipy.linalg.eigh(covariance.numpy(), subset_by_index=top, overwrite_a=True, check_finite=False)
        axes = axes[:, ::-1]  # the largest variance first
        axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(self.components)])
        self._mean, self._axes = centre + shift.float(), torch.from_numpy(np.ascontiguousarray(axes, np.float32))
        self._fingerprint = self._digest(images_digest(chosen))
        return self

    def _sources(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        if not len(self._axes):
            raise InputError(f"{self.name} is made of clean training images: call its fit(images) first.")
        return {"backbone": (self._flat(images) - self._mean) @ self._axes}

    def _flat(self, images: torch.Tensor) -> torch.Tensor:
        resized: torch.Tensor = self._resize(images)
        return resized.flatten(1)

    def _digest(self, data: bytes) -> str:
        return hashlib.sha256(f"pca {self.components} {self._resize.describe()}".encode() + data).hexdigest()


def pca(location: str, *, device: torch.device, size: str | int = PCA_SIZE) -> Encoder:
    """Principal components of the pixels, fitted on the clean training split of the data set that is scored.

    Args:
        location: K, the number of components.
        device: unused; this runs on the CPU.
        size: side to which images are resized first, 8 to 64 pixels.

    Raises:
        InputError: K or size is not such a number.

    Examples:
        >>> pca("64", device=torch.device("cpu")).name
        'pca:64'
    """
    if not location.isdigit() or int(location) < 1:
        raise InputError(f"pca:{location}: a number of components is needed, pca:64.")
    if not str(size).isdigit() or not 8 <= int(size) <= 64:
        raise InputError(f"size={size}: a whole number of pixels, 8 to 64, is needed.")
    return PixelPCA(int(location), int(size))
